#!/usr/bin/env python3
"""Tests of what deploys fulltime: container files, compose file, broker roles, Helm chart. Needs python3 and, for some
cases, the binaries and tools of this checkout; what is missing is said, and its cases are skipped. Installs its
requirements into `.tools/deploy` once.

    tests/deploy/run.py [WORDS]     all cases, or those whose name contains the words
    tests/deploy/run.py --bless     writes helm/previous/ anew: after the chart's version was raised

containers.py, which builds and runs images, is a run of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE.parents[1] / ".tools/deploy"


def ready():
    """The interpreter that has the requirements; made where it is missing or another set is wanted."""
    python, wanted = VENV / "bin/python3", (HERE / "requirements.txt").read_text()
    stamp = VENV / "requirements.txt"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print("set-up: installing the requirements of tests/deploy", file=sys.stderr)
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV])
    if made.returncode != 0:
        sys.exit("error: python3 cannot make a virtual environment\n  fix: sudo apt-get install -y python3-venv")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary=:all:", "--requirement"]
    if subprocess.run([*pip, HERE / "requirements.txt"]).returncode != 0:
        sys.exit("error: the requirements cannot be installed\n  fix: check the network, then run it again")
    stamp.write_text(wanted)
    return python


if __name__ == "__main__":
    python = ready()
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(python, [python, __file__, *sys.argv[1:]])
    import chart
    import files
    import lib
    import roles
    import upgrade

    if sys.argv[1:] == ["--bless"]:
        upgrade.bless()
    else:
        lib.main(files.suite, chart.suite, upgrade.suite, roles.suite)
