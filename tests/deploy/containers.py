#!/usr/bin/env python3
"""Containers for real: the images are built and run, a cluster of them is killed, paused and cut off in mid-job, and what
the chart renders finishes a job under `podman play kube`. Takes minutes, root, podman, buildah, runc and debootstrap; says
so and skips where they are missing. Part of `cargo xtask test --full`."""

import functools
import os
import sys
import time
from pathlib import Path

import run

if __name__ == "__main__":
    python = run.ready()
    if Path(sys.prefix).resolve() != run.VENV.resolve():
        os.execv(python, [python, __file__, *sys.argv[1:]])

import cluster
from lib import Skipped, Suite, folder, help_of, main, wait_until
from podman import BASE, Podman

suite = Suite("containers")
MB = 1_000_000


@functools.cache
def setup():
    podman = Podman()
    return podman, podman.ours(cluster.version())


def listens():
    return "--listen" in help_of("fulltime-worker")


@suite.case
def images_are_small():
    podman, images = setup()
    base = podman.size(BASE)
    over = {part: (podman.size(images[part]) - base) / MB for part in ("coordinator", "worker-cpu", "cli")}
    assert over["coordinator"] < 60 and over["worker-cpu"] < 250, over
    return ", ".join(f"{part} {size:.0f} MB" for part, size in over.items()) + f" beyond the base of {base / MB:.0f} MB"


