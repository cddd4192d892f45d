"""The broker's roles: every action of every role against a real nats-server with TLS and the shipped configuration, and a
job that real processes finish under them."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import urllib.request

from lib import CHART, ROOT, Process, Suite, binary, folder, free_port, main, tool, wait_until
from standin import StandIn

suite = Suite("roles")

ROLES = ("viewer", "submitter", "operator", "worker", "coordinator")
PEOPLE = {"viewer", "submitter", "operator"}
TASK = "FULLTIME_TASKS"
ACK = "1.22.3.1795598143413.0"

# What is done, on which subject, by whom. Everybody else is refused.
PUBLISH = [
    ("looks at the tasks", f"$JS.API.STREAM.INFO.{TASK}", set(ROLES)),
    ("looks at the lead", "$JS.API.STREAM.INFO.KV_FULLTIME_LEADER", set(ROLES)),
    ("asks for the status", "fulltime.api.status", PEOPLE),
    ("submits", "fulltime.api.submit", {"submitter", "operator"}),
    ("cancels", "fulltime.api.cancel", {"submitter", "operator"}),
    *((f"asks to {kind}", f"fulltime.api.{kind}", {"operator"}) for kind in
      ("pause", "resume", "retry", "priority", "rebuild", "profile")),
    ("releases a task", "fulltime.task.any.high.job.digest", {"coordinator"}),
    ("controls workers", "fulltime.control", {"coordinator"}),
    ("greets as a worker", "fulltime.hello", {"worker"}),
    ("says what became of a task", "fulltime.event.job", {"worker"}),
    ("makes a line-up", f"$JS.API.CONSUMER.CREATE.{TASK}.any_high.fulltime.task.any.high.>", {"worker"}),
    ("pulls", f"$JS.API.CONSUMER.MSG.NEXT.{TASK}.any_high", {"worker"}),
    ("renews a lease", f"$JS.ACK.{TASK}.any_high.{ACK}", {"worker"}),
    ("renews a lease in the long form", f"$JS.ACK._.hash.{TASK}.any_high.{ACK}.x", {"worker"}),
    ("removes an unreadable task", f"$JS.API.STREAM.MSG.DELETE.{TASK}", {"worker"}),
    ("follows events", "$JS.API.CONSUMER.CREATE.FULLTIME_EVENTS.name.fulltime.event.>", {"coordinator"}),
    ("acknowledges somebody's events", f"$JS.ACK.FULLTIME_EVENTS.name.{ACK}", set()),
    ("makes a stream", f"$JS.API.STREAM.CREATE.{TASK}", {"coordinator"}),
    ("makes a stream of its own", "$JS.API.STREAM.CREATE.OTHER", set()),
    ("purges the tasks", f"$JS.API.STREAM.PURGE.{TASK}", {"coordinator"}),
    ("deletes the events", "$JS.API.STREAM.DELETE.FULLTIME_EVENTS", {"coordinator"}),
    ("reads who leads", "$JS.API.STREAM.MSG.GET.KV_FULLTIME_LEADER", {"coordinator"}),
    ("reads a task without pulling it", f"$JS.API.STREAM.MSG.GET.{TASK}", set()),
    ("claims the lead", "$KV.FULLTIME_LEADER.leader", {"coordinator"}),
    ("writes another key", "$KV.FULLTIME_LEADER.other", set()),
    ("lists all streams", "$JS.API.STREAM.LIST", set()),
    ("asks the system", "$SYS.REQ.SERVER.PING", set()),
    ("answers into an inbox that asked nothing", "_INBOX.viewer.x.y", set()),
]
SUBSCRIBE = [
    ("hears answers of everybody", "_INBOX.>", set()),
    *((f"hears answers of a {role}", f"_INBOX.{role}.x.*", {role}) for role in ROLES),
    ("hears events", "fulltime.event.>", PEOPLE),
    ("hears greetings", "fulltime.hello", PEOPLE | {"coordinator"}),
    ("hears controls", "fulltime.control", {"worker"}),
    ("hears requests", "fulltime.api.*", {"coordinator"}),
    ("hears tasks", "fulltime.task.>", set()),
    ("hears everything", ">", set()),
    ("hears the system", "$SYS.>", set()),
]


# Credentials that a process may use and must never write down.
PLANTED = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED0000000001",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-of-the-results",
    "AWS_SESSION_TOKEN": "planted-session-token",
    "FULLTIME_ARCHIVE_AWS_ACCESS_KEY_ID": "AKIAPLANTED0000000002",
    "FULLTIME_ARCHIVE_AWS_SECRET_ACCESS_KEY": "planted-secret-of-the-archive",
    "GOOGLE_SERVICE_ACCOUNT_KEY": "planted-google-key",
    "AZURE_STORAGE_ACCOUNT_KEY": "planted-azure-key",
}
# In a URL, where nobody listens: what goes wrong with it is said, without it.
REDIS = "planted-redis-password"


class Broker:
    """nats-server with the shipped configuration: paths and port changed, nothing else."""

    def __init__(self):
        self.program = tool("nats-server", "FULLTIME_NATS_SERVER")
        self.dir = folder()
        subprocess.run([ROOT / "deploy/secrets.sh", self.dir / "secrets"], check=True)
        text = (self.dir / "secrets/nats.env").read_text()
        self.environment = dict(line.split("=", 1) for line in text.split())
        self.authority = self.dir / "secrets/tls/ca.crt"
        self.port = free_port()
        config = (ROOT / "deploy/nats/nats.conf").read_text()
        for old, new in [
            ("port: 4222", f"host: 127.0.0.1\nport: {self.port}"),
            ('http: "127.0.0.1:8222"', f'http: "127.0.0.1:{free_port()}"'),
            ("/data", str(self.dir / "data")),
            ("/etc/fulltime/tls", str(self.dir / "secrets/tls")),
        ]:
            assert old in config, f"deploy/nats/nats.conf has no `{old}` any more"
            config = config.replace(old, new)
        self.config = self.dir / "nats.conf"
        self.config.write_text(config)
        shutil.copy(CHART / "files/nats-roles.conf", self.dir)
        self.process = None

    def start(self):
        self.process = Process([self.program, "-c", self.config], self.dir / "nats.log", **self.environment)
        wait_until("the broker listens", lambda: "Server is ready" in self.process.said(), 20)
        return self

    def password(self, role):
        return self.environment[f"FULLTIME_NATS_{role.upper()}"]

    def url(self, role):
        return f"tls://{role}:{self.password(role)}@localhost:{self.port}"


class Client:
    """As much of NATS' protocol as it takes to see what is refused."""

    def __init__(self, broker, user=None, password=None, encrypted=True):
        plain = socket.create_connection(("127.0.0.1", broker.port), timeout=10)
        self.socket, self.rest = plain, b""
        assert self.line().startswith("INFO")
        if encrypted:
            tls = ssl.create_default_context(cafile=str(broker.authority))
            self.socket = tls.wrap_socket(plain, server_hostname="localhost")
        who = {"user": user, "pass": password} if user else {}
        self.send("CONNECT " + json.dumps({"verbose": False, "pedantic": False, "headers": True, **who}))

    def send(self, line, body=None):
        self.socket.sendall((line + "\r\n" + ("" if body is None else body + "\r\n")).encode())

    def line(self):
        while b"\r\n" not in self.rest:
            read = self.socket.recv(65536)
            if not read:
                return ""
            self.rest += read
        line, self.rest = self.rest.split(b"\r\n", 1)
        return line.decode()

    def errors(self):
        """What was refused since the last time, or `None` where the broker has hung up."""
        self.send("PING")
        found = []
        while True:
            line = self.line()
            if line == "PONG":
                return found
            if not line:
                return None
            if line.startswith("-ERR"):
                found.append(line)


