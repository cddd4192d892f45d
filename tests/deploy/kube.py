"""The single-node example of the chart under `podman play kube`: what it cannot express is left out or turned into what it
can, and said; the rest is started as it was rendered, and finishes a job."""

import json

import yaml

import cluster
from lib import folder, wait_until
from rendering import merged, objects_of, texts, values_of

# Kinds that `podman play kube` starts as they are.
STARTED = ("ConfigMap", "PersistentVolumeClaim", "Deployment", "Secret", "Pod")
LEFT_OUT = {
    "Service": "names of Services: each pod is found by its Service's name as an alias on the network",
    "ServiceAccount": "service accounts: there is no API to have an account with",
    "PodDisruptionBudget": "disruption budgets",
    "NetworkPolicy": "network policies",
    "StatefulSet": "StatefulSets: turned into a Deployment of one pod and a claim",
}


def translate(objects):
    """What is started, and a line for everything that is not."""
    started, said = [], set()
    for it in objects:
        if it["kind"] in LEFT_OUT:
            said.add(LEFT_OUT[it["kind"]])
        if it["kind"] == "StatefulSet":
            spec = it["spec"]
            for claim in spec.pop("volumeClaimTemplates"):
                name = f"{it['metadata']['name']}-{claim['metadata']['name']}"
                started.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
                                "spec": claim["spec"]})
                spec["template"]["spec"]["volumes"].append(
                    {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": name}})
            it = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": it["metadata"],
                  "spec": {"replicas": spec["replicas"], "selector": spec["selector"], "template": spec["template"]}}
        if it["kind"] in STARTED and "helm.sh/hook" not in it["metadata"].get("annotations", {}):
            started.append(it)
    return started, said


def play(podman, images, listens):
    where = folder()
    where.chmod(0o755)
    shared = where / "fulltime"
    shared.mkdir()
    cluster.synth(shared / "archive", "m0", 31, 12)
    shared.chmod(0o777)
    values = merged(values_of("single-node"), {
        "storage": {"state": "/srv/fulltime/state",
                    "volumes": [{"name": "season", "hostPath": {"path": str(shared), "type": "Directory"}}]},
        "images": {"nats": {"registry": "localhost", "repository": "fulltime-stand/nats", "tag": cluster.version()}},
        "pools": {"cpu": {"cpus": 1, "memory": "1Gi"}},
        # Binaries that cannot be asked are not probed.
        "http": {"enabled": listens},
    })
    started, said = translate(objects_of(texts(values)))
    said |= {"preStop hooks, start-up and readiness probes", "placement: selectors, tolerations, spreading"}
    token = where / "token"
    token.mkdir()
    (token / "token").write_text("of-this-run-and-of-no-other\n")
    network = podman.network()
    pods = []
    try:
        for it in started:
            if it["kind"] in ("ConfigMap", "PersistentVolumeClaim"):
                continue
            file = where / f"{it['metadata']['name']}.yaml"
            # A pod comes with what it refers to.
            mounts = [other for other in started if other["kind"] in ("ConfigMap", "PersistentVolumeClaim")
                      and other["metadata"]["name"].startswith(it["metadata"]["name"])]
            for volume in it["spec"]["template"]["spec"].get("volumes", []):
                if volume.pop("secret", None):
                    volume["hostPath"] = {"path": str(token), "type": "Directory"}
                    said.add("Secrets as volumes (4.3 dies of them): a folder stands for each")
            file.write_text(yaml.safe_dump_all([*mounts, it]))
            for container in it["spec"]["template"]["spec"]["containers"]:
                ports = {port["name"]: port["containerPort"] for port in container.pop("ports", [])}
                probe = container.get("livenessProbe", {}).get("httpGet")
                if probe:
                    probe["port"] = ports[probe["port"]]
                    said.add("container ports that are not the machine's, too: they are left out, and probes name numbers")
            alias = it["metadata"]["name"]
            podman("play", "kube", "--network", f"{network}:alias={alias}", file)
            pods.append((it["metadata"]["name"], file))
        common = ["--network", network, f"--volume={shared}:/srv/fulltime",
                  "--env=FULLTIME_NATS=nats://season-fulltime-nats:4222", "--env=FULLTIME_STATE=/srv/fulltime/state"]

        def cli(*words, fails=False):
            return podman("run", "--rm", *cluster.LOCKED, *common, images["cli"], *words, fails=fails)

        def logs():
            names = podman("ps", "--all", "--format", "{{.Names}} {{.Status}}").splitlines()
            each = (f"=== {name}\n{podman('logs', name.split()[0], fails=True).stderr[-1500:]}" for name in names)
            return "\n".join(each)

        try:
            wait_until("a coordinator answers", lambda: cli("status", "--json", fails=True).returncode == 0, 60)
            job = cli("submit", "--archive", "/srv/fulltime/archive", "--out", "/srv/fulltime/out", "--pipeline",
                      "/usr/share/fulltime/models/synth-detector/pipeline.toml", "--shard-length", "2s").split()[-1]
            ended = cli("watch", job, "--json", fails=True)
            assert ended.returncode == 0, ended.stderr
        except AssertionError as error:
            raise AssertionError(f"{error}\n{logs()}") from error
        manifest = json.loads((shared / f"out/jobs/{job}/g1/manifest.json").read_text())
        # The image's own runtime and models did it.
        assert "onnx" in json.dumps(manifest), "not run by ONNX Runtime"
        ids = {line for line in podman("ps", "--format", "{{.Names}}").splitlines() if "infra" not in line}
        for name in ids:
            inspected = json.loads(podman("container", "inspect", name))[0]
            if name.startswith("season-"):
                assert inspected["HostConfig"]["ReadonlyRootfs"], f"{name}: its root can be written"
                assert inspected["Config"]["User"].startswith("65532"), f"{name} runs as {inspected['Config']['User']}"
        for line in sorted(said):
            print(f"         podman play kube has no {line}")
        return f"{len(started)} objects started, {len(ids)} containers"
    finally:
        for _, file in reversed(pods):
            podman("play", "kube", "--down", file, fails=True)
