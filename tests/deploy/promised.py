"""What manifests may use although the binaries do not know it yet, and who will bring it. Take a line away when it is
there: the cases say so."""

PROMISED = {
    "fulltime-coordinator": {"--listen", "--api-token-file", "FULLTIME_LISTEN", "FULLTIME_REDIS"},
    "fulltime-worker": {"--listen", "--api-token-file", "FULLTIME_LISTEN", "--pin", "--gpus", "FULLTIME_REDIS"},
}

# The metrics that dashboard, alerts and autoscalers use.
METRICS = {"fulltime_backlog_tasks": {"class"}, "fulltime_leading": set(), "fulltime_lanes": {"state"}}
