"""compose.yaml without compose: each service as a container of its own, with what the file says of users, locks, files,
environment, limits and health. Images of others are stand-ins; services whose images cannot be had are left out and said."""

import re
import shlex
import shutil
import subprocess

import yaml

from lib import CHART, ROOT, folder, wait_until

LEFT_OUT = ("redis", "prometheus", "grafana")


class Composed:
    def __init__(self, podman, images, archive):
        self.podman, self.dir = podman, folder()
        self.dir.chmod(0o755)
        # The same tree, so that relative paths hold; secrets of this run.
        deploy = self.dir / "deploy"
        shutil.copytree(ROOT / "deploy", deploy, ignore=shutil.ignore_patterns("secrets"))
        shutil.copytree(CHART / "files", self.dir / "helm/fulltime/files")
        subprocess.run([deploy / "secrets.sh"], check=True)
        self.deploy = deploy
        compose = yaml.safe_load((deploy / "compose.yaml").read_text())
        self.services, self.volumes = compose["services"], compose["volumes"]
        self.given = {"NATS_IMAGE": images["nats"], "S3_IMAGE": images["s3"], "COORDINATOR_IMAGE": images["coordinator"],
                      "WORKER_IMAGE": images["worker-cpu"], "CLI_IMAGE": images["cli"], "FULLTIME_ARCHIVE": str(archive)}
        self.network = podman.network()
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _trace):
        if error is not None:
            for name in self.started:
                print(f"=== {name}\n{self.log(name)[-3000:]}")
        for name in reversed(self.started):
            self.podman("rm", "--force", "--time", "0", self.name(name), fails=True)
        for volume in self.volumes:
            self.podman("volume", "rm", "--force", self.name(volume), fails=True)

    def name(self, part):
        return f"{self.network}-{part}"

    def log(self, part):
        ran = self.podman("logs", self.name(part), fails=True)
        return ran.stdout + ran.stderr

    def _filled(self, text):
        """With variables filled in, as compose does it."""
        def fill(match):
            name, default = match[1], match[2]
            value = self.given.get(name, default)
            assert value is not None, f"nobody gives {name}"
            return value

        return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", fill, str(text))

    def options(self, part):
        it = self.services[part]
        network = it.get("network_mode", self.network)
        words = ["--network", network, *(["--network-alias", part] if network == self.network else [])]
        words += ["--read-only"] if it.get("read_only") else []
        words += [f"--cap-drop={cap}" for cap in it.get("cap_drop", [])] + [f"--cap-add={cap}" for cap in it.get("cap_add", [])]
        words += [f"--security-opt={option.replace(':true', '')}" for option in it.get("security_opt", [])]
        words += [f"--user={it['user']}"] if "user" in it else []
        words += [f"--env-file={self.deploy / file}" for file in it.get("env_file", [])]
        words += [f"--env={key}={value}" for key, value in it.get("environment", {}).items()]
        words += [f"--tmpfs={path}" for path in it.get("tmpfs", [])]
        words += [f"--memory={self._filled(it['mem_limit'])}", f"--cpus={self._filled(it['cpus'])}"]
        for volume in it.get("volumes", []):
            source, *rest = self._filled(volume).split(":")
            source = str((self.deploy / source).resolve()) if source.startswith(".") else source
            words.append(f"--volume={source if source.startswith('/') else self.name(source)}:{':'.join(rest)}")
        if "healthcheck" in it:
            kind, *test = it["healthcheck"]["test"]
            words.append("--health-cmd=" + (test[0] if kind == "CMD-SHELL" else shlex.join(test)))
        if "stop_grace_period" in it:
            words.append(f"--stop-timeout={it['stop_grace_period'].rstrip('s')}")
        return words

    def command(self, part):
        """(options for the entry point, what comes after the image)."""
        it = self.services[part]
        first, *rest = it.get("entrypoint", [None])
        return ([f"--entrypoint={first}"] if first else []), [*rest, *it.get("command", [])]

    def start(self, part, wait=False):
        entry, arguments = self.command(part)
        how = ["--rm"] if wait else ["--detach", "--name", self.name(part)]
        self.podman("run", *how, *entry, *self.options(part), self._filled(self.services[part]["image"]), *arguments)
        if not wait:
            self.started.append(part)

    def ended(self, part):
        """The code that a service ended with, once it has ended with one."""
        state = self.podman.state(self.name(part))
        return 0 if state["Running"] else state["ExitCode"]

    def answers(self, part):
        return self.podman("healthcheck", "run", self.name(part), fails=True).returncode == 0

    def is_healthy(self, part):
        assert self.podman.state(self.name(part))["Running"], f"{part} ended:\n{self.log(part)[-2000:]}"
        return self.answers(part)

    def up(self, part):
        self.start(part)
        wait_until(f"{part} is healthy", lambda: self.is_healthy(part), 90)

    def cli(self, *words, fails=False):
        return self.podman("run", "--rm", *self.options("cli"), self._filled(self.services["cli"]["image"]), *words, fails=fails)
