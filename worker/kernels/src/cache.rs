//! Compiled kernels on disk, so that a lane process that starts does not compile what another has compiled.
//!
//! An entry's name is the digest of everything that it depends on, its last line the digest of its content. Entries are
//! renamed into place: whoever reads sees a whole one or none. A cache that cannot be used costs time, not a lane.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    error::KernelError,
    nvrtc::{Compiler, Target, options},
    source::Source,
};

/// A folder of compiled kernels. Any number of processes may share one.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

/// PTX and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ptx {
    pub text: String,
    pub compiled: bool,
}

const SEAL: &str = "// sha256 ";

impl Cache {
    /// The folder is made when something is stored.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The source's PTX for an architecture: from the cache, else compiled and stored.
    ///
    /// # Errors
    /// What the compiler fails with. Trouble with the disk is logged.
    pub fn ptx(&self, compiler: &Compiler, source: &Source, architecture: u32) -> Result<Ptx, KernelError> {
        let target = Target::Ptx(architecture);
        let path = self.folder.join(format!("{}.ptx", key(source, &options(target), compiler.version())));
        match fs::read_to_string(&path) {
            Ok(entry) => match unsealed(&entry) {
                Some(text) => return Ok(Ptx { text: text.to_owned(), compiled: false }),
                None => tracing::warn!(path = %path.display(), "compiled kernels are damaged, compiling them again"),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "compiled kernels cannot be read"),
        }
        let text = String::from_utf8_lossy(&compiler.compile(source, target)?).into_owned();
        if let Err(error) = self.store(&path, &text) {
            tracing::warn!(path = %path.display(), %error, "compiled kernels cannot be stored");
        }
        Ok(Ptx { text, compiled: true })
    }

    fn store(&self, path: &Path, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(sealed(text).as_bytes())?;
        file.persist(path)?;
        Ok(())
    }
}

/// Lengths go in, too, so that no two lists of texts run into one.
fn key(source: &Source, options: &[String], (major, minor): (i32, i32)) -> String {
    let version = format!("{major}.{minor}");
    let headers = source.headers.iter().flat_map(|&(name, text)| [name, text]);
    let options = options.iter().map(String::as_str);
    let mut hash = Sha256::new();
    for part in [source.name, source.text, &version].into_iter().chain(headers).chain(options) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize())
}

fn sealed(text: &str) -> String {
    format!("{text}\n{SEAL}{}\n", hex(&Sha256::digest(text.as_bytes())))
}

fn unsealed(entry: &str) -> Option<&str> {
    let (text, seal) = entry.strip_suffix('\n')?.rsplit_once('\n')?;
    (seal.strip_prefix(SEAL)? == hex(&Sha256::digest(text.as_bytes()))).then_some(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_was_cut_or_changed_is_none() {
        let entry = sealed(".version 9.0\n.target sm_90\n");
        assert_eq!(unsealed(&entry), Some(".version 9.0\n.target sm_90\n"));
        for cut in 0..entry.len() {
            assert_eq!(unsealed(&entry[..cut]), None, "{cut}");
        }
        assert_eq!(unsealed(&entry.replace("sm_90", "sm_89")), None);
    }

    #[test]
    fn whatever_changes_the_outcome_changes_the_name() {
        let source = Source { name: "a.cu", text: "x", headers: &[("b.h", "y")] };
        let options = options(Target::Ptx(90));
        let keys = [
            key(&source, &options, (13, 0)),
            key(&source, &options, (13, 1)),
            key(&source, &super::options(Target::Ptx(89)), (13, 0)),
            key(&source, &options[1..], (13, 0)),
            key(&Source { text: "xy", ..source }, &options, (13, 0)),
            key(&Source { headers: &[("b.h", "z")], ..source }, &options, (13, 0)),
            key(&Source { headers: &[("b.hy", "")], ..source }, &options, (13, 0)),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(one), "{i}");
        }
    }
}
