"""The Helm chart: lint, schema, rendered objects against Kubernetes, policies, flags, signals, network, secrets."""

import json
import os
import re
import subprocess

import helm_python
import jsonschema
import kubernetes_validate
import yaml

from customs import KINDS
from flags import check
from lib import CHART, ROOT, Suite, folder, tool
from network import Side, may
from rendering import EXAMPLES, merged, name_of, objects_of, only, pods, rendered, texts, values_of
from violations import SCHEMA, TEMPLATES, at

suite = Suite("chart")

# The oldest that the chart allows, one between, the newest that is known.
KUBERNETES = ("1.30", "1.33", "1.37")
COMPONENTS = ("coordinator", "worker", "cli", "nats", "redis")
# Every part switched on: what no single example has.
EVERYTHING = merged(values_of("spot-pool"), {
    "nats": {"replicas": 5},
    "pools": {"spot": {"autoscaling": {"classes": ["onnx-cuda/fp16.a+b"]}}, "node": {"kind": "DaemonSet", "gpu": {"count": 1}},
              "plain": {"autoscaling": {"kind": "hpa", "min": 1, "classes": ["x"]}, "pin": "off", "gpus": "0"}},
    "storage": {"endpoint": "https://s3.example.com", "credentials": {"existingSecret": "store"}},
})
ALONE = merged(values_of("spot-pool"), {
    "coordinator": {"replicas": 1}, "autoscaling": {"scaler": "metrics-api"},
    "pools": {"spot": {"autoscaling": {"classes": ["onnx"]}}}})


def everything():
    """(name, objects) of all that is looked at."""
    for example in EXAMPLES:
        yield example.stem, rendered(example.stem)
    yield "everything", objects_of(texts(EVERYTHING))
    yield "one coordinator", objects_of(texts(ALONE))


@suite.case
def lint_finds_nothing():
    for example in EXAMPLES:
        report = helm_python.lint(CHART, values_of(example.stem), strict=True, kube_version="v1.30.0")
        found = [it for it in report["messages"] if it["severity"] >= 2 or "icon" not in it["error"]]
        assert not found and not report["errors"], f"{example.name}: {found} {report['errors']}"


@suite.case
def it_packages_and_the_package_renders_the_same():
    archive = helm_python.package(CHART, destination=folder())
    with helm_python.Chart.load(archive) as chart:
        for example in EXAMPLES:
            ours = chart.render(values=values_of(example.stem), name="season", namespace="video")
            assert ours == texts(values_of(example.stem)), example.name


@suite.case
def values_and_schema_say_the_same():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    missing, silent = [], []

    def walk(schema, value, path):
        if not schema.get("description"):
            silent.append(path or "(root)")
        properties = schema.get("properties", {})
        for key, inner in properties.items():
            if isinstance(value, dict) and key not in value and key not in ("global", "registry"):
                missing.append(f"{path}.{key}")
            walk(inner, value.get(key) if isinstance(value, dict) else None, f"{path}.{key}".lstrip("."))

    walk(schema, values, "")
    assert not silent, f"without a description: {silent}"
    assert not missing, f"in the schema and not in values.yaml: {missing}"
    # Every key of values.yaml is known: Helm itself checks that.
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)


@suite.case
def every_violation_is_refused_by_name():
    base, wrong = values_of("spot-pool"), []
    texts(base)
    cases = [(key, merged(base, at(key, value))) for key, value in SCHEMA]
    cases += [(key, merged(base, values)) for key, values in TEMPLATES]
    for key, values in cases:
        try:
            texts(values)
            wrong.append(f"{key} is accepted")
        except helm_python.HelmError as error:
            said = str(error).replace("'", "").replace("/", ".")
            # The schema's messages name the place and, for unknown keys, the key.
            parent, _, last = key.rpartition(".")
            place = parent in said or "propertyName" in said
            names = key in said or (place and re.search(rf"\b{re.escape(last)}\b", said))
            if not names:
                wrong.append(f"{key}: {said[:200]}")
    assert not wrong, "; ".join(wrong)
    return f"{len(cases)} violations"


