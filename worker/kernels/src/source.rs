//! The kernels' source as it is handed to NVRTC, and what it is called there.

/// A translation unit with the files that it includes.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
    /// Name in the `#include` and text.
    pub headers: &'a [(&'a str, &'a str)],
}

/// All kernels.
pub const SOURCE: Source<'static> = Source {
    name: "all.cu",
    text: include_str!("../kernels/all.cu"),
    headers: &[
        ("types.h", include_str!("../kernels/types.h")),
        ("prepare.cu", include_str!("../kernels/prepare.cu")),
        ("people.cu", include_str!("../kernels/people.cu")),
        ("suppress.cu", include_str!("../kernels/suppress.cu")),
        ("hash.cu", include_str!("../kernels/hash.cu")),
        ("standin.cu", include_str!("../kernels/standin.cu")),
    ],
};

/// Arithmetic as written: nothing contracted, approximated or flushed to zero. Part of every result's reproducibility.
pub const OPTIONS: [&str; 5] = ["--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"];
