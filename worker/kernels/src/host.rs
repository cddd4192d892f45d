//! Memory of the host for copies to and from a device: whole pages, fresh from the system and touched by the thread that asks
//! for them. The heap would hand out pages that another thread, on another NUMA node, has touched before.

use std::{fmt, ptr::NonNull, slice};

use crate::error::KernelError;

const PAGE: usize = 4096;

/// Zeroed pages.
pub struct HostMemory {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for HostMemory {}
// SAFETY: shared references only read.
unsafe impl Sync for HostMemory {}

impl HostMemory {
    /// # Errors
    /// Out of memory.
    pub fn new(len: usize) -> Result<Self, KernelError> {
        let len = len.max(1).next_multiple_of(PAGE);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new private mapping; nothing else is touched.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        let failed = KernelError::OutOfMemory { bytes: len, kind: "host", source: None };
        let start = if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast::<u8>()) };
        let memory = Self { start: start.ok_or(failed)?, len };
        for page in (0..len).step_by(PAGE) {
            // SAFETY: within the mapping. Volatile, since a plain write of what is there already may be left out.
            unsafe { memory.start.as_ptr().add(page).write_volatile(0) };
        }
        Ok(memory)
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that live as long as `self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: likewise, and borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// For copies that a device does while nobody borrows the memory.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Bytes: whole pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

impl fmt::Debug for HostMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostMemory({} bytes)", self.len)
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, unmapped once.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_whole_pages_that_are_there_at_once() {
        let mut memory = HostMemory::new(3 * PAGE + 1).unwrap();
        assert_eq!((memory.len(), memory.as_ptr() as usize % PAGE), (4 * PAGE, 0));
        let mut resident = [0_u8; 4];
        // SAFETY: asks about the mapping, a byte for each page.
        let code = unsafe { libc::mincore(memory.as_ptr().cast(), memory.len(), resident.as_mut_ptr().cast()) };
        assert_eq!((code, resident.map(|page| page & 1)), (0, [1; 4]));
        memory.as_mut_slice().fill(7);
        assert!(memory.as_slice().iter().all(|&byte| byte == 7));
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        let error = HostMemory::new(usize::MAX / 2).unwrap_err();
        assert!(error.to_string().ends_with("bytes of host memory cannot be allocated"), "{error}");
    }
}
