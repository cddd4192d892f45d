"""Values that the chart refuses, and the key that its message has to name. Each is laid over the spot-pool example."""

POOL = "pools.spot"


def at(path, value):
    """{a: {b: value}} of `a.b`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


# By the schema: where and what.
SCHEMA = [
    ("replicas", 3),
    ("nats.password", "hunter2"),
    ("storage.credentials.secretKey", "hunter2"),
    ("storage.state", "results"),
    ("storage.endpoint", "s3.example.com"),
    ("storage.allowHttp", "yes"),
    ("storage.credentials.existingSecret", "Not_A_Name"),
    ("storage.credentials.keys", []),
    ("storage.archive.keys", ["lower-case"]),
    ("storage.volumeMounts", [{"name": "x"}]),
    ("imageRegistry", "https://registry.example.com"),
    ("imagePullPolicy", "Sometimes"),
    ("images.coordinator.tag", "latest"),
    ("images.worker-cuda.digest", "sha256:abc"),
    ("images.nats.tag", "latest"),
    ("images.cli.repository", "registry.example.com:5000/cli:1"),
    ("images.webui", {"repository": "x"}),
    ("timing.lease", "10"),
    ("timing.leaderLease", "soon"),
    ("timing.graceSeconds", 0),
    ("timing.stall", 60),
    ("quotas.academy", -1),
    ("quotas.academy", "many"),
    ("logs.format", "xml"),
    ("http.coordinatorPort", 70000),
    ("http.enabled", "true"),
    ("http.token", "hunter2"),
    ("coordinator.replicas", 0),
    ("coordinator.cpu", "fast"),
    ("coordinator.memory", "512MB"),
    ("coordinator.extraArgs", "--alone"),
    (f"{POOL}.kind", "StatefulSet"),
    (f"{POOL}.image", "worker-tpu"),
    (f"{POOL}.cpus", 1.5),
    (f"{POOL}.cpus", "4"),
    (f"{POOL}.memory", "lots"),
    (f"{POOL}.gpu.count", -1),
    (f"{POOL}.gpu.resource", "gpu"),
    (f"{POOL}.pin", "yes"),
    (f"{POOL}.replica", 2),
    (f"{POOL}.graceSeconds", 10000),
    (f"{POOL}.cache.hostPath", "relative/path"),
    (f"{POOL}.autoscaling.kind", "vpa"),
    (f"{POOL}.autoscaling.max", 0),
    (f"{POOL}.autoscaling.tasksPerWorker", 0),
    ("pools.Upper_Case", {}),
    ("autoscaling.scaler", "nats-jetstream"),
    ("autoscaling.prometheusUrl", "prometheus:9090"),
    ("nats.replicas", 2),
    ("nats.url", "nats://user:password@nats.example.com:4222"),
    ("nats.storage.sizeGi", "20Gi"),
    ("redis.enabled", 1),
    ("monitoring.serviceMonitor.interval", "15"),
    ("networkPolicies.store.cidrs", ["10.0.0.1"]),
    ("networkPolicies.store.ports", [0]),
    ("externalSecrets.secretStore.kind", "Vault"),
]

# By the templates: what depends on more than one key.
TEMPLATES = [
    ("storage.state", {"storage": {"state": ""}}),
    ("imageRegistry", {"imageRegistry": ""}),
    ("nats.auth.existingSecret", {"nats": {"auth": {"existingSecret": ""}}, "externalSecrets": {"enabled": False}}),
    ("nats.auth.existingSecret", {"nats": {"auth": {"existingSecret": ""}}}),
    ("nats.tls.existingSecret", {"nats": {"tls": {"existingSecret": ""}}}),
    ("nats.url", {"nats": {"enabled": False}}),
    ("http.existingSecret", {"http": {"existingSecret": ""}, "externalSecrets": {"enabled": False}}),
    ("pools.spot.autoscaling.kind", at("pools.spot.kind", "DaemonSet")),
    ("pools.spot.autoscaling.min", at("pools.spot.autoscaling.kind", "hpa")),
    ("autoscaling.scaler", {"autoscaling": {"scaler": "metrics-api"}}),
    ("pools.spot.autoscaling.classes", {"autoscaling": {"scaler": "metrics-api"}, "coordinator": {"replicas": 1}}),
    ("autoscaling.scaler", {"autoscaling": {"scaler": "metrics-api"}, "coordinator": {"replicas": 1}, "http": {"enabled": False},
                            "monitoring": {"serviceMonitor": {"enabled": False}}}),
    ("monitoring.serviceMonitor.enabled", {"http": {"enabled": False}}),
    ("externalSecrets.secretStore.name", {"externalSecrets": {"secretStore": {"name": ""}}}),
    ("storage.archive.existingSecret", {"storage": {"archive": {"existingSecret": ""}}}),
]
