//! Compiles the kernels for the processor, with floating point as `--fmad=false` has it on a GPU: into this library, and
//! into a double of CUDA's driver that tests load.

use std::{env, path::Path};

/// No fused multiply-add, no rearranging; and bytes are read in words, as a GPU allows.
const FLAGS: [&str; 2] = ["-ffp-contract=off", "-fno-strict-aliasing"];

fn main() {
    println!("cargo:rerun-if-changed=src/shim.c");
    println!("cargo:rerun-if-changed=src/driver.c");
    println!("cargo:rerun-if-changed=../kernels");
    let build = || {
        let mut build = cc::Build::new();
        build.std("c11").opt_level(2).pic(true).warnings(true).extra_warnings(true);
        for flag in FLAGS {
            build.flag(flag);
        }
        build
    };
    build().file("src/shim.c").compile("fulltime_kernels_cpu");
    println!("cargo:rustc-link-lib=m");

    // With the driver's own name inside, so that whoever asks for the driver is given this once it is loaded.
    let folder = env::var_os("OUT_DIR").expect("cargo sets it");
    let library = Path::new(&folder).join("libcuda-double.so");
    let mut command = build().std("gnu11").get_compiler().to_command();
    command
        .args(["-shared", "-fvisibility=hidden", "-Wl,-soname,libcuda.so.1", "src/driver.c", "-lm", "-o"])
        .arg(&library);
    let status = command.status().expect("the compiler that was used above");
    assert!(status.success(), "{command:?} failed: {status}");
    println!("cargo:rustc-env=FULLTIME_CUDA_DOUBLE={}", library.display());
}
