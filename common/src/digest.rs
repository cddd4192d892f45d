//! SHA-256 digests: the names of models, indexes, shard and reduce results.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};
use wincode::{SchemaRead, SchemaWrite};

/// 32 bytes of SHA-256, shown and stored as 64 lower-case hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaRead, SchemaWrite)]
pub struct Digest([u8; 32]);

const HEX: [u8; 16] = *b"0123456789abcdef";

/// Text that is not 64 hexadecimal characters.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a sha256 digest (64 hexadecimal characters)")]
pub struct NotADigest(String);

impl Digest {
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Digest of a value's canonical JSON: struct fields in declaration order, maps must be `BTreeMap`.
    ///
    /// # Panics
    /// Only if the type cannot be written as JSON at all (a map with non-string keys), which is a bug in the type.
    #[must_use]
    pub fn of_json<T: Serialize + ?Sized>(value: &T) -> Self {
        Self::of_bytes(&serde_json::to_vec(value).expect("digested types are plain data"))
    }

    /// Reads to the end and returns the digest with the number of bytes read.
    ///
    /// # Errors
    /// Whatever the reader fails with.
    pub fn of_reader(mut reader: impl std::io::Read) -> std::io::Result<(Self, u64)> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok((Self(hasher.finalize().into()), total)),
                n => {
                    hasher.update(&buffer[..n]);
                    total += n as u64;
                }
            }
        }
    }

    /// First twelve characters: enough for people, never for keys.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every key has one in it: sixty-four calls of the formatter were a tenth of the coordinator's time.
        let text = self.0.map(|byte| [byte >> 4, byte & 0xf].map(|nibble| HEX[usize::from(nibble)]));
        f.write_str(str::from_utf8(text.as_flattened()).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let bad = || NotADigest(text.to_owned());
        let nibble = |c: u8| char::from(c).to_digit(16).map(|nibble| nibble as u8).ok_or_else(bad);
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(bad()) };
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() {
            return Err(bad());
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl schemars::JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_text_and_json() {
        let digest = Digest::of_bytes(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(), digest);
        for bad in ["xyz", &"+f".repeat(32), &"é".repeat(32), &"0".repeat(65)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