@suite.case
def objects_are_what_kubernetes_expects():
    count = 0
    for name, objects in everything():
        for it in objects:
            try:
                if it["kind"] in KINDS:
                    jsonschema.validate(it, KINDS[it["kind"]])
                    continue
                for version in KUBERNETES:
                    kubernetes_validate.validate(it, version, strict=True)
                    count += 1
            except jsonschema.ValidationError as error:
                raise AssertionError(f"{name}: {name_of(it)}: {error.message} at {list(error.absolute_path)}") from error
    return f"{count} validations"


@suite.case
def objects_have_one_name_and_the_standard_labels():
    for name, objects in everything():
        names = [name_of(it) for it in objects]
        assert len(set(names)) == len(names), f"{name}: twice {sorted({n for n in names if names.count(n) > 1})}"
        for it in objects:
            labels = it["metadata"]["labels"]
            assert labels["app.kubernetes.io/instance"] == "season" and "helm.sh/chart" in labels, f"{name}: {name_of(it)}"
            assert len(it["metadata"]["name"]) <= 63
    long = objects_of(texts(values_of("on-prem-mig"), name="a" * 53))
    for it in long:
        # Pods of a StatefulSet and of a Deployment get a suffix that has to fit, too.
        assert len(it["metadata"]["name"]) <= 63, it["metadata"]["name"]


