//! What makes two engines the same.

use fulltime_common::{Digest, keys};
use serde::{Deserialize, Serialize};

/// Everything that an engine was built from and for. Two workers with the same key may use each other's engine; a compute
/// capability alone would not do: engines differ by driver, TensorRT version, device and shapes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineKey {
    /// Sha256 of the model file.
    pub model: Digest,
    /// `10.13.2.6`.
    pub tensorrt: String,
    /// Version and build of the runtime that asks for it: it decides what goes to TensorRT at all.
    pub runtime: String,
    /// `580.95.05`.
    pub driver: String,
    /// `NVIDIA L4`.
    pub device: String,
    /// 89 for 8.9.
    pub capability: u32,
    /// `fp16`, or with a calibration table `int8`.
    pub precision: String,
    /// Sha256 of the calibration table, if there is one.
    pub calibration: Option<Digest>,
    /// Input shapes, batch first: smallest, best and largest.
    pub shapes: [Vec<u32>; 3],
}

impl EngineKey {
    /// Of the canonical JSON.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// Where the engine lies: `engines/{digest}/engine`.
    #[must_use]
    pub fn engine(&self) -> String {
        keys::store::engine(&self.digest())
    }

    /// Below it everything about who builds: `engines/{digest}/claims`.
    pub(crate) fn claims(&self) -> String {
        keys::store::engine_claims(&self.digest())
    }
}

#[cfg(test)]
pub(crate) fn example() -> EngineKey {
    EngineKey {
        model: Digest::of_bytes(b"model"),
        tensorrt: "10.13.2.6".into(),
        runtime: "1.32.0-5e0d4a11".into(),
        driver: "580.95.05".into(),
        device: "NVIDIA L4".into(),
        capability: 89,
        precision: "fp16".into(),
        calibration: None,
        shapes: [vec![1, 3, 512, 896], vec![8, 3, 512, 896], vec![32, 3, 512, 896]],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn whatever_differs_makes_another_engine() {
        let with = |change: fn(&mut EngineKey)| {
            let mut key = example();
            change(&mut key);
            key.engine()
        };
        let keys = [
            with(|_| {}),
            with(|key| key.model = Digest::of_bytes(b"other")),
            with(|key| key.tensorrt = "10.14".into()),
            with(|key| key.runtime = "1.33.0-00000000".into()),
            with(|key| key.driver = "580.95.06".into()),
            with(|key| key.device = "NVIDIA L40S".into()),
            with(|key| key.capability = 90),
            with(|key| key.precision = "int8".into()),
            with(|key| key.calibration = Some(Digest::of_bytes(b"table"))),
            with(|key| key.shapes[2][0] = 16),
        ];
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
        assert_eq!(with(|_| {}), example().engine(), "and nothing else does");
    }

    #[test]
    fn the_key_of_an_engine_does_not_change_by_itself() {
        let expected = "engines/723b46509333300c97b87e38fb4a7a27b5c4b136f11c6a51c6020995c2bdb01c/engine";
        assert_eq!(example().engine(), expected);
    }
}
