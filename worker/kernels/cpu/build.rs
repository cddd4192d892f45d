//! Compiles the kernels for the processor, with floating point as `--fmad=false` has it on a GPU.

fn main() {
    println!("cargo:rerun-if-changed=src/shim.c");
    println!("cargo:rerun-if-changed=../kernels");
    cc::Build::new()
        .file("src/shim.c")
        .std("c11")
        .opt_level(2)
        // No fused multiply-add, no rearranging; and bytes are read in words, as a GPU allows.
        .flag("-ffp-contract=off")
        .flag("-fno-strict-aliasing")
        .flag_if_supported("-fexcess-precision=standard")
        .warnings(true)
        .extra_warnings(true)
        .compile("fulltime_kernels_cpu");
    println!("cargo:rustc-link-lib=m");
}