@suite.case
def pods_have_no_privilege():
    for name, objects in everything():
        for it, template in pods(objects):
            where, spec = f"{name}: {name_of(it)}", template["spec"]
            security = spec["securityContext"]
            assert security["runAsNonRoot"] and security["runAsUser"] > 0, where
            assert security["seccompProfile"]["type"] == "RuntimeDefault", where
            assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False, where
            assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), where
            account = only(objects, "ServiceAccount", spec["serviceAccountName"])
            assert account["automountServiceAccountToken"] is False, where
            for container in spec["containers"] + spec.get("initContainers", []):
                inner = container["securityContext"]
                assert inner["allowPrivilegeEscalation"] is False and not inner.get("privileged"), where
                assert inner["readOnlyRootFilesystem"] is True and inner["capabilities"] == {"drop": ["ALL"]}, where
                image = container["image"]
                assert re.search(r"@sha256:[0-9a-f]{64}$|:[^:/]+$", image) and not image.endswith(":latest"), image
                limits, requests = container["resources"]["limits"], container["resources"]["requests"]
                assert {"cpu", "memory"} <= set(limits) and limits == requests, f"{where}: not Guaranteed"
                mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
                claims = {claim["metadata"]["name"] for claim in it["spec"].get("volumeClaimTemplates", [])}
                volumes = {volume["name"] for volume in spec.get("volumes", [])}
                assert mounts == volumes | claims, f"{where}: {mounts ^ (volumes | claims)} is mounted or there, not both"
            for volume in spec.get("volumes", []):
                if "emptyDir" in volume:
                    assert "sizeLimit" in volume["emptyDir"], f"{where}: {volume['name']} may fill the node"
        assert not any(it["kind"] in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding") for it in objects)


@suite.case
def workers_have_whole_cores_of_their_own():
    for name, objects in everything():
        for it, template in pods(objects):
            if it["metadata"]["labels"].get("app.kubernetes.io/component") == "worker":
                limits = template["spec"]["containers"][0]["resources"]["limits"]
                assert re.fullmatch(r"[1-9][0-9]*", limits["cpu"]), f"{name}: {name_of(it)}: {limits['cpu']}"
    mig = only(rendered("on-prem-mig"), "Deployment", "worker-slices")["spec"]["template"]["spec"]
    assert mig["containers"][0]["resources"]["limits"]["nvidia.com/mig-2g.20gb"] == "1"
    assert mig["nodeSelector"] == {"fulltime/numa": "single", "nvidia.com/mig.strategy": "mixed"}
    air = [c["image"] for _, template in pods(rendered("air-gapped")) for c in template["spec"]["containers"]]
    assert all(image.startswith("harbor.inside.example/fulltime/") and "@sha256:" in image for image in air), air


@suite.case
def arguments_and_environment_are_known_to_the_binaries():
    there = set()
    for name, objects in everything():
        for it, template in pods(objects):
            for container in template["spec"]["containers"]:
                program = {"coordinator": "fulltime-coordinator", "worker": "fulltime-worker"}.get(container["name"])
                if program:
                    # What an object only refers to inside of other values is no setting of the program.
                    variables = {it["name"] for it in container["env"]} - {"NATS_PASSWORD"}
                    there |= set(check(program, container["args"], variables))
    return f"promised and there by now: {sorted(there)}" if there else ""


@suite.case
def pods_wait_longer_than_their_processes():
    service = (ROOT / "worker/src/service.rs").read_text()
    drain = int(re.search(r"const DRAIN: Duration = Duration::from_secs\((\d+)\);", service)[1])
    for name, objects in everything():
        for it, template in pods(objects):
            container = template["spec"]["containers"][0]
            patience = template["spec"].get("terminationGracePeriodSeconds", 30)
            hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if container["name"] == "worker":
                grace = next(int(a.split("=")[1].rstrip("s")) for a in container["args"] if a.startswith("--grace="))
                assert patience >= hook + grace + drain + 3, f"{name}: {name_of(it)} is killed after {patience} s"
            if container["name"] == "coordinator":
                assert patience >= hook + 10, f"{name}: {name_of(it)}"
    assert "terminationGracePeriodSeconds: 25" in texts(values_of("spot-pool"))["fulltime/templates/workers.yaml"]


@suite.case
def services_and_monitors_find_their_pods():
    for name, objects in everything():
        templates = [(it, template["metadata"]["labels"], template["spec"]) for it, template in pods(objects)]

        def found(selector):
            return [(it, spec) for it, labels, spec in templates if selector.items() <= labels.items()]

        for it in objects:
            if it["kind"] == "Service":
                chosen = found(it["spec"]["selector"])
                assert chosen or "worker" in it["metadata"]["name"], f"{name}: {name_of(it)} finds nothing"
                for _, spec in chosen:
                    ports = {port["name"] for port in spec["containers"][0].get("ports", [])}
                    assert {port["targetPort"] for port in it["spec"]["ports"]} <= ports, f"{name}: {name_of(it)}"
            elif it["kind"] == "PodDisruptionBudget":
                assert len(found(it["spec"]["selector"]["matchLabels"])) == 1, f"{name}: {name_of(it)}"
            elif it["kind"] == "ServiceMonitor":
                wanted = it["spec"]["selector"]["matchLabels"]
                chosen = [s for s in objects if s["kind"] == "Service" and wanted.items() <= s["metadata"]["labels"].items()]
                assert len(chosen) == 1, f"{name}: {name_of(it)} finds {len(chosen)} services"
                assert {e["port"] for e in it["spec"]["endpoints"]} <= {p["name"] for p in chosen[0]["spec"]["ports"]}
            elif it["kind"] in ("ScaledObject", "HorizontalPodAutoscaler"):
                target = only(objects, "Deployment", it["spec"]["scaleTargetRef"]["name"])
                assert "replicas" not in target["spec"], f"{name}: {name_of(it)}: an upgrade would set it back"
    monitored = objects_of(texts(EVERYTHING))
    query = next(it for it in monitored if it["kind"] == "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    assert query == ('sum(fulltime_backlog_tasks{namespace="video",service="season-fulltime-coordinator",'
                     'class=~"onnx-cuda/fp16\\\\.a\\\\+b"})'), query
    assert only(monitored, "Service", "-coordinator")["metadata"]["name"] == "season-fulltime-coordinator"


@suite.case
def nobody_reaches_what_is_not_meant_for_it():
    monitoring = Side(namespace={"kubernetes.io/metadata.name": "monitoring"})
    stranger = Side(namespace={"kubernetes.io/metadata.name": "default"})
    dns = Side(namespace={"kubernetes.io/metadata.name": "kube-system"})
    objects = objects_of(texts(EVERYTHING))
    policies = [it for it in objects if it["kind"] == "NetworkPolicy"]
    sides = {}
    for _, template in pods(objects):
        labels = template["metadata"]["labels"]
        sides[labels["app.kubernetes.io/component"]] = Side(labels)
    assert set(sides) == set(COMPONENTS)
    sides |= {"monitoring": monitoring, "stranger": stranger}
    open_ways = {
        **{(one, "nats", 4222): True for one in ("coordinator", "worker", "cli")},
        ("nats", "nats", 6222): True,
        ("worker", "redis", 6379): True,
        ("cli", "coordinator", 9870): True, ("monitoring", "coordinator", 9870): True, ("monitoring", "worker", 9871): True,
    }
    ports, cells = (4222, 6222, 8222, 6379, 9870, 9871, 22), 0
    for source, one in sides.items():
        for target, other in sides.items():
            if one.namespace is not None and other.namespace is not None:
                continue
            for port in ports:
                cells += 1
                want = open_ways.get((source, target, port), False)
                assert may(policies, one, other, port) == want, f"{source} to {target}:{port} is {'shut' if want else 'open'}"
    # What has no policy of its own hears nobody and asks for names only.
    unknown = Side({key: value for key, value in sides["nats"].labels.items() if not key.endswith("component")})
    assert not any(may(policies, one, unknown, port) or may(policies, unknown, one, port)
                   for one in sides.values() for port in ports)
    deny = only(objects, "NetworkPolicy", "-deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"] and not {"ingress", "egress"} & set(deny)
    for name in COMPONENTS:
        assert may(policies, sides[name], dns, 53), f"{name} finds no names"
    clients = rendered("on-prem-mig")
    analysts = Side(namespace={"kubernetes.io/metadata.name": "analysts"})
    policies = [it for it in clients if it["kind"] == "NetworkPolicy"]
    assert may(policies, analysts, sides["nats"], 4222) and not may(policies, analysts, sides["worker"], 9871)
    return f"{cells} ways"


@suite.case
def secrets_are_only_referred_to():
    schema = json.loads((CHART / "values.schema.json").read_text())
    keys = re.findall(r'"(\w*(?:[pP]assword|[sS]ecretKey|[tT]oken)\w*)": \{', json.dumps(schema))
    assert not keys, f"the schema takes secrets as values: {keys}"
    for name, objects in everything():
        assert not any(it["kind"] == "Secret" for it in objects), f"{name}: renders a Secret"
        for it, template in pods(objects):
            for container in template["spec"]["containers"]:
                for variable in container.get("env", []):
                    if re.search(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN|NATS_[A-Z]+$", variable["name"]):
                        reference = variable.get("valueFrom", {}).get("secretKeyRef")
                        assert reference, f"{name}: {name_of(it)} has {variable['name']} in the open"
        for it in objects:
            if it["kind"] == "ConfigMap":
                text = json.dumps(it["data"])
                assert not re.search(r"password: (?!\$)", text), f"{name}: {name_of(it)} holds a password"


@suite.case
def the_brokers_configuration_is_valid():
    program = tool("nats-server", "FULLTIME_NATS_SERVER")
    where = folder()
    subprocess.run([ROOT / "deploy/secrets.sh", where / "secrets"], check=True)
    environment = dict(line.split("=", 1) for line in (where / "secrets/nats.env").read_text().split())
    for name, objects in everything():
        maps = [it for it in objects if it["kind"] == "ConfigMap" and it["metadata"]["name"].endswith("-nats")]
        for it in maps:
            for file, text in it["data"].items():
                text = text.replace("/etc/fulltime/tls", str(where / "secrets/tls")).replace("/data", str(where / "data"))
                (where / file).write_text(text)
            checked = subprocess.run([program, "-c", where / "nats.conf", "-t"], capture_output=True, text=True,
                                     env={**os.environ, **environment, "POD_NAME": "season-nats-0"})
            assert checked.returncode == 0, f"{name}: {checked.stderr}"


@suite.case
def notes_warn_of_open_doors():
    open_doors = texts(values_of("single-node"))["fulltime/templates/NOTES.txt"]
    assert open_doors.count("WARNING") == 3
    assert "WARNING" not in texts(values_of("spot-pool"))["fulltime/templates/NOTES.txt"]
    empty = texts({**values_of("air-gapped"), "pools": {}})["fulltime/templates/NOTES.txt"]
    assert "There is no pool" in empty


if __name__ == "__main__":
    from lib import main

    main(suite)
