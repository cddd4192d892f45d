"""What manifests may use although the binaries do not know it yet, and who will bring it. Take a line away when it is
there: the cases say so."""

PROMISED = {
    # The shared cache.
    "fulltime-coordinator": {"FULLTIME_REDIS"},
    "fulltime-worker": {"FULLTIME_REDIS"},
}
