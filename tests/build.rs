//! With the feature `torch`: where the binaries find libtorch when they are started.

fn main() {
    if std::env::var_os("CARGO_FEATURE_TORCH").is_some() {
        println!("cargo:rerun-if-env-changed=LIBTORCH");
        if let Ok(libtorch) = std::env::var("LIBTORCH") {
            // Beside the binary in an image, in the set-up's folder in a checkout.
            println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../lib:{libtorch}/lib");
        }
    }
}
