//! The edge to NVRTC, NVIDIA's run-time compiler: source to PTX for a virtual architecture, or to machine code for a real one.
//! Called when a device is opened, and by tests on machines without any.
//!
//! Loaded by path and by hand: the CUDA crate finds its library by name alone, would take another release's from the
//! search path, and panics where there is none.

use std::{
    ffi::{CStr, CString, c_char, c_int},
    fmt,
    path::{Path, PathBuf},
    ptr,
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::{
    error::KernelError,
    source::{OPTIONS, Source},
};

type Program = *mut std::ffi::c_void;
type Code = c_int;

/// What `nvrtcCompileProgram` answers when the source is wrong.
const COMPILATION: Code = 6;

/// A loaded NVRTC. Its functions may be called from any thread.
pub struct Compiler {
    functions: Functions,
    version: (c_int, c_int),
    architectures: Vec<u32>,
    /// Last, so that nothing above outlives it.
    _libraries: Vec<Library>,
}

/// What a compilation gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// PTX for a virtual architecture (90: `compute_90`); the driver of any newer device can load it.
    Ptx(u32),
    /// Machine code for one real architecture (90: `sm_90`).
    Cubin(u32),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ptx(architecture) => write!(f, "compute_{architecture}"),
            Self::Cubin(architecture) => write!(f, "sm_{architecture}"),
        }
    }
}

impl fmt::Debug for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compiler(NVRTC {}.{})", self.version.0, self.version.1)
    }
}

macro_rules! functions {
    ($($name:ident: $symbol:literal fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// NVRTC's functions that are used, with their documented signatures.
        #[derive(Clone, Copy)]
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            fn of(library: &Library, path: &Path) -> Result<Self, KernelError> {
                $(
                    // SAFETY: the symbol has that signature since NVRTC 11.
                    let $name = *unsafe { library.get($symbol.as_bytes()) }.map_err(|source| {
                        KernelError::Symbol { library: path.to_owned(), symbol: $symbol, source }
                    })?;
                )*
                Ok(Self { $($name,)* })
            }
        }
    };
}

functions! {
    version: "nvrtcVersion" fn(*mut c_int, *mut c_int) -> Code;
    count: "nvrtcGetNumSupportedArchs" fn(*mut c_int) -> Code;
    architectures: "nvrtcGetSupportedArchs" fn(*mut c_int) -> Code;
    text: "nvrtcGetErrorString" fn(Code) -> *const c_char;
    create: "nvrtcCreateProgram" fn(*mut Program, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char) -> Code;
    compile: "nvrtcCompileProgram" fn(Program, c_int, *const *const c_char) -> Code;
    log_len: "nvrtcGetProgramLogSize" fn(Program, *mut usize) -> Code;
    log: "nvrtcGetProgramLog" fn(Program, *mut c_char) -> Code;
    ptx_len: "nvrtcGetPTXSize" fn(Program, *mut usize) -> Code;
    ptx: "nvrtcGetPTX" fn(Program, *mut c_char) -> Code;
    cubin_len: "nvrtcGetCUBINSize" fn(Program, *mut usize) -> Code;
    cubin: "nvrtcGetCUBIN" fn(Program, *mut c_char) -> Code;
    destroy: "nvrtcDestroyProgram" fn(*mut Program) -> Code;
}

impl Compiler {
    /// Loads `libnvrtc.so` and what lies beside it.
    ///
    /// # Errors
    /// When it is not there, or is no NVRTC of 11 or later.
    pub fn load(library: &Path) -> Result<Self, KernelError> {
        let open = |path: &Path| {
            // SAFETY: NVIDIA's libraries have no initialisers that matter.
            unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
        };
        // NVRTC opens its built-ins by name and looks only in the system's folders: those beside it are loaded beforehand.
        let mut libraries: Vec<Library> = beside(library).iter().filter_map(|path| open(path).ok()).collect();
        let main = open(library).map_err(|source| KernelError::Compiler { library: library.to_owned(), source })?;
        let functions = Functions::of(&main, library)?;
        libraries.push(main);
        let mut compiler = Self { functions, version: (0, 0), architectures: Vec::new(), _libraries: libraries };
        // SAFETY: pointers to what the functions write.
        unsafe {
            let (mut major, mut minor, mut count) = (0, 0, 0);
            compiler.check("say its version", (functions.version)(&mut major, &mut minor))?;
            compiler.check("count its architectures", (functions.count)(&mut count))?;
            let mut all: Vec<c_int> = vec![0; count.max(0) as usize];
            compiler.check("list its architectures", (functions.architectures)(all.as_mut_ptr()))?;
            compiler.version = (major, minor);
            compiler.architectures =
                all.into_iter().filter_map(|architecture| u32::try_from(architecture).ok()).collect();
        }
        compiler.architectures.sort_unstable();
        Ok(compiler)
    }

    /// Major and minor.
    #[must_use]
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// What it can compile for, ascending: 90 is `compute_90`.
    #[must_use]
    pub fn architectures(&self) -> &[u32] {
        &self.architectures
    }

