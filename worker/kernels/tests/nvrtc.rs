//! The kernels through NVRTC, which needs neither a GPU nor a driver: they compile for every architecture, to the arithmetic
//! that was meant.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

use fulltime_common::process;
use fulltime_kernels::{Cache, Compiler, KERNELS, KernelError, Kind, Launch, SOURCE, Source, Target};

/// NVRTC, unless it is absent: then the test says so and passes.
fn compiler() -> Option<Compiler> {
    let Some(path) = process::nvrtc() else {
        println!("skipped: no NVRTC here, `cargo xtask test` brings one");
        return None;
    };
    Some(Compiler::load(&path).unwrap())
}

/// What must be there whatever else this NVRTC knows: Turing to Blackwell.
const NEEDED: [u32; 6] = [75, 80, 86, 89, 90, 100];

fn ptx(compiler: &Compiler, architecture: u32) -> String {
    String::from_utf8(compiler.compile(&SOURCE, Target::Ptx(architecture)).unwrap()).unwrap()
}

#[test]
fn every_kernel_compiles_for_every_architecture_from_turing_on() {
    let Some(compiler) = compiler() else { return };
    let offered = compiler.architectures();
    println!("NVRTC {:?} offers {offered:?}", compiler.version());
    assert!(NEEDED.iter().all(|needed| offered.contains(needed)), "{offered:?}");
    for &architecture in offered.iter().filter(|&&architecture| architecture >= NEEDED[0]) {
        let text = ptx(&compiler, architecture);
        assert!(text.contains(&format!(".target sm_{architecture}")), "{architecture}");
        for kernel in KERNELS {
            assert!(text.contains(&format!(".visible .entry {kernel}(")), "{kernel} for {architecture}");
        }
        // And down to machine code: what the driver would do with the PTX.
        let code = compiler.compile(&SOURCE, Target::Cubin(architecture)).unwrap();
        assert_eq!(&code[..4], b"\x7fELF", "{architecture}");
    }
}

/// An unrounded `add` or `mul` may be fused by the driver's assembler; `.rn` may not (PTX ISA, floating-point instructions).
#[test]
fn floats_are_neither_fused_nor_approximated_nor_flushed() {
    let Some(compiler) = compiler() else { return };
    for architecture in NEEDED {
        let text = ptx(&compiler, architecture);
        let mut seen = 0;
        for line in text.lines().map(str::trim) {
            let word = line.split_whitespace().next().unwrap_or_default().trim_end_matches(';');
            assert!(!word.contains(".ftz") && !word.contains(".approx") && !word.contains(".full"), "{line}");
            assert!(!word.starts_with("fma."), "{line}");
            if word.ends_with(".f32") && ["add.", "sub.", "mul.", "div."].iter().any(|start| word.starts_with(start)) {
                assert!(word.contains(".rn."), "{line}");
                seen += 1;
            }
        }
        assert!(seen > 40, "only {seen} operations on floats");
    }
}

#[test]
fn arguments_have_the_size_that_the_compiler_gives_them() {
    let Some(compiler) = compiler() else { return };
    let text = ptx(&compiler, 90);
    for launch in Launch::of_every_kernel() {
        let kernel = launch.kernel();
        // .param .align 8 .b8 prepare_param_0[128]
        let declared = format!("{kernel}_param_0[{}]", launch.argument_len());
        assert!(text.contains(&declared), "{declared}");
    }
}

#[test]
fn a_mistake_in_the_source_is_told_with_file_and_line() {
    let Some(compiler) = compiler() else { return };
    let broken = Source {
        name: "all.cu",
        text: "#include \"types.h\"\n#include \"broken.cu\"\n",
        headers: &[SOURCE.headers[0], ("broken.cu", "KERNEL broken(int n) {\n    n = nowhere;\n}\n")],
    };
    let error = compiler.compile(&broken, Target::Ptx(80)).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("compile `all.cu` for compute_80:\n"), "{text}");
    assert!(text.contains("broken.cu(2): error: identifier \"nowhere\" is undefined"), "{text}");
    assert_eq!(error.kind(), Kind::Bug);
    let error = compiler.compile(&SOURCE, Target::Ptx(12)).unwrap_err();
    assert!(matches!(error, KernelError::Nvrtc { .. }), "{error}");
}

#[test]
fn what_was_compiled_once_is_not_compiled_again_until_it_is_damaged() {
    let Some(compiler) = compiler() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(&folder.path().join("made/on/demand"));
    let first = cache.ptx(&compiler, &SOURCE, 80).unwrap();
    let again = cache.ptx(&compiler, &SOURCE, 80).unwrap();
    assert!(first.compiled && !again.compiled);
    assert_eq!(first.text, again.text);
    assert!(cache.ptx(&compiler, &SOURCE, 90).unwrap().compiled, "another architecture is another entry");

    let entries: Vec<_> =
        std::fs::read_dir(folder.path().join("made/on/demand")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(entries.len(), 2);
    for entry in &entries {
        let whole = std::fs::read(entry).unwrap();
        std::fs::write(entry, &whole[..whole.len() / 2]).unwrap();
    }
    let repaired = cache.ptx(&compiler, &SOURCE, 80).unwrap();
    assert!(repaired.compiled && repaired.text == first.text);
    assert!(!cache.ptx(&compiler, &SOURCE, 80).unwrap().compiled);
}

#[test]
fn lanes_that_start_together_all_get_whole_entries() {
    let Some(compiler) = compiler() else { return };
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<String> = std::thread::scope(|scope| {
        let lane = || Cache::new(folder.path()).ptx(&compiler, &SOURCE, 86).unwrap().text;
        let lanes: Vec<_> = (0..4).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
    });
    assert!(texts.iter().all(|text| *text == texts[0]));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 1, "one entry and no leftovers: {left:?}");
}

#[test]
fn a_cache_that_cannot_be_written_costs_time_only() {
    let Some(compiler) = compiler() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    let cache = Cache::new(&file.path().join("below/a/file"));
    assert!(cache.ptx(&compiler, &SOURCE, 75).unwrap().compiled);
}

#[test]
fn a_missing_or_wrong_library_is_an_error_with_a_way_out() {
    let error = Compiler::load(std::path::Path::new("/nowhere/libnvrtc.so.13")).unwrap_err();
    assert_eq!(error.to_string(), "load NVRTC from `/nowhere/libnvrtc.so.13`");
    assert_eq!(error.kind(), Kind::Runtime);
    assert!(error.hint().is_some_and(|hint| hint.contains("FULLTIME_NVRTC")));
    let error = Compiler::load(std::path::Path::new("libc.so.6")).unwrap_err();
    assert_eq!(error.to_string(), "`libc.so.6` is no usable NVRTC: it lacks `nvrtcVersion`");
}
