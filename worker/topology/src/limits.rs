//! What of the machine this process may use. The kernel's own answer (`/proc/self/status`) has affinity and cpusets in it,
//! so that a Kubernetes pod with whole cores sees those; limits of memory and time are the tightest of all cgroups above.

use std::path::{Path, PathBuf};

use crate::{CpuSet, Limits, sysfs::text};

/// Version 1 says "unlimited" as the largest multiple of a page; nothing smaller than this is meant so.
const UNLIMITED: u64 = 1 << 60;

pub fn read(root: &Path, online: &CpuSet) -> Limits {
    let status = text(&root.join("proc/self/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    let groups = Groups::find(root);
    let mut cpus = field("Cpus_allowed_list:").unwrap_or_else(|| online.clone());
    // Of a recorded tree, or of a cpuset that was changed this moment.
    let set = groups.first("cpuset", &["cpuset.cpus.effective"], &["cpuset.effective_cpus", "cpuset.cpus"]);
    if let Some(set) = set.and_then(|text| text.parse().ok()) {
        cpus = cpus.intersection(&set);
    }
    Limits {
        cpus,
        nodes: field("Mems_allowed_list:").unwrap_or_default(),
        memory_bytes: groups.memory(),
        cpu_quota: groups.quota(),
        cgroup: groups.version(),
    }
}

/// The folders of this process's groups, by controller, innermost first.
struct Groups {
    unified: Vec<PathBuf>,
    /// `(controllers, folders)` of version 1.
    legacy: Vec<(Vec<String>, Vec<PathBuf>)>,
}

impl Groups {
    fn find(root: &Path) -> Self {
        let base = root.join("sys/fs/cgroup");
        let mut groups = Self { unified: Vec::new(), legacy: Vec::new() };
        for line in text(&root.join("proc/self/cgroup")).unwrap_or_default().lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            if controllers.is_empty() {
                // Beside groups of version 1 the unified tree has a folder of its own, and no controllers.
                if base.join("cgroup.controllers").is_file() {
                    groups.unified = chain(&base, path);
                }
            } else if let Some(mount) =
                [controllers, first(controllers)].map(|name| base.join(name)).iter().find(|m| m.is_dir())
            {
                groups.legacy.push((controllers.split(',').map(str::to_owned).collect(), chain(mount, path)));
            }
        }
        groups
    }

    fn version(&self) -> Option<u8> {
        if !self.unified.is_empty() {
            Some(2)
        } else if !self.legacy.is_empty() {
            Some(1)
        } else {
            None
        }
    }

    fn legacy(&self, controller: &str) -> &[PathBuf] {
        let found = self.legacy.iter().find(|(controllers, _)| controllers.iter().any(|c| c == controller));
        found.map_or(&[], |(_, folders)| folders)
    }

    /// The innermost group's word.
    fn first(&self, controller: &str, unified: &[&str], legacy: &[&str]) -> Option<String> {
        let look = |folders: &[PathBuf], names: &[&str]| {
            folders.iter().find_map(|folder| names.iter().find_map(|name| text(&folder.join(name))))
        };
        look(&self.unified, unified).or_else(|| look(self.legacy(controller), legacy))
    }

    fn memory(&self) -> Option<u64> {
        let number = |path: PathBuf| text(&path)?.parse::<u64>().ok().filter(|bytes| *bytes < UNLIMITED);
        let unified = self.unified.iter().filter_map(|folder| number(folder.join("memory.max")));
        let legacy = self.legacy("memory").iter().filter_map(|folder| number(folder.join("memory.limit_in_bytes")));
        unified.chain(legacy).min()
    }

    fn quota(&self) -> Option<f64> {
        // "max 100000" or "200000 100000"
        let unified = self.unified.iter().filter_map(|folder| {
            let text = text(&folder.join("cpu.max"))?;
            let (quota, period) = text.split_once(' ')?;
            share(quota, period)
        });
        let legacy = self.legacy("cpu").iter().filter_map(|folder| {
            let read = |name: &str| text(&folder.join(name));
            share(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
        });
        unified.chain(legacy).min_by(f64::total_cmp)
    }
}

fn first(controllers: &str) -> &str {
    controllers.split(',').next().unwrap_or_default()
}

/// Microseconds of a period. Version 1 says -1 for no limit.
fn share(quota: &str, period: &str) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|n| *n > 0);
    Some(number(quota)? as f64 / number(period)? as f64)
}

/// The folder and those above it, up to the mount. In a container without a namespace of its own the path names folders
/// of the host: then the mount itself is this group.
fn chain(mount: &Path, path: &str) -> Vec<PathBuf> {
    let folder = mount.join(path.trim_start_matches('/'));
    let folders = folder.ancestors().take_while(|folder| folder.starts_with(mount));
    folders.filter(|folder| folder.is_dir()).map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::tests::tree;

    fn limits(files: &[(&str, &str)]) -> Limits {
        read(tree(files).path(), &"0-15".parse().unwrap())
    }

    #[test]
    fn a_pod_with_whole_cores_sees_those_and_the_tightest_limits_above_it() {
        let limits = limits(&[
            ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t2-5\nMems_allowed_list:\t0\n"),
            ("proc/self/cgroup", "0::/kubepods/pod1/c\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory"),
            ("sys/fs/cgroup/kubepods/memory.max", "max\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.max", "4000000000\n"),
            ("sys/fs/cgroup/kubepods/pod1/c/memory.max", "8000000000\n"),
            ("sys/fs/cgroup/kubepods/pod1/c/cpu.max", "350000 100000\n"),
            ("sys/fs/cgroup/kubepods/pod1/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/kubepods/pod1/c/cpuset.cpus.effective", "2-4\n"),
        ]);
        let expected = Limits {
            cpus: "2-4".parse().unwrap(),
            nodes: "0".parse().unwrap(),
            memory_bytes: Some(4_000_000_000),
            cpu_quota: Some(3.5),
            cgroup: Some(2),
        };
        assert_eq!(limits, expected);
    }

    #[test]
    fn cgroups_of_version_1_are_read_where_they_are_mounted() {
        let limits = limits(&[
            ("proc/self/status", "Cpus_allowed_list:\t0-15\nMems_allowed_list:\t0-1\n"),
            (
                "proc/self/cgroup",
                "9:name=systemd:/\n5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n3:cpuset:/docker/abc\n0::/\n",
            ),
            // No namespace: the container's own groups are at the mounts.
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpuset/cpuset.cpus", "8-15\n"),
        ]);
        assert_eq!((limits.memory_bytes, limits.cpu_quota), (Some(2_000_000_000), Some(1.5)));
        assert_eq!((limits.cpus.to_string(), limits.cgroup), ("8-15".into(), Some(1)));
    }

    #[test]
    fn without_limits_there_are_none() {
        let free = limits(&[
            ("proc/self/cgroup", "4:memory:/\n1:cpu:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!((free.memory_bytes, free.cpu_quota, free.cpus.len()), (None, None, 16));
        assert_eq!(limits(&[]).cgroup, None);
    }
}
