//! Libraries that are missing or no ONNX Runtime. In a process of its own: a process that has one takes no other.

use std::path::Path;

use fulltime_backend::Kind;
use fulltime_backend_onnx::engine_class;

#[test]
fn a_missing_library_and_a_wrong_one_are_runtime_errors_and_spoil_nothing() {
    for wrong in ["/nonexistent/libonnxruntime.so", "Cargo.toml", "libc.so.6"] {
        let error = engine_class(Path::new(wrong)).unwrap_err();
        assert_eq!(error.kind(), Kind::Runtime);
        assert!(error.to_string().contains(wrong), "{error}");
    }
    let Some(library) = fulltime_common::process::onnxruntime() else {
        println!("skipped the rest: no ONNX Runtime here, `cargo xtask test` brings one");
        return;
    };
    assert!(engine_class(&library).is_ok());
    let error = engine_class(Path::new("/nonexistent/libonnxruntime.so")).unwrap_err();
    assert!(error.to_string().contains("cannot be loaded beside"), "{error}");
}
