//! What of ONNX Runtime computes: the CPU, CUDA, or TensorRT on top of CUDA. All of them are registered at run time: the
//! library that the worker found has them or has not.

use std::{fmt, path::PathBuf, str::FromStr};

use fulltime_backend::BackendError;
use ort::{
    ep::{self, ExecutionProvider as _, cuda::ConvAlgorithmSearch},
    session::builder::SessionBuilder,
};

/// Which one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Provider {
    /// CUDA where it is, otherwise the CPU. Never TensorRT: its engines are built before, not because somebody forgot to say
    /// no.
    Auto,
    #[default]
    Cpu,
    Cuda,
    TensorRt,
}

impl Provider {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }
}

/// What TensorRT may round to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    Fp32,
    Fp16,
    /// By a calibration table; what it has no range for stays fp16.
    Int8,
}

impl Precision {
    /// As on the command line and in engine classes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

/// Batch sizes that an engine of TensorRT's is built for: it takes any from `min` to `max` and is fastest at `opt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    pub min: u32,
    pub opt: u32,
    pub max: u32,
}

impl Default for Batches {
    fn default() -> Self {
        Self { min: 1, opt: 8, max: 16 }
    }
}

impl Batches {
    /// A shape of the input for each, as TensorRT's profile options want them: `images:1x3x512x896`.
    #[must_use]
    pub fn profiles(&self, input: &str, item: &[usize]) -> [String; 3] {
        [self.min, self.opt, self.max].map(|batch| {
            let sides: String = item.iter().map(|side| format!("x{side}")).collect();
            format!("{input}:{batch}{sides}")
        })
    }
}

impl fmt::Display for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.min, self.opt, self.max)
    }
}

/// How the providers are set. As text: `provider=tensorrt,device=1,precision=fp16,batches=1:8:32,engines=/var/cache/trt`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderOptions {
    pub provider: Provider,
    /// CUDA's number of the GPU.
    pub device: u32,
    /// Of TensorRT. CUDA runs what the model holds.
    pub precision: Precision,
    /// Whether CUDA may round f32 products to TF32 on their way in.
    pub tf32: bool,
    pub batches: Batches,
    /// Folder of TensorRT's engines: filled from the store, or built into, before a lane takes work.
    pub engines: Option<PathBuf>,
    /// Calibration table for int8, as ONNX Runtime's `quantization.write_calibration_table` writes it.
    pub calibration: Option<PathBuf>,
    /// Most bytes of the GPU's memory that a session's arena may take.
    pub memory: Option<usize>,
}

/// Options that do not read or contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderOptionsError {
    #[error(
        "`{part}` is none of provider=auto|cpu|cuda|tensorrt, device=N, precision=fp32|fp16|int8, tf32, \
         batches=MIN:OPT:MAX, engines=DIR, calibration=FILE, memory=BYTES"
    )]
    Unknown { part: String },
    #[error("`{part}`: batches ascend, from 1")]
    Batches { part: String },
    #[error("precision {precision} is TensorRT's: say `provider=tensorrt`, or `precision=fp32`")]
    Precision { precision: &'static str },
    #[error(
        "precision int8 needs `calibration=FILE`, the calibration table that ONNX Runtime's `quantization.write_calibration_table` has written"
    )]
    NoCalibration,
    #[error("TensorRT needs `engines=DIR`: without a folder its engines would be built anew by every process")]
    NoFolder,
}

impl FromStr for ProviderOptions {
    type Err = ProviderOptionsError;

    fn from_str(text: &str) -> Result<Self, ProviderOptionsError> {
        let mut options = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let unknown = || ProviderOptionsError::Unknown { part: part.to_owned() };
            match part.split_once('=').unwrap_or((part, "")) {
                ("provider", "auto") => options.provider = Provider::Auto,
                ("provider", "cpu") => options.provider = Provider::Cpu,
                ("provider", "cuda") => options.provider = Provider::Cuda,
                ("provider", "tensorrt") => options.provider = Provider::TensorRt,
                ("device", value) => options.device = value.parse().map_err(|_| unknown())?,
                ("precision", "fp32") => options.precision = Precision::Fp32,
                ("precision", "fp16") => options.precision = Precision::Fp16,
                ("precision", "int8") => options.precision = Precision::Int8,
                ("tf32", "") => options.tf32 = true,
                ("batches", value) => options.batches = batches(value, part)?,
                ("engines", value) if !value.is_empty() => options.engines = Some(value.into()),
                ("calibration", value) if !value.is_empty() => options.calibration = Some(value.into()),
                ("memory", value) => options.memory = Some(value.parse().map_err(|_| unknown())?),
                _ => return Err(unknown()),
            }
        }
        options.consistent()?;
        Ok(options)
    }
}