def accepted(broker, **how):
    try:
        client = Client(broker, **how)
        return client.errors() == []
    except (ConnectionError, ssl.SSLError):
        return False


@suite.case
def the_configuration_is_valid():
    broker = Broker()
    checked = subprocess.run([broker.program, "-c", broker.config, "-t"], env={**os.environ, **broker.environment},
                             capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    # A password that is missing is an error, not an open door.
    bare = subprocess.run([broker.program, "-c", broker.config, "-t"], capture_output=True, text=True,
                          env={key: value for key, value in os.environ.items() if not key.startswith("FULLTIME_NATS_")})
    assert bare.returncode != 0, "valid without passwords"


@suite.case
def nobody_gets_in_without_name_and_encryption():
    broker = Broker().start()
    assert accepted(broker, user="viewer", password=broker.password("viewer"))
    assert not accepted(broker), "anonymous"
    assert not accepted(broker, user="viewer", password=broker.password("operator")), "another role's password"
    assert not accepted(broker, user="admin", password="admin"), "unknown"
    assert not accepted(broker, user="viewer", password=broker.password("viewer"), encrypted=False), "without TLS"


@suite.case
def every_role_does_what_is_its_own_and_nothing_else():
    broker = Broker().start()
    wrong, cells = [], 0
    for role in ROLES:
        client = Client(broker, role, broker.password(role))
        assert client.errors() == [], f"{role} cannot connect"
        for action, subject, by in PUBLISH:
            client.send(f"PUB {subject} 0", "")
            refused = client.errors()
            assert refused is not None, f"{role} {action}: the broker hung up"
            cells += 1
            if (role in by) == bool(refused):
                wrong.append(f"{role} {action}: {'refused' if refused else 'allowed'}")
        for number, (action, subject, by) in enumerate(SUBSCRIBE):
            client.send(f"SUB {subject} {number}")
            refused = client.errors()
            assert refused is not None, f"{role} {action}: the broker hung up"
            client.send(f"UNSUB {number}")
            cells += 1
            if (role in by) == bool(refused):
                wrong.append(f"{role} {action}: {'refused' if refused else 'allowed'}")
    assert not wrong, "; ".join(wrong)
    return f"{cells} cells"


@suite.case
def three_servers_of_the_chart_become_one_cluster():
    # Helm's engine is only here when run.py starts this.
    from rendering import only, rendered

    program, where = tool("nats-server", "FULLTIME_NATS_SERVER"), folder()
    subprocess.run([ROOT / "deploy/secrets.sh", where / "secrets"], check=True)
    environment = dict(line.split("=", 1) for line in (where / "secrets/nats.env").read_text().split())
    data = only(rendered("on-prem-mig"), "ConfigMap", "-nats")["data"]
    ports = {n: {"clients": free_port(), "cluster": free_port(), "monitor": free_port()} for n in range(3)}
    servers = []
    for n, own in ports.items():
        config = data["nats.conf"]
        for m, other in ports.items():
            route = f"nats://season-fulltime-nats-{m}.season-fulltime-nats-headless:6222"
            assert route in config, config
            config = config.replace(route, f"nats://127.0.0.1:{other['cluster']}")
        for old, new in [("port: 4222", f"host: 127.0.0.1\nport: {own['clients']}"),
                         ("  port: 6222", f"  listen: 127.0.0.1:{own['cluster']}"),
                         ("0.0.0.0:8222", f"127.0.0.1:{own['monitor']}"), ("/data", str(where / f"data-{n}")),
                         ("/etc/fulltime/tls", str(where / "secrets/tls")), ("/run/nats/nats.pid", str(where / f"{n}.pid"))]:
            assert old in config, f"no `{old}` in {config}"
            config = config.replace(old, new)
        (where / f"{n}.conf").write_text(config)
        (where / "nats-roles.conf").write_text(data["nats-roles.conf"])
        servers.append(Process([program, "-c", where / f"{n}.conf"], where / f"{n}.log", **environment,
                               POD_NAME=f"season-fulltime-nats-{n}"))

    def health(n):
        try:
            url = f"http://127.0.0.1:{ports[n]['monitor']}/healthz?js-server-only=true"
            return urllib.request.urlopen(url, timeout=5).status == 200
        except OSError:
            assert servers[n].runs(), servers[n].said()
            return False

    wait_until("three healthy servers", lambda: all(health(n) for n in range(3)), 60)

    def cluster():
        url = f"http://127.0.0.1:{ports[1]['monitor']}/jsz"
        return json.load(urllib.request.urlopen(url, timeout=5))["meta_cluster"]

    wait_until("a leader of three", lambda: cluster().get("leader") and cluster()["cluster_size"] == 3, 60)
    # Whoever has no certificate of this authority is no server of this cluster, however little it asks for itself.
    subprocess.run([ROOT / "deploy/secrets.sh", where / "others"], check=True)

    def greeted(certificate):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if certificate:
            tls.load_cert_chain(certificate / "tls/tls.crt", certificate / "tls/tls.key")
        plain = socket.create_connection(("127.0.0.1", ports[1]["cluster"]), timeout=10)
        try:
            return tls.wrap_socket(plain).recv(4) == b"INFO"
        except (ssl.SSLError, ConnectionError):
            return False

    assert greeted(where / "secrets")
    assert not greeted(None) and not greeted(where / "others")
    for server in servers:
        server.end()


def native(broker, where):
    """Whether the binaries themselves can say who they are."""
    probe = Process([binary("fulltime-coordinator"), "--state", where / "probe", "--nats", broker.url("coordinator")],
                    where / "probe.log", SSL_CERT_FILE=str(broker.authority))
    wait_until("the probe says something", lambda: not probe.runs() or "lead" in probe.said(), 30)
    can = probe.runs()
    probe.end()
    return can


@suite.case
def a_job_finishes_under_the_roles():
    worker, coordinator, cli, synth = (
        binary(name) for name in ("fulltime-worker", "fulltime-coordinator", "fulltime", "fulltime-synth"))
    broker = Broker().start()
    where = broker.dir
    archive, out, state = where / "archive", where / "out", where / "state"
    subprocess.run([synth, "match", "--name", "m1", "--out", archive, "--seed", "3", "--duration", "8s", "--size", "320x180"],
                   check=True, capture_output=True)
    itself = native(broker, where)
    urls = {role: broker.url(role) if itself else
            StandIn(role, broker.password(role), broker.port, broker.authority).url for role in ROLES}
    tls = {"SSL_CERT_FILE": str(broker.authority), "FULLTIME_REDIS": f"redis://ann:{REDIS}@127.0.0.1:1", **PLANTED}
    parts = [
        Process([coordinator, "--state", state, "--nats", urls["coordinator"]], where / "coordinator.log", **tls),
        Process([worker, "--nats", urls["worker"], "--engine", "sim", "--lanes", "1", "--cache", where / "cache",
                 "--sim", "item-ms=2"], where / "worker.log", **tls),
    ]

    def ask(role, *words, code=0):
        ran = subprocess.run([cli, *words, "--nats", urls[role]], env={**os.environ, **tls}, capture_output=True, text=True)
        assert ran.returncode == code, f"{role} {words[0]} ended with {ran.returncode}: {ran.stderr}\n" + \
            "".join(part.said() for part in parts)
        return ran.stdout

    def led():
        for part in parts:
            assert part.runs(), part.said()
        return subprocess.run([cli, "status", "--json", "--nats", urls["viewer"]], env={**os.environ, **tls},
                              capture_output=True).returncode == 0

    pipeline = ROOT / "models/synth-detector/pipeline.toml"

    # The worker waits for the streams that only the coordinator may make, or is started again, as a cluster would.
    def up():
        if not parts[1].runs():
            parts[1] = Process(parts[1].child.args, where / "worker.log", **tls)
        return led()

    wait_until("somebody leads", up, 60)
    job = ask("submitter", "submit", "--archive", archive, "--out", out, "--state", state, "--pipeline", pipeline,
              "--shard-length", "2s").split()[-1]
    # A viewer sees it and cannot touch it; a submitter cannot pause; what is refused gets no answer.
    assert job in ask("viewer", "status", "--json")
    ask("viewer", "cancel", job, code=7)
    ask("submitter", "pause", job, code=7)
    ask("operator", "watch", job, "--quiet")
    violation = r'/user:(\w+)" - (?:Publish|Subscription) Violation - Subject "([^"]+)"'
    violations = set(re.findall(violation, broker.process.said()))
    expected = {("viewer", "fulltime.api.cancel"), ("submitter", "fulltime.api.pause")}
    streams = {(who, what) for who, what in violations if what.startswith("$JS.API.STREAM.CREATE.")}
    assert violations - streams == expected, f"refused: {violations}"
    assert {who for who, _ in streams} <= {"worker", "viewer"}, f"refused: {streams}"
    for part in parts:
        part.end()
    broker.process.end()
    # Nobody's secret was written anywhere: logs, plans, tables, reports, the broker's own files. A client that knows
    # nothing of passwords takes one in the URL for a part of the address and prints it when it is refused; once it knows,
    # this holds for the probe, too.
    secrets = [broker.password(role) for role in ROLES] + list(PLANTED.values()) + [REDIS]
    files = [path for path in where.rglob("*") if path.is_file() and where / "secrets" not in path.parents]
    files = [path for path in files if itself or path.name != "probe.log"]
    assert {"report.html", "manifest.json", "worker.log", "coordinator.log", "nats.log"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        for secret in secrets:
            assert secret.encode() not in content, f"{path.relative_to(where)} holds {secret}"
    said = f"{len(files)} files searched for {len(secrets)} secrets; "
    return said + ("the binaries authenticate themselves" if itself else "through the stand-in: the client has no credentials yet")


if __name__ == "__main__":
    main(suite)
