//! What the detector has said of pictures before, wherever that was: a second camera of the same feed, a recording that was
//! encoded again without loss, another job with the same detector. Only where there is a Redis: within one recording equal
//! pictures come one after another, which [`super::shard`] sees without a hash.
//!
//! A picture is named by BLAKE3 of all its visible samples and of what they mean, together with everything else that its
//! detections are a function of: the detector's model and settings, the semantics versions, the engine class. That two
//! pictures share a name by chance has a probability of 2^-128 and less, and nobody knows how to find two that do; a wrong
//! answer from the engine is likelier by far. So an answer from here has the bits that inference would give, and a shard does
//! not show where they came from.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use fulltime_cache::{Cache, Kind, Shelf};
use fulltime_common::{Digest, pipeline::Pipeline, plan::EngineClass, semantics};
use fulltime_media::{Matrix, Picture};
use fulltime_vision::Detection;
use tokio::runtime::Handle;

/// Of the encoding below.
const VERSION: u32 = 1;
/// Kept in each process.
const MOST: u64 = 32 << 20;
/// Bytes that are hashed at once: row by row it would take four times as long.
const GULP: usize = 64 << 10;
/// Bytes of a detection: its class and five numbers.
const LENGTH: usize = 2 + 5 * 4;

/// See the module.
#[derive(Debug, Clone)]
pub struct Seen {
    shelf: Arc<Shelf<Vec<Detection>>>,
    runtime: Handle,
    /// Of all but the picture.
    context: Digest,
}

/// What is no list of detections.
#[derive(Debug, thiserror::Error)]
#[error("{0} bytes are no whole number of detections")]
pub struct NotDetections(usize);

impl Seen {
    /// Must be called within a tokio runtime.
    pub fn new(cache: &Cache) -> Self {
        let weigh = |detections: &Vec<Detection>| size_of_val(detections.as_slice());
        let shelf = Arc::new(Shelf::new(cache, Kind::Detections, VERSION, MOST, weigh));
        Self { shelf, runtime: Handle::current(), context: Digest::of_bytes(b"") }
    }

    /// For pictures that this detector looks at.
    pub fn by(&self, pipeline: &Pipeline, class: &EngineClass) -> Self {
        let versions = [semantics::PREPROCESS, semantics::POSTPROCESS];
        Self { context: Digest::of_json(&(&pipeline.detect, &class.0, versions)), ..self.clone() }
    }

    pub fn name(&self, picture: &Picture) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.context.to_string().as_bytes());
        let matrix = match picture.matrix() {
            Matrix::Bt601 => 0,
            Matrix::Bt709 => 1,
        };
        hasher.update(&[matrix, u8::from(picture.full_range()), picture.planes() as u8]);
        let planes = || (0..picture.planes()).map(|i| picture.plane(i));
        for plane in planes() {
            hasher.update(&(plane.width as u64).to_le_bytes());
            hasher.update(&(plane.height as u64).to_le_bytes());
        }
        let mut some = Vec::with_capacity(2 * GULP);
        for plane in planes() {
            for row in plane.rows() {
                some.extend_from_slice(row);
                if some.len() >= GULP {
                    hasher.update(&some);
                    some.clear();
                }
            }
        }
        hasher.update(&some);
        Digest::of_bytes(hasher.finalize().as_bytes())
    }

    /// What is known of a picture. Blocks, for some milliseconds at most.
    pub fn find(&self, name: Digest) -> Option<Arc<Vec<Detection>>> {
        self.runtime.block_on(self.shelf.find(name, decode))
    }

    /// Keeps what was said of a picture.
    pub fn keep(&self, name: Digest, detections: &[Detection]) {
        let _within = self.runtime.enter();
        self.shelf.keep(name, Arc::new(detections.to_vec()), encode(detections));
    }
}

fn encode(detections: &[Detection]) -> Bytes {
    let mut bytes = Vec::with_capacity(detections.len() * LENGTH);
    for Detection { class, score, x, y, w, h } in detections {
        bytes.extend(class.to_le_bytes());
        [score, x, y, w, h].iter().for_each(|value| bytes.extend(value.to_bits().to_le_bytes()));
    }
    bytes.into()
}

fn decode(bytes: &Bytes) -> Result<Vec<Detection>, NotDetections> {
    if !bytes.len().is_multiple_of(LENGTH) {
        return Err(NotDetections(bytes.len()));
    }
    let read = |mut one: &[u8]| {
        let class = one.get_u16_le();
        let [score, x, y, w, h] = [(); 5].map(|()| f32::from_bits(one.get_u32_le()));
        Detection { class, score, x, y, w, h }
    };
    Ok(bytes.chunks_exact(LENGTH).map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::canary;

    #[test]
    fn detections_come_back_bit_by_bit() {
        let odd = [0.0, -0.0, f32::MIN_POSITIVE, 1.0e-45, f32::MAX];
        let one = |class, n: usize| {
            let at = |i: usize| odd[(n + i) % odd.len()];
            Detection { class, score: at(0), x: at(1), y: at(2), w: at(3), h: at(4) }
        };
        let all: Vec<_> = (0..5).map(|n| one(n as u16 * 9999, n)).collect();
        let back = decode(&encode(&all)).unwrap();
        assert_eq!(encode(&back), encode(&all));
        assert_eq!(decode(&Bytes::new()).unwrap(), [], "a picture without anybody");
        assert!(decode(&encode(&all).slice(1..)).is_err());
    }

    #[tokio::test]
    async fn equal_pictures_share_a_name_and_others_do_not() {
        let seen = Seen::new(&Cache::default());
        let decoded = || canary::decode().unwrap().into_iter().map(|(_, picture)| picture).collect::<Vec<_>>();
        let names = |seen: &Seen| decoded().iter().map(|picture| seen.name(picture)).collect::<Vec<_>>();
        let (once, again) = (names(&seen), names(&seen));
        assert_eq!(once, again);
        let pictures = decoded();
        for i in 0..once.len() {
            for j in 0..once.len() {
                assert_eq!(once[i] == once[j], pictures[i] == pictures[j], "{i} and {j}");
            }
        }
        let other = Seen { context: Digest::of_bytes(b"another detector"), ..seen.clone() };
        assert!(names(&other).iter().all(|name| !once.contains(name)));
    }
}