fn batches(value: &str, part: &str) -> Result<Batches, ProviderOptionsError> {
    let numbers: Option<Vec<u32>> = value.split(':').map(|number| number.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[min, opt, max]) if min > 0 && min <= opt && opt <= max => Ok(Batches { min, opt, max }),
        Some(_) => Err(ProviderOptionsError::Batches { part: part.to_owned() }),
        None => Err(ProviderOptionsError::Unknown { part: part.to_owned() }),
    }
}

impl ProviderOptions {
    fn consistent(&self) -> Result<(), ProviderOptionsError> {
        let tensorrt = self.provider == Provider::TensorRt;
        match self.precision {
            Precision::Fp32 => {}
            precision if !tensorrt => return Err(ProviderOptionsError::Precision { precision: precision.name() }),
            Precision::Int8 if self.calibration.is_none() => return Err(ProviderOptionsError::NoCalibration),
            Precision::Fp16 | Precision::Int8 => {}
        }
        if tensorrt && self.engines.is_none() {
            return Err(ProviderOptionsError::NoFolder);
        }
        Ok(())
    }

    /// The part of the engine class that these options are, behind the provider's name: `fp32`, `fp32-tf32`,
    /// `fp16-b1.8.32`.
    #[must_use]
    pub fn class(&self, provider: Provider) -> String {
        let tf32 = if self.tf32 && provider != Provider::Cpu { "-tf32" } else { "" };
        match provider {
            Provider::TensorRt => {
                let Batches { min, opt, max } = self.batches;
                format!("{}{tf32}-b{min}.{opt}.{max}", self.precision.name())
            }
            Provider::Auto | Provider::Cpu | Provider::Cuda => format!("fp32{tf32}"),
        }
    }

    /// The provider that sessions will run on: what is asked for, or for `auto` what there is, with the reason why it is not
    /// CUDA.
    ///
    /// # Errors
    /// When what is asked for is not in the library or cannot be loaded; the error says what helps.
    pub(crate) fn choose(
        &self,
        environment: &ort::environment::Environment,
        library: &str,
    ) -> Result<(Provider, Option<BackendError>), BackendError> {
        let attempt = |provider: Provider| -> Result<(), BackendError> {
            let failed = |source| BackendError::Runtime { library: library.to_owned(), source };
            let compiled = match provider {
                Provider::Auto | Provider::Cpu => return Ok(()),
                Provider::Cuda => ep::CUDA::is_available(),
                Provider::TensorRt => ep::TensorRT::is_available(),
            };
            if !compiled.map_err(|error| failed(error.into()))? {
                return Err(failed(NoProvider::NotCompiled { provider: provider.name() }.into()));
            }
            let builder = ort::session::Session::builder(environment).map_err(|error| failed(error.into()))?;
            let missing = |message: String| NoProvider::NotLoaded { provider: provider.name(), message: cut(&message) };
            self.register(builder, provider, "", &[]).map(drop).map_err(|error| failed(missing(error).into()))
        };
        match self.provider {
            Provider::Auto => match attempt(Provider::Cuda) {
                Ok(()) => Ok((Provider::Cuda, None)),
                Err(why_not) => Ok((Provider::Cpu, Some(why_not))),
            },
            asked => attempt(asked).map(|()| (asked, None)),
        }
    }

    /// Adds the provider to a session. `input` and `item` are the model's input without the batch dimension; empty where no
    /// model is there yet.
    pub(crate) fn register(
        &self,
        mut builder: SessionBuilder,
        provider: Provider,
        input: &str,
        item: &[usize],
    ) -> Result<SessionBuilder, String> {
        let device = i32::try_from(self.device).unwrap_or(i32::MAX);
        // Exhaustive measures every algorithm and takes another one each time; heuristics choose the same for the same
        // device, driver and shape.
        let mut cuda = ep::CUDA::default()
            .with_device_id(device)
            .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
            .with_tf32(self.tf32);
        if let Some(bytes) = self.memory {
            cuda = cuda.with_memory_limit(bytes);
        }
        let text = |error: ort::Error| error.message().to_owned();
        match provider {
            Provider::Auto | Provider::Cpu => {}
            Provider::Cuda => cuda.register(&mut builder).map_err(text)?,
            Provider::TensorRt => {
                self.tensorrt(device, input, item).register(&mut builder).map_err(text)?;
                // What TensorRT does not take on goes to CUDA.
                cuda.register(&mut builder).map_err(text)?;
            }
        }
        Ok(builder)
    }

