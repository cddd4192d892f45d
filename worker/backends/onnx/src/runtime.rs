//! The ONNX Runtime library: found by the caller, loaded once a process, and named by everything about it that can
//! change bits.

use std::{
    ffi::CStr,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use fulltime_backend::{BackendError, Gpu};
use ort::{environment::Environment, session::builder::SessionBuilder};
use sha2::{Digest as _, Sha256};

use crate::{NoProvider, Provider, ProviderOptions};

/// A loaded ONNX Runtime with its provider. Cheap to clone; a process holds at most one.
#[derive(Clone)]
pub struct Runtime(Arc<Loaded>);

struct Loaded {
    library: Arc<Library>,
    engine: String,
    options: ProviderOptions,
    provider: Provider,
    /// Why `auto` has not become CUDA.
    why_not: Option<BackendError>,
}

/// The library, whatever it computes with.
struct Library {
    path: PathBuf,
    version: String,
    build: String,
    environment: Environment,
}

/// ort allows one environment a process, so it is kept here for good, whether a provider was found or not.
static LIBRARY: Mutex<Option<Arc<Library>>> = Mutex::new(None);
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the library and finds its provider, or hands out what this process has loaded already.
    ///
    /// # Errors
    /// When the file is missing, no ONNX Runtime or too old, has not the provider that is asked for, or when another library
    /// or provider has been loaded before.
    pub fn load(library: &Path, options: &ProviderOptions) -> Result<Self, BackendError> {
        let mut slot = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let library = Library::load(library)?;
        if let Some(runtime) = &*slot {
            if runtime.0.options != *options {
                let name = |options: &ProviderOptions| {
                    format!("{} with provider={}", show(&library.path), options.provider.name())
                };
                return Err(BackendError::RuntimeTaken { wanted: name(options), loaded: name(&runtime.0.options) });
            }
            return Ok(runtime.clone());
        }
        let Library { path, version, build, environment } = &*library;
        let (provider, why_not) = options.choose(environment, &show(path))?;
        let engine = match provider {
            Provider::Auto | Provider::Cpu => format!("onnx-cpu-{version}-{build}-{}", instruction_set()),
            Provider::Cuda | Provider::TensorRt => {
                let gpu = Gpu::find(options.device)
                    .map_err(|error| BackendError::Runtime { library: show(path), source: error.into() })?
                    .class();
                format!("onnx-{}-{version}-{build}-{gpu}-{}", provider.name(), options.class(provider))
            }
        };
        let runtime = Self(Arc::new(Loaded { library, engine, options: options.clone(), provider, why_not }));
        *slot = Some(runtime.clone());
        Ok(runtime)
    }

    /// The engine class: provider, version and first 32 bits of the digest of the library, instruction set, as in
    /// `onnx-cpu-1.32.0-5e0d4a11-avx2`, or on a GPU its name, capability, driver and the options,
    /// `onnx-cuda-1.32.0-5e0d4a11-nvidia-l4-sm89-580.95.05-fp32`. Builds of one version by different compilers differ in bits, hence the digest.
    #[must_use]
    pub fn engine_class(&self) -> &str {
        &self.0.engine
    }

    /// `major.minor.patch`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.0.library.version
    }

    /// What sessions run on.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.0.provider
    }

    /// Why `provider=auto` has become the CPU; for one line in the log.
    #[must_use]
    pub fn why_not(&self) -> Option<&BackendError> {
        self.0.why_not.as_ref()
    }

    pub(crate) fn device(&self) -> i32 {
        i32::try_from(self.0.options.device).unwrap_or(i32::MAX)
    }

    /// Adds the provider to a session.
    pub(crate) fn register(
        &self,
        builder: SessionBuilder,
        input: &str,
        item: &[usize],
    ) -> Result<SessionBuilder, BackendError> {
        let provider = self.0.provider;
        self.0.options.register(builder, provider, input, item).map_err(|message| {
            let source = NoProvider::NotLoaded { provider: provider.name(), message };
            BackendError::Runtime { library: show(&self.0.library.path), source: source.into() }
        })
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.0.library.environment
    }
}

impl Library {
    /// Loads it, or hands out the one that this process has loaded already.
    fn load(path: &Path) -> Result<Arc<Self>, BackendError> {
        let mut slot = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = &*slot {
            if library.path != path {
                return Err(BackendError::RuntimeTaken { wanted: show(path), loaded: show(&library.path) });
            }
            return Ok(library.clone());
        }
        let failed = |source| BackendError::Runtime { library: show(path), source };
        let version = version_of(path)?;
        let build = build_of(path).map_err(|error| failed(error.into()))?;
        let environment = ort::init_from(path)
            .map_err(|error| failed(error.into()))?
            .with_name("fulltime")
            .build()
            .map_err(|error| failed(error.into()))?;
        let library = Arc::new(Self { path: path.to_owned(), version, build, environment });
        *slot = Some(library.clone());
        Ok(library)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("library", &self.0.library.path).field("engine", &self.0.engine).finish()
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// Asks the library itself. ort would too, but panics at what is not an ONNX Runtime.
fn version_of(library: &Path) -> Result<String, BackendError> {
    let failed = |source| BackendError::Runtime { library: show(library), source };
    // SAFETY: ONNX Runtime's initialisers make no demands on the caller.
    let loaded = unsafe { libloading::Library::new(library) }.map_err(|error| failed(error.into()))?;
    // SAFETY: `OrtGetApiBase` has had this type in every release.
    let base = unsafe { loaded.get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase") }
        .map_err(|error| failed(error.into()))?;
    // SAFETY: it takes nothing and returns a pointer to a static table or null; the version is a static C string.
    let text = unsafe { base().as_ref().map(|base| CStr::from_ptr((base.GetVersionString)())) };
    let version = text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
    // ort loads it again right away: unloading in between would only run its initialisers twice.
    std::mem::forget(loaded);
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    if minor.is_none_or(|minor| minor < ort::MINOR_VERSION) {
        let needed = format!("1.{}", ort::MINOR_VERSION);
        return Err(BackendError::RuntimeTooOld { library: show(library), found: version, needed });
    }
    Ok(version)
}

fn build_of(library: &Path) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut std::fs::File::open(library)?, &mut HashWriter(&mut hasher))?;
    Ok(hasher.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect())
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The level that ONNX Runtime's f32 kernels choose their code by (`MLAS_PLATFORM` in its sources).
fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        match () {
            () if has!("avx512f") => "avx512",
            () if has!("avx2") && has!("fma") => "avx2",
            () if has!("avx") => "avx",
            () => "sse2",
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH
}
