//! From a pipeline file and the manifest it names to a resolved pipeline: every mistake found here, with its place,
//! before a worker is started. `run` and `submit` call it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use fulltime_common::{
    Digest,
    error::{Exit, Explain},
    keys,
    pipeline::{Describe, Detect, Manifest, ModelFile, Pipeline, PipelineFile},
    store::{Store, StoreError},
};

use crate::document::{Document, DocumentError, Place};

mod check;

/// A pipeline that may be submitted, with the weights it needs.
#[derive(Debug)]
pub struct Loaded {
    pub pipeline: Pipeline,
    /// Every file of every model of the pipeline, in the order of its manifests.
    pub weights: Vec<Weights>,
}

/// A model's file, checked.
#[derive(Debug)]
pub struct Weights {
    /// Name of the model.
    pub model: String,
    pub sha256: Digest,
    pub bytes: Bytes,
}

/// Why a pipeline cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    File(DocumentError),
    #[error("model manifest: {0}")]
    Manifest(#[source] DocumentError),
    #[error("{place}: `{key}` {why}")]
    Setting { place: Place, key: String, why: String },
    #[error("{place}: `{key}` {why}")]
    ManifestSetting { place: Place, key: String, why: String },
    #[error("{place}: read model `{}`", file.display())]
    Weights { place: Place, file: PathBuf, source: std::io::Error },
    #[error("{place}: model `{}` has sha256 {found}, the manifest says {expected}", file.display())]
    OtherWeights { place: Place, file: PathBuf, expected: Digest, found: Digest },
}

impl Explain for PipelineError {
    fn exit(&self) -> Exit {
        match self {
            Self::File(_) | Self::Setting { .. } => Exit::Usage,
            Self::Manifest(_) | Self::ManifestSetting { .. } | Self::Weights { .. } | Self::OtherWeights { .. } => {
                Exit::Model
            }
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) | Self::Manifest(error) => error.hint(),
            Self::Setting { .. } => {
                Some("correct the pipeline file; `fulltime schema pipeline` describes it".to_owned())
            }
            Self::ManifestSetting { .. } => {
                Some("correct the model manifest; `fulltime schema manifest` describes it".to_owned())
            }
            Self::Weights { .. } => Some("put the model there, or correct `file.path` in the manifest".to_owned()),
            Self::OtherWeights { found, .. } => {
                Some(format!("fetch the right file; if this one is meant, write sha256 = \"{found}\" in the manifest"))
            }
        }
    }
}

/// Reads and checks a pipeline file, its manifest and the weights.
///
/// # Errors
/// The first mistake, with its place.
pub fn load(path: &Path) -> Result<Loaded, PipelineError> {
    let document = Document::read("pipeline file", path).map_err(PipelineError::File)?;
    let file: PipelineFile = document.parse("pipeline file").map_err(PipelineError::File)?;

    let detector = Model::read(&document, &file.detect.model)?;
    detector.check(check::detector)?;
    if let Some(fault) = check::settings(&file, &detector.manifest) {
        return Err(setting(&document, fault));
    }
    let mut weights = detector.weights()?;
    let describe = match file.describe {
        None => None,
        Some(described) => {
            if let Some(fault) = check::describe(&described, &detector.manifest) {
                return Err(setting(&document, fault));
            }
            let mut model = |path: Option<PathBuf>, check: fn(&Manifest) -> Option<check::Fault>| match path {
                None => Ok(None),
                Some(path) => {
                    let model = Model::read(&document, &path)?;
                    model.check(check)?;
                    weights.extend(model.weights()?);
                    Ok(Some(model.manifest()))
                }
            };
            let embedder = model(described.embedder, check::embedder)?;
            let numbers = model(described.numbers, check::reader)?;
            Some(Describe { embedder, numbers, settings: described.settings })
        }
    };
    let model = detector.manifest();
    let settings = check::canonical(file.detect.settings, &model);
    let pipeline = Pipeline {
        name: file.name,
        detect: Detect { model, settings },
        describe,
        preview: file.preview,
        track: file.track,
        identify: file.identify,
    };
    Ok(Loaded { pipeline, weights })
}

fn setting(document: &Document, fault: check::Fault) -> PipelineError {
    PipelineError::Setting { place: document.place(fault.keys), key: fault.keys.join("."), why: fault.why }
}

