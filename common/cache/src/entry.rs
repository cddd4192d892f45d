//! An entry as it lies in Redis: sealed, so that one that was cut short, altered, or put under another's name is never
//! taken for what was put.
//!
//! Four bytes of magic, the content's length (eight bytes, little end first), SHA-256 of key and content, the content.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::Key;

const MAGIC: [u8; 4] = *b"FTC1";
const HEAD: usize = 4 + 8 + 32;

/// Why an entry is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    #[error("it does not begin as an entry does")]
    Magic,
    #[error("it has {found} bytes where {wanted} were put")]
    Length { wanted: u64, found: u64 },
    #[error("its content is not what was put under this key")]
    Digest,
}

fn seal_of(key: &Key, content: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(key.to_string().as_bytes());
    hasher.update([0]);
    hasher.update(content);
    hasher.finalize().into()
}

/// The entry of this content.
#[must_use]
pub fn seal(key: &Key, content: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(HEAD + content.len());
    entry.extend(MAGIC);
    entry.extend((content.len() as u64).to_le_bytes());
    entry.extend(seal_of(key, content));
    entry.extend(content);
    entry
}

/// The content of an entry.
///
/// # Errors
/// It is not what was put under this key.
pub fn open(key: &Key, entry: &Bytes) -> Result<Bytes, Unsound> {
    let short = || Unsound::Length { wanted: HEAD as u64, found: entry.len() as u64 };
    let (magic, rest) = entry.split_first_chunk::<4>().ok_or_else(short)?;
    if *magic != MAGIC {
        return Err(Unsound::Magic);
    }
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (seal, content) = rest.split_first_chunk::<32>().ok_or_else(short)?;
    let (wanted, found) = (u64::from_le_bytes(*length), content.len() as u64);
    if wanted != found {
        return Err(Unsound::Length { wanted, found });
    }
    if seal_of(key, content) != *seal {
        return Err(Unsound::Digest);
    }
    Ok(entry.slice(HEAD..))
}

#[cfg(test)]
mod tests {
    use fulltime_common::Digest;
    use proptest::prelude::*;

    use super::*;
    use crate::Kind;

    fn key(name: &[u8]) -> Key {
        Key { kind: Kind::Index, version: 1, digest: Digest::of_bytes(name) }
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_and_nothing_else_does(
            content in proptest::collection::vec(any::<u8>(), 0..200), at in any::<usize>(), bit in 0..8_u32, cut in any::<usize>(),
        ) {
            let entry = seal(&key(b"a"), &content);
            prop_assert_eq!(open(&key(b"a"), &entry.clone().into()), Ok(Bytes::from(content)));
            prop_assert_eq!(open(&key(b"b"), &entry.clone().into()), Err(Unsound::Digest), "another's name");
            let mut flipped = entry.clone();
            let at = at % flipped.len();
            flipped[at] ^= 1 << bit;
            prop_assert!(open(&key(b"a"), &flipped.into()).is_err(), "bit {} of byte {}", bit, at);
            let cut = entry[..cut % entry.len()].to_vec();
            prop_assert!(open(&key(b"a"), &cut.into()).is_err(), "cut short");
            let longer = [entry, vec![0]].concat();
            prop_assert!(open(&key(b"a"), &longer.into()).is_err(), "too long");
        }
    }
}
