"""Containers without a daemon and without a registry: a base made by debootstrap, images built in a chroot, storage and
networks of the run's own. Nothing of the machine's own podman is touched."""

import json
import os
import shutil
import subprocess
import tempfile
import atexit
from pathlib import Path

from lib import ROOT, Skipped, binary, tool

# Kept between runs: the base takes half a minute and a download.
KEPT = Path(os.environ.get("FULLTIME_CONTAINERS", ROOT / "out/containers"))
BASE = "localhost/debian:bookworm"


class Podman:
    """podman and buildah over a storage below out/containers."""

    def __init__(self):
        missing = [name for name in ("podman", "buildah", "runc", "debootstrap") if not shutil.which(name)]
        if os.geteuid() != 0:
            raise Skipped("only root builds and runs containers here")
        if missing:
            raise Skipped(f"{', '.join(missing)} missing (apt-get install podman buildah runc netavark aardvark-dns debootstrap)")
        KEPT.mkdir(parents=True, exist_ok=True)
        # Sockets lie in it, whose paths have to be short.
        self.run_root = Path(tempfile.mkdtemp(prefix="ft-"))
        # Overlays where the file system bears them; whole copies otherwise, which take long.
        for driver in ("overlay", "vfs"):
            # Images are kept; what is remembered of containers names a folder of a run that is over.
            shutil.rmtree(KEPT / driver / "libpod", ignore_errors=True)
            self.storage = ["--root", KEPT / driver, "--runroot", self.run_root / driver, "--storage-driver", driver]
            if subprocess.run(["podman", *self.storage, "info"], capture_output=True).returncode == 0:
                break
        self.engine = [*self.storage, "--cgroup-manager", "cgroupfs", "--runtime", shutil.which("runc"),
                       "--network-config-dir", self.run_root / "networks", "--tmpdir", self.run_root / "tmp"]
        configuration = self.run_root / "containers.conf"
        # Others' limits may be above what this machine allows.
        configuration.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
                                 '[engine]\nevents_logger = "file"\n')
        self.environment = {**os.environ, "CONTAINERS_CONF": str(configuration), "BUILDAH_FORMAT": "docker"}
        self.networks = []
        atexit.register(self._clean)

    def _clean(self):
        self("rm", "--all", "--force", "--time", "0", "--volumes", fails=True)
        self("pod", "rm", "--all", "--force", "--time", "0", fails=True)
        for network in self.networks:
            self("network", "rm", "--force", network, fails=True)
        shutil.rmtree(self.run_root, ignore_errors=True)

    def _run(self, command, fails=False, **how):
        ran = subprocess.run([str(word) for word in command], env=self.environment, capture_output=True, text=True, **how)
        assert fails or ran.returncode == 0, f"{' '.join(map(str, command[:1] + command[len(self.engine) + 1:]))}: {ran.stderr[-2000:]}"
        return ran

    def __call__(self, *words, fails=False, **how):
        """Runs podman; what it said, or how it ended where it may fail."""
        ran = self._run(["podman", *self.engine, *words], fails, **how)
        return ran if fails else ran.stdout.strip()

    def base(self):
        """The image that all others stand on."""
        if self("image", "exists", BASE, fails=True).returncode == 0:
            return
        tree = KEPT / "base"
        shutil.rmtree(tree, ignore_errors=True)
        made = subprocess.run(["debootstrap", "--variant=minbase", "bookworm", tree], capture_output=True, text=True)
        if made.returncode != 0:
            raise Skipped(f"debootstrap: {made.stdout[-300:]}")
        self._import(tree)
        shutil.rmtree(tree)

    def _import(self, tree):
        tar = subprocess.Popen(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE)
        self("import", "-", BASE, stdin=tar.stdout)
        tar.wait()

    def build(self, tag, file, *more, context=ROOT):
        """Builds a file with the base for every pinned image."""
        pins = [word for name in ("BASE_IMAGE", "RUST_IMAGE", "PYTHON_IMAGE") for word in ("--build-arg", f"{name}={BASE}")]
        # Steps are remembered where that does not copy the whole image each time.
        layers = ["--layers"] if "overlay" in self.storage else []
        self._run(["buildah", *self.storage, "build", "--isolation", "chroot", *layers, *pins, *more, "--file", file,
                   "--tag", tag, context])

    def size(self, image):
        return int(self("image", "inspect", "--format", "{{.Size}}", image))

    def state(self, container):
        return json.loads(self("container", "inspect", container))[0]["State"]

    def address(self, container):
        networks = json.loads(self("container", "inspect", container))[0]["NetworkSettings"]["Networks"]
        return next(iter(networks.values()))["IPAddress"]

    def network(self):
        name = f"fulltime-{os.getpid()}-{len(self.networks)}"
        self("network", "create", name)
        self.networks.append(name)
        return name

    def wait(self, container, seconds):
        """The exit code of a container that is about to end."""
        try:
            return int(self("wait", container, timeout=seconds))
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"{container} still runs after {seconds} s") from late

    def ours(self, version):
        """Builds the images of this project from the built binaries; their names by part."""
        self.base()
        parts = self.run_root / "parts"
        for name in ("fulltime", "fulltime-worker", "fulltime-coordinator"):
            (parts / "binaries").mkdir(parents=True, exist_ok=True)
            subprocess.run(["strip", "-o", parts / "binaries" / name, binary(name)], check=True)
        runtime = os.environ.get("ORT_DYLIB_PATH", ROOT / ".tools/lib/libonnxruntime.so")
        if not Path(runtime).is_file():
            raise Skipped("no libonnxruntime.so (cargo xtask setup fetches it)")
        (parts / "runtime").mkdir()
        shutil.copy(runtime, parts / "runtime/libonnxruntime.so")
        given = ["--build-context", f"binaries={parts / 'binaries'}"]
        folder = ROOT / "deploy/containers"
        names = {part: f"localhost/fulltime/{part}:{version}" for part in ("coordinator", "worker-cpu", "cli")}
        self.build(names["coordinator"], folder / "coordinator.Containerfile", *given)
        given += ["--build-context", f"runtime={parts / 'runtime'}"]
        self.build(names["worker-cpu"], folder / "worker-cpu.Containerfile", *given)
        self.build(names["cli"], folder / "worker-cpu.Containerfile", "--target", "cli", *given)
        # Stand-ins for images of others: the same programs on the base. For this run alone.
        for part, program, variable in (("nats", "nats-server", "FULLTIME_NATS_SERVER"), ("s3", "weed", "FULLTIME_WEED")):
            context = parts / part
            context.mkdir()
            shutil.copy(tool(program, variable), context / program)
            (context / "Containerfile").write_text(
                f"FROM {BASE}\n"
                # Images of others have busybox; their health checks use it.
                "RUN apt-get update -q && apt-get install -y -q --no-install-recommends busybox && ln -s /bin/busybox /usr/bin/wget\n"
                f"COPY --chmod=755 {program} /usr/local/bin/{program}\nUSER 65532:65532\nENTRYPOINT [\"{program}\"]\n")
            names[part] = f"localhost/fulltime-stand/{part}:{version}"
            self.build(names[part], context / "Containerfile", context=context)
        shutil.rmtree(parts)
        return names
