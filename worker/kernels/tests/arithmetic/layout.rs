//! What both languages must agree on.

use std::path::Path;

use fulltime_kernels::{KERNELS, Launch};

#[test]
fn arguments_have_the_size_that_the_source_gives_them() {
    let launches = Launch::of_every_kernel();
    for launch in &launches {
        assert_eq!(
            fulltime_kernels_cpu::argument_len(launch.kernel()),
            Some(launch.argument_len()),
            "{}",
            launch.kernel()
        );
    }
    assert_eq!(launches.each_ref().map(Launch::kernel), KERNELS);
}

#[test]
fn every_kernel_of_the_source_has_a_launch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("KERNEL ")) {
            let name = line.split('(').next().unwrap();
            assert!(KERNELS.contains(&name), "{name}");
            found += 1;
        }
    }
    assert_eq!(found, KERNELS.len());
}