    /// Compiles with [`OPTIONS`].
    ///
    /// # Errors
    /// The source's mistakes, with file and line; or NVRTC's own trouble.
    pub fn compile(&self, source: &Source, target: Target) -> Result<Vec<u8>, KernelError> {
        let f = &self.functions;
        let [text, name] = [source.text, source.name].map(c_string);
        let headers: Vec<CString> = source.headers.iter().map(|(_, text)| c_string(text)).collect();
        let names: Vec<CString> = source.headers.iter().map(|(name, _)| c_string(name)).collect();
        let options: Vec<CString> = options(target).iter().map(|option| c_string(option)).collect();
        let pointers = |strings: &[CString]| -> Vec<*const c_char> { strings.iter().map(|s| s.as_ptr()).collect() };
        let (headers_at, names_at, options_at) = (pointers(&headers), pointers(&names), pointers(&options));

        let mut program = Destroyed { program: ptr::null_mut(), destroy: f.destroy };
        // SAFETY: all strings live until the end of this function; buffers have the length that NVRTC asked for.
        unsafe {
            let count = headers.len() as c_int;
            let made = (f.create)(
                &mut program.program,
                text.as_ptr(),
                name.as_ptr(),
                count,
                headers_at.as_ptr(),
                names_at.as_ptr(),
            );
            self.check("take the source", made)?;
            let program = program.program;
            let compiled = (f.compile)(program, options.len() as c_int, options_at.as_ptr());
            if compiled == COMPILATION {
                let log = self.taken(program, "give its log", f.log_len, f.log)?;
                let log = String::from_utf8_lossy(&log).trim_end_matches(['\0', '\n']).to_owned();
                return Err(KernelError::Source {
                    file: source.name.to_owned(),
                    architecture: target.to_string(),
                    log,
                });
            }
            self.check("compile", compiled)?;
            match target {
                Target::Ptx(_) => {
                    let mut ptx = self.taken(program, "give PTX", f.ptx_len, f.ptx)?;
                    // It counts the end of the string.
                    while ptx.last() == Some(&0) {
                        ptx.pop();
                    }
                    Ok(ptx)
                }
                Target::Cubin(_) => self.taken(program, "give machine code", f.cubin_len, f.cubin),
            }
        }
    }

    /// # Safety
    /// The functions are a length's and its content's of this program.
    unsafe fn taken(
        &self,
        program: Program,
        action: &'static str,
        length: unsafe extern "C" fn(Program, *mut usize) -> Code,
        content: unsafe extern "C" fn(Program, *mut c_char) -> Code,
    ) -> Result<Vec<u8>, KernelError> {
        let mut len = 0;
        // SAFETY: the caller's promise.
        self.check(action, unsafe { length(program, &mut len) })?;
        let mut bytes = vec![0_u8; len];
        // SAFETY: likewise, and the buffer is as long as was asked for.
        self.check(action, unsafe { content(program, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }

    fn check(&self, action: &'static str, code: Code) -> Result<(), KernelError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: NVRTC gives a static string for every code.
        let text = unsafe {
            let text = (self.functions.text)(code);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        Err(KernelError::Nvrtc { action, code, text })
    }
}

/// A program that is destroyed however its compilation ends.
struct Destroyed {
    program: Program,
    destroy: unsafe extern "C" fn(*mut Program) -> Code,
}

impl Drop for Destroyed {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: made by `nvrtcCreateProgram`, destroyed once.
            unsafe { (self.destroy)(&mut self.program) };
        }
    }
}

/// Everything that changes what comes out.
pub(crate) fn options(target: Target) -> Vec<String> {
    let architecture = format!("--gpu-architecture={target}");
    OPTIONS.iter().map(|&option| option.to_owned()).chain([architecture]).collect()
}

/// The newest architecture offered that a device of this compute capability can run.
///
/// # Errors
/// When there is none.
pub fn architecture_for([major, minor]: [u32; 2], offered: &[u32]) -> Result<u32, KernelError> {
    let own = 10 * major + minor;
    let runs = offered.iter().copied().filter(|&architecture| architecture <= own);
    runs.max().ok_or_else(|| KernelError::Architecture { major, minor, offered: offered.to_vec() })
}

/// The built-ins of an NVRTC in its own folder.
fn beside(library: &Path) -> Vec<PathBuf> {
    let folder = library.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let is_builtins = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libnvrtc-builtins.so")
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_builtins).collect();
    found.sort_unstable();
    found
}

/// Our own sources and options have no zero byte.
fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_gets_the_newest_architecture_that_it_can_run() {
        let offered = [75, 80, 86, 87, 89, 90, 100, 120];
        for (capability, expected) in
            [([7, 5], 75), ([8, 0], 80), ([8, 7], 87), ([9, 0], 90), ([10, 3], 100), ([13, 0], 120)]
        {
            assert_eq!(architecture_for(capability, &offered).unwrap(), expected, "{capability:?}");
        }
        let error = architecture_for([6, 1], &offered).unwrap_err();
        assert!(error.to_string().contains("compute capability 6.1 can run (only [75, 80"), "{error}");
    }
}
