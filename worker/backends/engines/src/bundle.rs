//! TensorRT's cache is a folder of files with names of its own making; the store keeps it as one object: a line of JSON with
//! names and lengths, then the files one after the other.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::EngineError;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    files: BTreeMap<String, usize>,
}

/// The files of a folder as one object, by name: the same folder gives the same bytes.
///
/// # Errors
/// Files that cannot be read, and names that are not plain.
pub fn pack(folder: &Path) -> Result<Vec<u8>, EngineError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| EngineError::File { action, path, source }
    };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed("list", folder))? {
        let entry = entry.map_err(failed("list", folder))?;
        let plain = entry.file_type().is_ok_and(|kind| kind.is_file());
        let name = entry.file_name().to_string_lossy().into_owned();
        if !plain || !is_plain(&name) {
            return Err(EngineError::Name { path: folder.to_owned(), name });
        }
        files.insert(name, std::fs::read(entry.path()).map_err(failed("read", &entry.path()))?);
    }
    let header = Header { version: 1, files: files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect() };
    let mut packed = serde_json::to_vec(&header).unwrap_or_default();
    packed.push(b'\n');
    files.values().for_each(|bytes| packed.extend_from_slice(bytes));
    Ok(packed)
}

/// Writes the files of an object into a folder, which is made. Each is renamed into place when it is whole.
///
/// # Errors
/// An object that is no such bundle, and files that cannot be written.
pub fn unpack(key: &str, packed: &[u8], folder: &Path) -> Result<(), EngineError> {
    let damaged = |at, what| EngineError::Damaged { key: key.to_owned(), at, what };
    let end = packed.iter().position(|&byte| byte == b'\n').ok_or_else(|| damaged(0, "no header"))?;
    let header: Header = serde_json::from_slice(&packed[..end]).map_err(|_| damaged(0, "its header does not read"))?;
    if header.version != 1 {
        return Err(damaged(0, "its version is another"));
    }
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| EngineError::File { action, path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed("make the folder of", folder))?;
    let mut at = end + 1;
    for (name, len) in &header.files {
        if !is_plain(name) {
            return Err(damaged(at, "a name in it is not plain"));
        }
        let until =
            at.checked_add(*len).filter(|&until| until <= packed.len()).ok_or_else(|| damaged(at, "it is cut off"))?;
        let (whole, part) = (folder.join(name), folder.join(format!("{name}.part-{}", std::process::id())));
        std::fs::write(&part, &packed[at..until]).map_err(failed("write", &part))?;
        std::fs::rename(&part, &whole).map_err(failed("rename", &whole))?;
        at = until;
    }
    if at == packed.len() { Ok(()) } else { Err(damaged(at, "there is more than its header says")) }
}

/// Nothing that leads out of a folder.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_back_as_it_was() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, bytes) in [("a_sm89.engine", &b"engine\n\0bytes"[..]), ("a_sm89.profile", b""), ("b.timing", b"x")] {
            std::fs::write(from.path().join(name), bytes).unwrap();
        }
        let packed = pack(from.path()).unwrap();
        unpack("key", &packed, &to.path().join("new")).unwrap();
        assert_eq!(pack(&to.path().join("new")).unwrap(), packed);
    }

    #[test]
    fn what_is_damaged_is_refused_by_place() {
        let from = tempfile::tempdir().unwrap();
        std::fs::write(from.path().join("e"), b"0123456789").unwrap();
        let packed = pack(from.path()).unwrap();
        let to = tempfile::tempdir().unwrap();
        let refused = |bytes: &[u8]| unpack("engines/x/engine", bytes, to.path()).unwrap_err().to_string();
        assert!(refused(&packed[..packed.len() - 1]).contains("it is cut off"));
        assert!(refused(&[&packed[..], b"!"].concat()).contains("there is more"));
        assert!(refused(b"nothing").contains("no header"));
        assert!(refused(b"{\"version\":1,\"files\":{\"../up\":1}}\n?").contains("not plain"));
        assert!(refused(b"{\"version\":1,\"files\":{\"a\":18446744073709551615}}\n?").contains("cut off"));
        std::fs::create_dir(from.path().join("sub")).unwrap();
        assert!(pack(from.path()).unwrap_err().to_string().contains("`sub`"));
    }
}
