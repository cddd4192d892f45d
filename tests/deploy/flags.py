"""Arguments and environment in manifests against what the binaries themselves say."""

import re

from lib import help_of
from promised import PROMISED

# Read by libraries: object stores, TLS, ONNX Runtime; and what telemetry reads (common/src/telemetry.rs).
LIBRARIES = re.compile(r"^((FULLTIME_ARCHIVE_)?(AWS|GOOGLE|AZURE)_[A-Z0-9_]+|SSL_CERT_(FILE|DIR)|ORT_DYLIB_PATH|"
                       r"FULLTIME_LOG|FULLTIME_LOG_FORMAT|NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES))$")


def check(program, arguments, variables):
    """Fails on what `program` does not know; says what was promised and is there by now."""
    text = help_of(program)
    promised = PROMISED.get(program, set())
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    known = set(re.findall(r"\[env: ([A-Z_]+)[=\]]", text))
    used = {argument.split("=", 1)[0] for argument in arguments if argument.startswith("--")}
    unknown = used - flags - promised
    assert not unknown, f"{program} has no {', '.join(sorted(unknown))}"
    unknown = {name for name in variables if not LIBRARIES.match(name)} - known - promised
    assert not unknown, f"{program} reads no {', '.join(sorted(unknown))}"
    return sorted(promised & (flags | known))