/// A manifest and where it was written.
struct Model {
    document: Document,
    manifest: Manifest,
}

impl Model {
    fn read(pipeline: &Document, path: &Path) -> Result<Self, PipelineError> {
        let path = pipeline.folder().join(path);
        let document = Document::read("model manifest", &path).map_err(PipelineError::Manifest)?;
        let manifest = document.parse("model manifest").map_err(PipelineError::Manifest)?;
        Ok(Self { document, manifest })
    }

    fn check(&self, check: fn(&Manifest) -> Option<check::Fault>) -> Result<(), PipelineError> {
        check(&self.manifest).map_or(Ok(()), |fault| {
            let place = self.document.place(fault.keys);
            Err(PipelineError::ManifestSetting { place, key: fault.keys.join("."), why: fault.why })
        })
    }

    fn weights(&self) -> Result<Vec<Weights>, PipelineError> {
        self.manifest.files().map(|file| weights(&self.document, &self.manifest, file)).collect()
    }

    /// With only the names of the files: where they lay on this machine is nobody's business.
    fn manifest(mut self) -> Manifest {
        for file in std::iter::once(&mut self.manifest.file).chain(&mut self.manifest.torch) {
            file.path = file.path.file_name().map(PathBuf::from).unwrap_or_default();
        }
        self.manifest
    }
}

fn weights(document: &Document, manifest: &Manifest, named: &ModelFile) -> Result<Weights, PipelineError> {
    let file = document.folder().join(&named.path);
    // Entries of a list have no keys of their own.
    let place = |key: &str, value: &str| match named == &manifest.file {
        true => document.place(&["file", key]),
        false => document.place_of_text(value),
    };
    let read = std::fs::read(&file).map_err(|source| PipelineError::Weights {
        place: place("path", &named.path.display().to_string()),
        file: file.clone(),
        source,
    })?;
    let (expected, found) = (named.sha256, Digest::of_bytes(&read));
    if expected != found {
        let place = place("sha256", &expected.to_string());
        return Err(PipelineError::OtherWeights { place, file, expected, found });
    }
    Ok(Weights { model: manifest.name.clone(), sha256: found, bytes: read.into() })
}