@suite.case
def entry_points_run_as_nobody_on_a_root_that_cannot_be_written():
    podman, images = setup()
    locked = ["run", "--rm", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=none"]
    for part, program in (("coordinator", "fulltime-coordinator"), ("worker-cpu", "fulltime-worker"), ("cli", "fulltime")):
        said = podman(*locked, images[part], "--version")
        assert said == f"{program} {cluster.version()}", said
        assert podman(*locked, "--entrypoint=id", images[part], "-u") == "65532"
        for path in ("/", "/usr/local/bin", "/etc", "/var/lib"):
            tried = podman(*locked, "--entrypoint=touch", images[part], f"{path}/x", fails=True)
            assert tried.returncode != 0 and "ead-only" in tried.stderr, f"{part}: {path} can be written: {tried.stderr}"
        missing = podman(*locked, "--entrypoint=ldd", images[part], f"/usr/local/bin/{program}")
        assert "not found" not in missing, missing
        # No file gives its caller another's rights, apart from what the distribution brings.
        configured = podman("image", "inspect", "--format", "{{.Config.User}} {{.Config.StopSignal}}", images[part])
        assert configured.startswith("65532:65532"), configured
    podman(*locked, "--entrypoint=touch", images["worker-cpu"], "/var/cache/fulltime/x")


@suite.case
def a_daemon_without_its_broker_says_so_and_ends():
    podman, images = setup()
    for part, arguments, code in (("coordinator", ["--state", "/tmp/state"], 7), ("worker-cpu", ["--engine", "sim"], 7)):
        ran = podman("run", "--rm", "--read-only", "--network=none", images[part], *arguments, fails=True, timeout=60)
        assert ran.returncode == code and "NATS" in ran.stderr, f"{part}: {ran.returncode} {ran.stderr}"


@suite.case
def signals_end_the_first_process_in_order():
    podman, images = setup()
    with cluster.Cluster(podman, images, workers=1, coordinators=1) as it:
        it.wait_for_worker("worker-0")
        # A lane's process that dies is replaced and leaves no zombie with the container's first process.
        lanes = lambda: it.processes("worker-0", "fulltime-worke")  # noqa: E731
        before = lanes()
        assert len(before) >= 2, f"no lane beside the worker: {before}"
        lane = max(before)
        podman("exec", it.name("worker-0"), "bash", "-c", f"kill -9 {lane}")
        wait_until("the lane is replaced", lambda: lane not in lanes() and len(lanes()) >= 2, 30)
        assert not it.zombies("worker-0")
        for part, seconds in (("worker-0", 15), ("coordinator-0", 15)):
            begun = time.monotonic()
            podman("kill", "--signal", "TERM", it.name(part))
            code = podman.wait(it.name(part), seconds)
            assert code == 0, f"{part} ended with {code}:\n{it.log(part)}"
            print(f"         {part} ended {time.monotonic() - begun:.1f} s after SIGTERM")


@suite.case
def health_checks_tell_the_truth():
    if not listens():
        raise Skipped("the binaries have no --listen yet")
    podman, images = setup()
    with cluster.Cluster(podman, images, workers=1, coordinators=1) as it:
        it.wait_for_worker("worker-0")
        for part in ("coordinator-0", "worker-0"):
            name = it.name(part)
            wait_until(f"{part} is healthy", lambda: podman("healthcheck", "run", name, fails=True).returncode == 0, 60)
            assert podman.state(name)["Running"]
    absent = podman("run", "--rm", "--network=none", "--entrypoint=healthy", images["worker-cpu"], "9871", fails=True)
    assert absent.returncode != 0


@suite.case
def a_job_survives_kills_pauses_and_cut_networks_with_the_same_bytes():
    podman, images = setup()
    with cluster.Cluster(podman, images, workers=3, coordinators=2, s3=True) as it:
        for n in range(3):
            it.wait_for_worker(f"worker-{n}")
        archive = it.upload_season(matches=3, seconds=32)
        calm, calm_seconds = it.run_job(archive, "calm")
        expected = it.tables("calm", calm)
        assert len(expected) == 9, sorted(expected)

        job = it.submit(archive, "storm")
        it.wait_for_progress(job, 0.05)
        said = []

        def does(what, *words):
            podman(*words)
            done = it.progress(job)
            said.append(what if done is None else f"{what} at {done:.0%}")

        leader = it.leader()
        network = it.network
        does("killed worker-0", "kill", "--signal", "KILL", it.name("worker-0"))
        does("paused worker-1", "pause", it.name("worker-1"))
        time.sleep(3)
        does(f"killed the leading {leader}", "kill", "--signal", "KILL", it.name(leader))
        does("started worker-0", "start", it.name("worker-0"))
        wait_until("the standby leads", lambda: it.answers(), 60)
        does("cut off worker-2", "network", "disconnect", network, it.name("worker-2"))
        # Longer than the leases: what they had is done by others.
        time.sleep(6)
        assert not it.is_finished("storm", job), "the job was over before the broker was lost"
        # The broker's storage is memory of its container: it comes back with nothing.
        does("killed the broker and all that it kept", "kill", "--signal", "KILL", it.name("nats"))
        does("resumed worker-1", "unpause", it.name("worker-1"))
        does("started the broker", "start", it.name("nats"))
        does("reconnected worker-2", "network", "connect", "--alias", "worker-2", network, it.name("worker-2"))
        does(f"started {leader}", "start", it.name(leader))
        it.restart_whoever_ended()
        storm_seconds = it.finish(job, 300)
        it.restart_whoever_ended()
        found = it.tables("storm", job)
        assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
        other = [key for key in expected if found[key] != expected[key]]
        assert not other, f"other bytes: {other}"
        print("         " + "; ".join(said))
        return f"{len(expected)} tables, {calm_seconds:.0f} s calm, {storm_seconds:.0f} s in the storm"


@suite.case
def the_services_of_one_machine_start_as_the_compose_file_says():
    from composed import LEFT_OUT, Composed

    podman, images = setup()
    archive = folder() / "archive"
    cluster.synth(archive, "m0", 41, 8)
    archive.parent.chmod(0o755)
    with Composed(podman, images, archive) as it:
        it.start("prepare", wait=True)
        it.up("nats")
        it.up("s3")
        said = f"without {', '.join(LEFT_OUT)}, whose images cannot be had here"
        if not listens():
            return said + "; and without coordinator and worker: they have no --listen yet"
        it.start("coordinator")
        if wait_until("the coordinator is there or refused", lambda: it.ended("coordinator") or it.answers("coordinator"), 60) == 7:
            return said + "; and without coordinator and worker: they have no passwords yet"
        it.up("worker")
        wait_until("a coordinator answers", lambda: it.cli("status", "--json", fails=True).returncode == 0, 60)
        job = it.cli("submit", "--archive", "/archive", "--out", "s3://fulltime/results", "--pipeline",
                     "/usr/share/fulltime/models/synth-detector/pipeline.toml").split()[-1]
        it.cli("watch", job, "--quiet")
        return said


@suite.case
def what_the_chart_renders_runs_a_job():
    podman, images = setup()
    import kube

    return kube.play(podman, images, listens())


if __name__ == "__main__":
    main(suite)
