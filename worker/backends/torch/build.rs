//! With the feature `torch`: compiles the shim against libtorch's headers and lets the tests find its libraries. LIBTORCH
//! names the folder that `cargo xtask setup --torch` has made.

fn main() {
    println!("cargo:rerun-if-changed=shim/fulltime_torch.cpp");
    #[cfg(feature = "torch")]
    shim();
}

#[cfg(feature = "torch")]
fn shim() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch = std::env::var("LIBTORCH").expect("LIBTORCH is not set: run `cargo xtask setup --torch`");
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false)
        .std("c++17")
        .include(format!("{libtorch}/include"))
        .include(format!("{libtorch}/include/torch/csrc/api/include"))
        .file("shim/fulltime_torch.cpp")
        .compile("fulltime_torch");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
}