/// Puts weights and pipeline into the store, where they are not there yet. Says so before a long upload.
///
/// # Errors
/// Whatever the store says.
pub async fn upload(loaded: &Loaded, store: &Store, say: impl Fn(String)) -> Result<Digest, StoreError> {
    let Loaded { pipeline, weights } = loaded;
    for Weights { model, sha256, bytes } in weights {
        let key = keys::store::model(sha256);
        let size = bytes.len() as u64;
        if store.head(&key).await?.is_none_or(|there| there.size != size) {
            say(format!("uploading model `{model}` ({})", crate::text::bytes(size)));
            store.put_once(&key, bytes.clone()).await?;
        }
    }
    let digest = pipeline.digest();
    store.put_json_once(&keys::store::pipeline(&digest), pipeline).await?;
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &str = "name = \"test\"\n[detect]\nmodel = \"m.toml\"\nclasses = [\"ball\", \"person\"]\n";

    fn manifest(sha256: &Digest) -> String {
        format!(
            "name = \"tiny\"\nclasses = [\"person\", \"ball\", \"bench\"]\n[file]\npath = \"w.onnx\"\nsha256 = \"{sha256}\"\n\
             [input]\nchannels = \"bgr\"\nsize = [416, 416]\n[output]\nhead = \"yolox\"\nstrides = [8, 16, 32]\n"
        )
    }

    fn load_with(pipeline: &str, manifest: &str) -> Result<Loaded, PipelineError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p.toml"), pipeline).unwrap();
        std::fs::write(dir.path().join("m.toml"), manifest).unwrap();
        std::fs::write(dir.path().join("w.onnx"), b"weights").unwrap();
        load(&dir.path().join("p.toml"))
    }

    fn complaint(pipeline: &str, manifest: &str) -> (Exit, String) {
        let error = load_with(pipeline, manifest).unwrap_err();
        assert!(error.hint().is_some());
        let text = fulltime_common::error::chain(&error);
        (error.exit(), text.rsplit('/').next().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_good_pipeline_names_its_model_by_content_and_its_classes_in_the_models_order() {
        let sha256 = Digest::of_bytes(b"weights");
        let loaded = load_with(PIPELINE, &manifest(&sha256)).unwrap();
        assert_eq!(loaded.pipeline.models(), [sha256]);
        assert_eq!(loaded.pipeline.detect.settings.classes, ["person", "ball"]);
        assert_eq!(loaded.pipeline.detect.model.file.path, Path::new("w.onnx"));
    }

    #[test]
    fn equal_settings_written_differently_share_results() {
        let manifest = manifest(&Digest::of_bytes(b"weights"));
        let plain = load_with(PIPELINE, &manifest).unwrap().pipeline;
        let wordy =
            PIPELINE.replace("\"ball\", \"person\"", "\"person\", \"ball\", \"ball\"") + "input_size = [416, 416]\n";
        assert_eq!(load_with(&wordy, &manifest).unwrap().pipeline.map_digest(), plain.map_digest());
    }

    #[test]
    fn other_weights_show_both_digests() {
        let sha256 = Digest::of_bytes(b"others");
        let (exit, text) = complaint(PIPELINE, &manifest(&sha256));
        assert_eq!(exit, Exit::Model);
        assert!(
            text.contains(&sha256.to_string()) && text.contains(&Digest::of_bytes(b"weights").to_string()),
            "{text}"
        );
    }

    #[test]
    fn torchscript_beside_the_model_is_uploaded_and_part_of_its_identity() {
        let sha256 = Digest::of_bytes(b"weights");
        let plain = manifest(&sha256);
        let both = plain.replace("[input]", &format!("[[torch]]\npath = \"w.onnx\"\nsha256 = \"{sha256}\"\n[input]"));
        let (plain, both) = (load_with(PIPELINE, &plain).unwrap(), load_with(PIPELINE, &both).unwrap());
        assert_eq!((plain.weights.len(), both.weights.len()), (1, 2));
        assert_ne!(plain.pipeline.map_digest(), both.pipeline.map_digest());
        let other = manifest(&sha256)
            .replace("[input]", &format!("[[torch]]\npath = \"gone.pt\"\nsha256 = \"{sha256}\"\n[input]"));
        let (exit, text) = complaint(PIPELINE, &other);
        assert!(exit == Exit::Model && text.contains("gone.pt"), "{text}");
    }

    #[test]
    fn missing_weights_are_a_model_error_at_the_manifests_line() {
        let manifest = manifest(&Digest::of_bytes(b"weights")).replace("w.onnx", "gone.onnx");
        let error = load_with(PIPELINE, &manifest).unwrap_err();
        assert_eq!(error.exit(), Exit::Model);
        assert!(error.to_string().contains("m.toml:4:1: read model"), "{error}");
    }

    #[test]
    fn a_mistake_is_named_with_file_line_and_column() {
        let good = manifest(&Digest::of_bytes(b"weights"));
        let with = |line: &str| complaint(&format!("{PIPELINE}{line}\n"), &good);
        assert_eq!(with("every = 0").1, "p.toml:5:1: `detect.every` is 0; at least 1 is needed");
        assert!(with("score_threshold = 1.5").1.starts_with("p.toml:5:1: `detect.score_threshold` is 1.5"));
        assert!(with("input_size = [400, 416]").1.contains("multiples of 32"));
        assert!(with("tiles = { columns = 0, rows = 2 }").1.contains("`detect.tiles` "));
        assert!(with("region = [[0.0, 0.0], [1.0, 2.0], [0.5, 0.5]]").1.contains("between 0 and 1"));
        assert!(with("[track]\nmatch_iou = nan").1.contains("`track.match_iou`"));
        let (exit, text) = with("colour = true");
        assert_eq!(exit, Exit::Usage);
        assert!(text.contains("colour"), "{text}");
        let (_, text) = complaint(&PIPELINE.replace("\"ball\"", "\"Persons\""), &good);
        assert!(text.starts_with("p.toml:4:1: `detect.classes` names `Persons`"), "{text}");
        let (exit, text) = complaint(PIPELINE, &good.replace("[8, 16, 32]", "[]"));
        assert_eq!((exit, text.contains("m.toml:11:1: `output.strides`")), (Exit::Model, true), "{text}");
    }
}
