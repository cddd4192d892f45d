"""Makes the Python environment of the model toolchain: `python3 models/setup_cpu.py` (standard library only).

The only torch on PyPI is the CUDA build, and its libraries name a dozen CUDA libraries that they never call on a CPU.
Instead of 2 GB of wheels this installs the two small ones that are really entered at load time and links a stub for
each of the others: the loader finds every name and every symbol version, and a call into a stub traps at once.
Needs python3 with venv, gcc and binutils. A second run does nothing.
"""

import argparse
import collections
import hashlib
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
DEFAULT_VENV = HERE.parent / ".tools" / "models-venv"

# Libraries of the wheel that refer to CUDA, and the prefixes of what they refer to.
REFERRING = ("libtorch_cuda", "libtorch_nvshmem", "libtorch_cuda_linalg", "libtorch_python", "libc10_cuda")
CUDA_LIBRARY = re.compile(r"NEEDED.*\[(lib(?:cu|nv|nccl)[^\]]+)\]")
CUDA_SYMBOL = re.compile(r"(cublas|cudnn|cufft|cuFile|curand|cusolver|cusparse|nccl|nvrtc|nvshmem)")
REAL = ("libcudart", "libcupti")


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def make_stubs(torch_lib: pathlib.Path) -> None:
    """A stub beside torch's own libraries (their run path starts at $ORIGIN) for every CUDA library they need."""
    versions, symbols, needed = collections.defaultdict(set), set(), set()
    for name in REFERRING:
        library = str(torch_lib / f"{name}.so")
        needed |= set(CUDA_LIBRARY.findall(output("readelf", "-dW", library)))
        wanted_from = None
        for line in output("readelf", "-VW", library).splitlines():
            if match := re.search(r"Version: 1\s+File: (\S+)", line):
                wanted_from = match[1]
            elif (match := re.search(r"Name: (\S+)\s+Flags", line)) and wanted_from:
                versions[wanted_from].add(match[1])
        undefined = (
            line.split()[-1].split("@")[0] for line in output("nm", "-D", "--undefined-only", library).splitlines()
        )
        symbols |= {symbol for symbol in undefined if CUDA_SYMBOL.match(symbol)}

    labels = "".join(f".globl {s}\n.type {s},@function\n{s}:\n" for s in sorted(symbols))
    source, script = torch_lib / "stub.s", torch_lib / "stub.ver"
    source.write_text(f'.text\n{labels}ud2\n.section .note.GNU-stack,"",@progbits\n')
    for soname in sorted(name for name in needed if not name.startswith(REAL)):
        command = ["gcc", "-shared", "-nostdlib", f"-Wl,-soname,{soname}", "-o", str(torch_lib / soname), str(source)]
        if versions[soname]:
            (version,) = versions[soname]
            script.write_text(f"{version} {{ global: *; }};\n")
            command.append(f"-Wl,--version-script={script}")
        subprocess.run(command, check=True)
    source.unlink()
    script.unlink(missing_ok=True)


def install(venv: pathlib.Path, find_links: str | None = None) -> pathlib.Path:
    """Makes the environment unless it is there already; its interpreter."""
    python, stamp = venv / "bin" / "python", venv / "requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing the model toolchain into {venv}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(REQUIREMENTS)]
    subprocess.run(pip + (["--find-links", find_links] if find_links else []), check=True)
    site = pathlib.Path(output(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    make_stubs(site / "torch" / "lib")
    # The proof that matters: torch loads and multiplies.
    check = "import torch; assert float(torch.ones(2, 2).mm(torch.ones(2, 2)).sum()) == 8"
    subprocess.run([str(python), "-c", check], check=True)
    stamp.write_text(wanted)
    return python


def enter() -> None:
    """Goes on in the environment: for scripts that anyone starts with any python3. `FULLTIME_MODELS_VENV` moves it."""
    venv = pathlib.Path(os.environ.get("FULLTIME_MODELS_VENV", DEFAULT_VENV))
    if pathlib.Path(sys.prefix).resolve() != venv.resolve():
        python = install(venv)
        os.execv(python, [str(python), *sys.argv])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--venv", type=pathlib.Path, default=DEFAULT_VENV, help="where to (default: %(default)s)")
    parser.add_argument("--find-links", help="folder with wheels to use before the package index")
    options = parser.parse_args()
    print(install(options.venv, options.find_links))


if __name__ == "__main__":
    main()
