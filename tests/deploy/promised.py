"""What manifests may use although the binaries do not know it yet, and who will bring it. Take a line away when it is
there: the cases say so."""

PROMISED: dict[str, set[str]] = {}
