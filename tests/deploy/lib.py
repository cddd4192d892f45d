"""What all suites here share: where things lie, how cases are run and reported, processes that end with the run."""

import atexit
import contextlib
import functools
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/fulltime"
TOOLS = ROOT / ".tools"
FIRST_PORT, PORTS = 15_000, 17_000


class Skipped(Exception):
    """Why a case cannot be run here. Said, never silent."""


class Suite:
    """Cases in the order of their definition."""

    def __init__(self, name):
        self.name = name
        self.cases = []

    def case(self, function):
        self.cases.append(function)
        return function

    def run(self, only=""):
        """Runs every case and returns how many failed."""
        failed = 0
        for case in self.cases:
            name = f"{self.name}: {case.__name__.replace('_', ' ')}"
            if only not in name:
                continue
            begun = time.monotonic()
            try:
                said = case() or ""
                print(f"ok       {name} ({time.monotonic() - begun:.1f} s){said and ': ' + said}", flush=True)
            except Skipped as why:
                print(f"skipped  {name}: {why}", flush=True)
            except Exception as error:  # noqa: BLE001: whatever a case dies of, the others run
                failed += 1
                print(f"FAILED   {name}: {error}", flush=True)
                if not isinstance(error, AssertionError):
                    traceback.print_exc(limit=-3)
        return failed


def binary(name):
    """A binary of ours: FULLTIME_BIN, or the release build of this checkout."""
    path = Path(os.environ.get("FULLTIME_BIN", ROOT / "target/release")) / name
    if not path.is_file():
        raise Skipped(f"{name} is not built (cargo build --release --workspace --bins, or set FULLTIME_BIN)")
    return path


def tool(name, variable):
    """A program that the set-up fetched: its variable, `.tools/bin`, PATH."""
    found = os.environ.get(variable) or (TOOLS / "bin" / name if (TOOLS / "bin" / name).is_file() else shutil.which(name))
    if not found:
        raise Skipped(f"no {name} (cargo xtask setup fetches it; or set {variable})")
    return Path(found)


@functools.cache
def help_of(name):
    """What `--help` of a binary says, without its environment's values in it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FULLTIME_")}
    return subprocess.run([binary(name), "--help"], env=environment, capture_output=True, text=True, check=True).stdout


_ports = itertools.count(os.getpid() * 127)


def free_port():
    """One below the range from which the kernel serves outgoing connections, as `tests/src/ports.rs`."""
    for step in itertools.islice(_ports, PORTS):
        port = FIRST_PORT + step % PORTS
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


def wait_until(what, holds, patience=60.0):
    until = time.monotonic() + patience
    while True:
        value = holds()
        if value:
            return value
        assert time.monotonic() < until, f"{what}: not within {patience:.0f} s"
        time.sleep(0.05)


_running = []


@atexit.register
def _end_all():
    for process in _running:
        if process.poll() is None:
            process.kill()
            process.wait()


class Process:
    """A process with its output in a file. Ended by id, with the run at the latest."""

    def __init__(self, command, log, **environment):
        self.log = Path(log)
        with open(self.log, "ab") as output:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
            )
        _running.append(self.child)

    def said(self):
        return self.log.read_text(errors="replace")

    def runs(self):
        return self.child.poll() is None

    def end(self, patience=30):
        if self.runs():
            self.child.terminate()
            try:
                self.child.wait(patience)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        return self.child.returncode


def folder():
    """A temporary folder of the run's."""
    path = Path(tempfile.mkdtemp(prefix="fulltime-deploy-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def main(*suites):
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    sys.exit(1 if sum(suite.run(only) for suite in suites) else 0)
