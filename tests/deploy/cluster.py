"""A cluster of containers on a network of its own, found by name: broker, S3 gateway, coordinators, workers."""

import hashlib
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from lib import ROOT, binary, folder, wait_until

LOCKED = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp"]
S3 = {"AWS_ACCESS_KEY_ID": "fulltime", "AWS_SECRET_ACCESS_KEY": "fulltime-secret", "AWS_REGION": "us-east-1",
      "AWS_ENDPOINT": "http://s3:8333", "AWS_ALLOW_HTTP": "true"}


def version():
    return re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def synth(out, name, seed, seconds):
    subprocess.run([binary("fulltime-synth"), "match", "--name", name, "--out", out, "--seed", str(seed), "--duration",
                    f"{seconds}s", "--size", "320x180"], check=True, capture_output=True)


class Cluster:
    def __init__(self, podman, images, workers, coordinators, s3=False):
        self.podman, self.images, self.s3 = podman, images, s3
        self.dir = folder()
        self.dir.chmod(0o755)
        self.shared = self.dir / "shared"
        self.shared.mkdir(mode=0o777)
        self.shared.chmod(0o777)
        self.network = podman.network()
        self.parts = []
        environment = [f"--env={key}={value}" for key, value in S3.items()] if s3 else []
        self.start("nats", images["nats"], ["-js", "-sd", "/tmp/js"], [])
        if s3:
            (self.dir / "s3.json").write_text(json.dumps({"identities": [{
                "name": "test", "credentials": [{"accessKey": S3["AWS_ACCESS_KEY_ID"], "secretKey": S3["AWS_SECRET_ACCESS_KEY"]}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}))
            self.start("s3", images["s3"],
                       ["server", "-dir=/tmp", "-ip=s3", "-ip.bind=0.0.0.0", "-volume.max=20", "-s3", "-s3.port=8333",
                        "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=/s3.json"],
                       [f"--volume={self.dir / 's3.json'}:/s3.json:ro"])
            self.filer = f"http://{podman.address(self.name('s3'))}:8888/buckets/season"
            wait_until("the gateway takes objects", lambda: self.put("probe", b"up"), 90)
        state = "s3://season/state" if s3 else "/shared/state"
        self.common = [f"--volume={self.shared}:/shared", *environment, "--env=FULLTIME_NATS=nats://nats:4222",
                       f"--env=FULLTIME_STATE={state}"]
        for n in range(coordinators):
            self.start(f"coordinator-{n}", images["coordinator"], [], self.common)
        for n in range(workers):
            self.start(f"worker-{n}", images["worker-cpu"],
                       ["--engine=sim", "--sim=item-ms=16", "--lanes=1", f"--name=worker-{n}", "--lease=4s", "--grace=3s"],
                       self.common)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _trace):
        if error is not None:
            for part in self.parts:
                print(f"=== {part}\n{self.log(part)[-3000:]}")
        for part in reversed(self.parts):
            self.podman("rm", "--force", "--time", "0", "--volumes", self.name(part), fails=True)

    def name(self, part):
        return f"{self.network}-{part}"

    def start(self, part, image, arguments, options):
        if "coordinator" in part:
            arguments = [*arguments, "--lease=4s"]
        self.podman("run", "--detach", "--name", self.name(part), "--hostname", part, "--network", self.network,
                    "--network-alias", part, *LOCKED, *options, image, *arguments)
        self.parts.append(part)

    def log(self, part):
        ran = self.podman("logs", self.name(part), fails=True)
        return ran.stdout + ran.stderr

    def restart_whoever_ended(self):
        """As a cluster does with its pods."""
        for part in self.parts:
            if self.podman.state(self.name(part))["Status"] in ("exited", "stopped"):
                self.podman("start", self.name(part))

    def cli(self, *words, fails=False):
        return self.podman("run", "--rm", "--network", self.network, *LOCKED, *self.common,
                           f"--volume={ROOT / 'models'}:/models:ro", self.images["cli"], *words, fails=fails)

    def wait_for_worker(self, part):
        wait_until(f"{part} is up", lambda: "worker started" in self.log(part) or self.restart_whoever_ended(), 90)
        wait_until("a coordinator answers", self.answers, 60)

    def answers(self):
        return self.cli("status", "--json", fails=True).returncode == 0

    def processes(self, part, name):
        """Process ids in a container by the name that the kernel has."""
        script = 'for p in /proc/[0-9]*; do read -r c < $p/comm && echo "${p#/proc/} $c"; done'
        ran = self.podman("exec", self.name(part), "bash", "-c", script, fails=True)
        rows = [line.split(" ", 1) for line in ran.stdout.splitlines()]
        return {int(pid) for pid, comm in rows if comm.startswith(name)}

    def zombies(self, part):
        ran = self.podman("exec", self.name(part), "bash", "-c", "cat /proc/[0-9]*/stat", fails=True)
        return [line for line in ran.stdout.splitlines() if ") Z " in line]

    # The store, past the S3 gateway's door.

    def put(self, key, body):
        try:
            request = urllib.request.Request(f"{self.filer}/{key}", data=body, method="PUT")
            return urllib.request.urlopen(request, timeout=10).status < 300
        except (urllib.error.URLError, OSError):
            return False

    def get(self, key):
        return urllib.request.urlopen(f"{self.filer}/{key}", timeout=10).read()

    def list(self, key):
        request = urllib.request.Request(f"{self.filer}/{key}/?limit=10000", headers={"Accept": "application/json"})
        entries = json.load(urllib.request.urlopen(request, timeout=10)).get("Entries") or []
        for entry in entries:
            inner = f"{key}/{Path(entry['FullPath']).name}"
            # A folder has the bit of Go's file modes.
            if entry["Mode"] & (1 << 31):
                yield from self.list(inner)
            else:
                yield inner

    def upload_season(self, matches, seconds):
        made = self.dir / "season"
        for n in range(matches):
            synth(made, f"m{n}", 20 + n, seconds)
        for path in made.rglob("*.mp4"):
            assert self.put(f"archive/{path.name}", path.read_bytes())
        return "s3://season/archive"

    def tables(self, out, job):
        """Digests of a job's tables by key below its folder."""
        top = f"{out}/jobs/{job}/g1"
        keys = [key for table in ("detections", "tracks", "players") for key in self.list(f"{top}/{table}")]
        return {key.removeprefix(top): hashlib.sha256(self.get(key)).hexdigest() for key in keys}

    def is_finished(self, out, job):
        try:
            return bool(self.get(f"{out}/jobs/{job}/g1/manifest.json"))
        except urllib.error.HTTPError:
            return False

    # Jobs.

    def submit(self, archive, out):
        self.begun = time.monotonic()
        place = f"s3://season/{out}" if self.s3 else f"/shared/{out}"
        said = self.cli("submit", "--archive", archive, "--out", place, "--pipeline",
                        "/models/synth-detector/pipeline.toml", "--shard-length", "2s")
        return said.split()[-1]

    def job(self, job):
        ran = self.cli("status", "--json", job, fails=True)
        return json.loads(ran.stdout.splitlines()[-1])["jobs"][0] if ran.returncode == 0 else None

    def progress(self, job):
        """The share of a job's shards that is done; `None` where no coordinator answers."""
        status = self.job(job)
        return status and status["shards_done"] / max(status["shards"], 1)

    def wait_for_progress(self, job, share):
        wait_until(f"{job} gets going", lambda: (self.progress(job) or 0) >= share, 90)

    def leader(self):
        """Who leads: the last coordinator that said so."""
        leading = [part for part in self.parts if part.startswith("coordinator") and re.search(r"lead", self.log(part))]
        assert leading, "nobody says that it leads"
        return max(leading, key=lambda part: max(re.findall(r"\d{4}-\d\d-\d\dT[\d:.]+Z(?=[^\n]*lead)", self.log(part)) or [""]))

    def finish(self, job, seconds):
        def over():
            self.restart_whoever_ended()
            status = self.job(job)
            return status and status["state"] in ("finished", "failed", "cancelled", "paused") and status

        status = wait_until(f"{job} ends", over, seconds)
        assert status["state"] == "finished" and status["quarantined"] == 0, status
        return time.monotonic() - self.begun

    def run_job(self, archive, out):
        job = self.submit(archive, out)
        return job, self.finish(job, 300)
