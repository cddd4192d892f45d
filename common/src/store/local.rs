//! Small objects in folders, put and looked for without a detour: handing such a call to another thread, as the general
//! implementation does, costs more than the call.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::Put;

/// Longest object that is put at once.
pub(super) const SMALL: usize = 64 << 10;

/// Whether there is a file.
pub(super) fn exists(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(meta) => Ok(meta.is_file()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Creates a file with all of its bytes or not at all: it is written under another name and then linked.
pub(super) fn create(path: &Path, bytes: &[u8]) -> io::Result<Put> {
    let (staged, mut file) = stage(path)?;
    let linked = file.write_all(bytes).and_then(|()| fs::hard_link(&staged, path));
    drop(file);
    let removed = fs::remove_file(&staged);
    match linked {
        Ok(()) => removed.map(|()| Put::Created),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Put::Existed),
        Err(error) => Err(error),
    }
}

/// A new file beside `path`. Listings leave out names that end in `#` and a number, so what a crash leaves is no object.
fn stage(path: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut folder_made = false;
    loop {
        let mut name = OsString::from(path);
        name.push(format!("#{}{:09}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let staged = PathBuf::from(name);
        match File::create_new(&staged) {
            Ok(file) => return Ok((staged, file)),
            // Left by a process of the same number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == ErrorKind::NotFound && !folder_made => {
                fs::create_dir_all(path.parent().unwrap_or(path))?;
                folder_made = true;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_threads_that_create_a_file_one_does_and_all_its_bytes_are_there() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let path = dir.path().join(format!("{round}/new/object"));
            let put = |writer: u8| create(&path, &vec![writer; 10_000]).unwrap();
            let results: Vec<Put> = std::thread::scope(|scope| {
                let writers: Vec<_> = (0..4).map(|writer| scope.spawn(move || put(writer))).collect();
                writers.into_iter().map(|writer| writer.join().unwrap()).collect()
            });
            let winners: Vec<usize> = (0..4).filter(|at| results[*at] == Put::Created).collect();
            assert_eq!(winners.len(), 1, "{results:?}");
            assert_eq!(fs::read(&path).unwrap(), vec![winners[0] as u8; 10_000]);
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        }
    }

    #[test]
    fn what_cannot_be_a_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        create(&dir.path().join("file/object"), b"x").unwrap_err();
        assert!(!exists(&dir.path().join("object")).unwrap());
        assert!(!exists(dir.path()).unwrap(), "a folder is no object");
    }
}
