//! Libraries that are missing or no ONNX Runtime. In a process of its own: a process that has one takes no other.

use std::path::Path;

use fulltime_backend::Kind;
use fulltime_backend_onnx::{Provider, ProviderOptions, Runtime, engine_class};

#[test]
fn a_missing_library_and_a_wrong_one_are_runtime_errors_and_spoil_nothing() {
    for wrong in ["/nonexistent/libonnxruntime.so", "Cargo.toml", "libc.so.6"] {
        let error = engine_class(Path::new(wrong), &ProviderOptions::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Runtime);
        assert!(error.to_string().contains(wrong), "{error}");
    }
    let Some(library) = fulltime_common::process::onnxruntime() else {
        println!("skipped the rest: no ONNX Runtime here, `cargo xtask test` brings one");
        return;
    };
    // The library of the set-up is the build for CPUs.
    for asked in ["provider=cuda", "provider=tensorrt,engines=/tmp,precision=fp16"] {
        let options: ProviderOptions = asked.parse().unwrap();
        match engine_class(&library, &options) {
            Ok(class) => println!("skipped: this library has {asked}, as {class}"),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Runtime);
                let source = std::error::Error::source(&error).unwrap().to_string();
                assert!(source.contains("provider") && source.contains("onnxruntime-gpu"), "{source}");
                assert!(source.contains("or ask for `provider=cpu`"), "{source}");
            }
        }
    }
    let auto: ProviderOptions = "provider=auto".parse().unwrap();
    let runtime = Runtime::load(&library, &auto).unwrap();
    if runtime.provider() == Provider::Cpu {
        assert!(runtime.engine_class().starts_with("onnx-cpu-1."), "{}", runtime.engine_class());
        let why_not = runtime.why_not().expect("a reason");
        assert!(std::error::Error::source(why_not).unwrap().to_string().contains("no cuda provider"), "{why_not:?}");
    }
    assert_eq!(engine_class(&library, &auto).unwrap(), runtime.engine_class());
    let error = engine_class(Path::new("/nonexistent/libonnxruntime.so"), &auto).unwrap_err();
    assert!(error.to_string().contains("cannot be loaded beside"), "{error}");
}
