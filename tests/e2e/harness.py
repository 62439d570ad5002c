"""A gantryd of a test's own: built binaries, real containerd and runc, own roots, own network namespace.

Every engine lives in a network namespace `gt-…` of its own, so that ports, bridges and rules of tests that run side by
side cannot meet. Nothing here is a mock.
"""

import http.client
import io
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("GANTRY_BIN", ROOT / "target" / "debug"))
CACHE = pathlib.Path(os.environ.get("GANTRY_TEST_CACHE", ROOT / "target" / "e2e-cache"))
_numbers = itertools.count()


def run(*argv, check=True, timeout=120, **more):
    """Runs a program; its output is in the failure's text."""
    more.setdefault("stdout", subprocess.PIPE)
    more.setdefault("stderr", subprocess.PIPE)
    more.setdefault("text", True)
    done = subprocess.run([str(a) for a in argv], timeout=timeout, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def wait_until(condition, timeout=20.0, what="the condition", every=0.02):
    """Polls a condition that no event tells of; returns its first true value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what() if callable(what) else what} did not come within {timeout} s")
        time.sleep(every)


class Namespace:
    """A network namespace with loopback up, and a veth to another that plays the outside."""

    def __init__(self, name):
        self.name = name
        run("ip", "netns", "add", name)
        # A new namespace takes the machine's own setting along.
        run("ip", "netns", "exec", name, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")
        run("ip", "-n", name, "link", "set", "lo", "up")

    def exec(self, *argv, **more):
        return run("nsenter", f"--net=/run/netns/{self.name}", "--", *argv, **more)

    def popen(self, *argv, **more):
        return subprocess.Popen(["nsenter", f"--net=/run/netns/{self.name}", "--", *map(str, argv)], **more)

    def connect(self, other, mine, theirs):
        """A link between two namespaces; addresses with prefix."""
        a, b = f"v{os.getpid() % 10000}a{next(_numbers)}", f"v{os.getpid() % 10000}b{next(_numbers)}"
        run("ip", "link", "add", a, "netns", self.name, "type", "veth", "peer", "name", b, "netns", other.name)
        for namespace, link, address in ((self, a, mine), (other, b, theirs)):
            run("ip", "-n", namespace.name, "addr", "add", address, "dev", link)
            run("ip", "-n", namespace.name, "link", "set", link, "up")

    def delete(self):
        run("ip", "netns", "del", self.name, check=False)


class Engine:
    """One gantryd with a containerd of its own; `kill` and `start` again as often as a test likes."""

    def __init__(self, *flags, root=None, env=None):
        self.number = f"{os.getpid()}-{next(_numbers)}"
        self.root = pathlib.Path(root or tempfile.mkdtemp(prefix="gantry-e2e-", dir=os.environ.get("GANTRY_TEST_TMP")))
        self.data, self.exec_root = self.root / "data", self.root / "run"
        self.socket = self.root / "docker.sock"
        self.log = self.root / "gantryd.log"
        self.config = self.root / "daemon.json"
        self.flags = list(flags)
        self.env = dict(env or {})
        self.namespace = Namespace(f"gt-{self.number}")
        self.process = None

    # -- life ------------------------------------------------------------------------------------------------------

    def argv(self):
        return [
            BIN / "gantryd", "--data-root", self.data, "--exec-root", self.exec_root, "--pidfile", self.root / "gantryd.pid",
            "--config-file", self.config, "-H", f"unix://{self.socket}", *self.flags,
        ]  # fmt: skip

    def start(self, wait=True, **env):
        if not self.config.exists():
            self.config.write_text("{}")
        with open(self.log, "ab") as log:
            self.process = self.namespace.popen(
                *self.argv(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **self.env, **env}
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout=30):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"gantryd left with {self.process.returncode}:\n{self.tail()}")
            try:
                return self.api("GET", "/_ping", raw=True, timeout=2)[0] == 200
            except (OSError, http.client.HTTPException):
                return False

        wait_until(ready, timeout, f"an answer of gantryd:\n{self.tail()}")

    def tail(self, lines=60):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def kill(self):
        """kill -9 of gantryd alone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout=10):
        """SIGTERM; containers go on."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def restart(self):
        self.kill()
        return self.start()

    def close(self):
        """Ends everything of this engine: containers, gantryd, companions, containerd, mounts, namespace."""
        try:
            if self.process and self.process.poll() is None:
                for container in self.api("GET", "/containers/json?all=1")[1]:
                    self.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        except Exception:  # the host is cleaned by hand below
            pass
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for _ in range(50):
            pids = self.processes()
            if not pids:
                break
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)
        self.unmount()
        self.namespace.delete()
        shutil.rmtree(self.root, ignore_errors=True)

    def processes(self):
        """Every process that bears this engine's root in its command line or environment's working place."""
        mine = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                words = (entry / "cmdline").read_bytes()
                groups = (entry / "cgroup").read_text()
                root = os.readlink(entry / "root")
                work = os.readlink(entry / "cwd")
            except OSError:
                continue
            text = str(self.root).encode()
            if text in words or str(self.root) in root or work.startswith(str(self.root)):
                if words.split(b"\0")[0].rsplit(b"/", 1)[-1] not in (b"python", b"python3", b"pytest"):
                    mine.append(int(entry.name))
            del groups
        return mine

    def mounts(self):
        lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if str(self.root) in line.split()[4]]

    def unmount(self):
        for mount in sorted(self.mounts(), key=len, reverse=True):
            run("umount", "-l", mount, check=False)

    # -- clients ---------------------------------------------------------------------------------------------------

    @property
    def host(self):
        return f"unix://{self.socket}"

    def docker(self, *argv, check=True, timeout=120, **more):
        """The unmodified docker CLI."""
        return run(*self.docker_argv(*argv), check=check, timeout=timeout, env=self.docker_env(), **more)

    def docker_argv(self, *argv):
        return ["docker", *argv]

    def docker_env(self):
        config = self.root / "docker-config"
        config.mkdir(exist_ok=True)
        return {**os.environ, "DOCKER_HOST": self.host, "DOCKER_CONFIG": str(config), "DOCKER_CLI_HINTS": "false"}

    def docker_popen(self, *argv, **more):
        return subprocess.Popen(self.docker_argv(*argv), env=self.docker_env(), **more)

    def out(self, *argv, **more):
        return self.docker(*argv, **more).stdout.strip()

    def inspect(self, name):
        return json.loads(self.out("inspect", name))[0]

    def connection(self, timeout=60):
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        connection.sock.connect(str(self.socket))
        return connection

    def api(self, method, path, body=None, headers=None, raw=False, timeout=60):
        """(status, parsed or raw body) of one request."""
        connection = self.connection(timeout)
        try:
            headers = dict(headers or {})
            if body is not None and not isinstance(body, (bytes, io.IOBase)):
                body = json.dumps(body).encode()
                headers.setdefault("Content-Type", "application/json")
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            if raw or not data.strip():
                return answer.status, data
            return answer.status, json.loads(data)
        finally:
            connection.close()

    # -- images ----------------------------------------------------------------------------------------------------

    def load_busybox(self):
        self.docker("load", "-i", busybox_archive())
        return self

    def import_debian(self, name="debian:test"):
        self.docker("import", "-c", 'CMD ["bash"]', debian_archive(), name, timeout=300)
        return name


# -- fixtures that are made once ------------------------------------------------------------------------------------


def _made_once(name, make):
    """A file in the cache, made by one of several test processes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / name
    import fcntl

    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            part = CACHE / f"{name}.part"
            make(part)
            part.rename(path)
    return path