    fn tensorrt(&self, device: i32, input: &str, item: &[usize]) -> ep::TensorRT {
        let mut tensorrt = ep::TensorRT::default()
            .with_device_id(device)
            .with_fp16(self.precision != Precision::Fp32)
            .with_int8(self.precision == Precision::Int8)
            // Several builds at a time would measure each other.
            .with_force_sequential_engine_build(true);
        if let Some(folder) = &self.engines {
            tensorrt = tensorrt
                .with_engine_cache(true)
                .with_engine_cache_path(folder.display())
                .with_timing_cache(true)
                .with_timing_cache_path(folder.display());
        }
        if let Some(table) = &self.calibration {
            let name = table.file_name().unwrap_or(table.as_os_str()).to_string_lossy();
            tensorrt = tensorrt.with_int8_calibration_table_name(name).with_int8_use_native_calibration_table(true);
        }
        if let Some(bytes) = self.memory {
            tensorrt = tensorrt.with_max_workspace_size(bytes);
        }
        if !item.is_empty() {
            let [min, opt, max] = self.batches.profiles(input, item);
            tensorrt = tensorrt.with_profile_min_shapes(min).with_profile_opt_shapes(opt).with_profile_max_shapes(max);
        }
        tensorrt
    }
}

/// Why a provider cannot be had, and what helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoProvider {
    #[error(
        "it has no {provider} provider, it is the build for CPUs: set ORT_DYLIB_PATH to the library of PyPI's \
         `onnxruntime-gpu`, or ask for `provider=cpu`"
    )]
    NotCompiled { provider: &'static str },
    #[error(
        "its {provider} provider cannot be loaded ({message}): install the CUDA, cuDNN and TensorRT libraries that its \
         release names and put them on LD_LIBRARY_PATH, or ask for `provider=cpu`"
    )]
    NotLoaded { provider: &'static str, message: String },
}

/// ONNX Runtime puts source lines and stack traces around the sentence that matters.
fn cut(message: &str) -> String {
    let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim();
    line.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read_and_tell_their_class() {
        let read: ProviderOptions =
            "provider=tensorrt,device=1,precision=fp16,batches=1:8:32,engines=/var/cache/trt,memory=1000"
                .parse()
                .unwrap();
        let expected = ProviderOptions {
            provider: Provider::TensorRt,
            device: 1,
            precision: Precision::Fp16,
            batches: Batches { min: 1, opt: 8, max: 32 },
            engines: Some("/var/cache/trt".into()),
            memory: Some(1000),
            ..ProviderOptions::default()
        };
        assert_eq!(read, expected);
        assert_eq!(read.class(Provider::TensorRt), "fp16-b1.8.32");
        assert_eq!("provider=cuda,tf32".parse::<ProviderOptions>().unwrap().class(Provider::Cuda), "fp32-tf32");
        assert_eq!("".parse::<ProviderOptions>().unwrap(), ProviderOptions::default());
    }

    #[test]
    fn profiles_name_input_and_shapes() {
        let profiles = Batches { min: 1, opt: 8, max: 32 }.profiles("images", &[3, 512, 896]);
        assert_eq!(profiles, ["images:1x3x512x896", "images:8x3x512x896", "images:32x3x512x896"]);
    }

    #[test]
    fn what_does_not_read_or_fit_together_is_refused_with_what_helps() {
        let refused = |text: &str| text.parse::<ProviderOptions>().unwrap_err().to_string();
        assert!(refused("provider=rocm").contains("provider=auto|cpu|cuda|tensorrt"));
        assert!(refused("provider=cuda,batches=8:4:16").contains("batches=8:4:16"));
        assert!(refused("provider=cuda,precision=fp16").contains("TensorRT's"));
        assert!(refused("provider=tensorrt,precision=int8,engines=x").contains("calibration=FILE"));
        assert!(refused("provider=tensorrt").contains("engines=DIR"));
    }
}