def busybox_archive():
    """A docker-archive of `busybox:latest`, made of Debian's busybox-static."""
    return _made_once("busybox.tar", _make_busybox)


def _make_busybox(path):
    import hashlib

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        def folder(name, mode=0o755):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)

        def file(name, data, mode=0o644):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))

        for name in ("bin", "etc", "home", "root", "usr", "usr/bin", "var", "var/www"):
            folder(name)
        folder("tmp", 0o1777)
        file("bin/busybox", pathlib.Path(shutil.which("busybox")).read_bytes(), 0o755)
        for applet in run("busybox", "--list").stdout.split():
            if applet != "busybox":
                info = tarfile.TarInfo(f"bin/{applet}")
                info.type, info.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(info)
        file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nuser:x:1000:1000::/home:/bin/sh\n")
        file("etc/group", b"root:x:0:\ndaemon:x:1:\nusers:x:100:user\nuser:x:1000:\n")
        file("var/www/index.html", b"hello from gantry\n")
    data = layer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "busybox-static"}],
    }
    config_bytes = json.dumps(config).encode()
    config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": ["busybox:latest"], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for name, content in (
            (config_name, config_bytes),
            (f"{digest}/layer.tar", data),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def debian_archive():
    """The root file system of a small Debian, made by debootstrap."""
    return _made_once("debian.tar", _make_debian)


def _make_debian(path):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="debian-", dir=CACHE))
    try:
        mirror = _mirror()
        run("debootstrap", "--variant=minbase", "--include=nano,procps", "bookworm", folder / "root", *mirror, timeout=900)
        run("tar", "-C", folder / "root", "--exclude=./var/cache/apt/archives/*.deb", "-cf", path, ".", timeout=300)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mirror():
    """The mirror that this host's apt uses, whatever it is."""
    done = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", check=False)
    lines = [line for line in done.stdout.split() if line]
    return lines[:1]
