"""Parts that the host may bring instead of ours: process 1 for `--init`, and a containerd that somebody else runs."""

import pathlib
import shutil
import signal

import pytest
from daemon_process import Variant, leave
from harness import BIN, run, wait_until
from killing import processes


def without_init(folder):
    """A folder of our binaries that has no gantry-init; every other one is a link to the real file's copy."""
    folder.mkdir()
    for program in BIN.glob("gantry*"):
        if program.is_file() and program.name != "gantry-init" and not program.suffix:
            # gantryd looks beside its real file: it is linked hard, or copied where that cannot be.
            try:
                (folder / program.name).hardlink_to(program)
            except OSError:
                shutil.copy2(program, folder / program.name)
    return folder


@pytest.fixture
def bare(tmp_path_factory):
    """An engine whose installation has no init of ours."""
    folder = without_init(tmp_path_factory.mktemp("bin", numbered=True) / "sbin")
    engine = Variant(change=lambda engine, argv: [str(folder / "gantryd"), *argv[1:]])
    try:
        yield engine.start().load_busybox()
    finally:
        engine.close()
        shutil.rmtree(folder)


def test_where_there_is_no_init_of_ours_the_hosts_tini_is_process_one(bare):
    engine = bare
    assert not any(pathlib.Path(folder, "gantry-init").exists() for folder in ("/usr/libexec/gantry", "/usr/local/libexec/gantry")), "this host has one installed"
    tini = shutil.which("docker-init") or shutil.which("tini-static") or shutil.which("tini")
    assert tini, "make packages-test installs it"
    # Debian's tini is linked dynamically; a container with none of its libraries cannot run it, one with them can.
    static = "statically linked" in run("file", "-L", tini, check=False).stdout if shutil.which("file") else "static" in tini
    script = "cat /proc/1/cmdline | tr '\\0' ' '; (sleep 0.1 & exit 0); sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l"
    libraries = [] if static else ["-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", "-v", "/usr/lib:/usr/lib:ro"]
    out = engine.out("run", "--rm", "--init", *libraries, "busybox", "sh", "-c", script)
    assert out.startswith("/sbin/docker-init -- sh -c") and out.split()[-1] == "0", out
    id = engine.out("run", "-d", "--init", *libraries, "busybox", "sh", "-c", "trap 'exit 42' TERM; echo up; while :; do sleep 0.1; done")
    wait_until(lambda: engine.out("logs", id) == "up", what="the trap")
    engine.docker("stop", id)
    assert engine.inspect(id)["State"]["ExitCode"] == 42


CONFIG = """
version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{root}/containerd.sock"
[ttrpc]
  address = "{root}/containerd.sock.ttrpc"
"""


class Containerd:
    """A containerd of the administrator's."""

    def __init__(self, engine):
        self.engine, self.root = engine, engine.root / "own-containerd"
        self.root.mkdir()
        self.socket = self.root / "containerd.sock"
        (self.root / "config.toml").write_text(CONFIG.format(root=self.root))
        self.start()

    def start(self):
        log = open(self.root / "log", "ab")
        self.process = self.engine.namespace.popen("containerd", "--config", self.root / "config.toml", stdout=log, stderr=log, start_new_session=True)
        log.close()
        wait_until(lambda: self.ctr("version", check=False).returncode == 0, 20, "an answer of containerd")

    def ctr(self, *argv, **more):
        return run("ctr", "-a", self.socket, *argv, **more)

    def stop(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait(20)


@pytest.fixture
def found(fresh):
    engine = fresh(start=False)
    containerd = Containerd(engine)
    engine.flags += ["--containerd", str(containerd.socket)]
    try:
        yield engine.start().load_busybox(), containerd
    finally:
        engine.close()
        if containerd.process.poll() is None:
            containerd.stop()


def test_a_containerd_that_is_named_is_used_waited_for_and_never_ended(found):
    engine, containerd = found
    own = engine.exec_root / "containerd" / "containerd.sock"
    assert not own.exists() and processes(engine, "containerd") == [containerd.process.pid]
    id = engine.out("run", "-d", "-p", "8080:80", "--name", "web", "busybox", "httpd", "-f", "-h", "/var/www")
    assert containerd.ctr("-n", "gantry", "tasks", "ls", "-q").stdout.split() == [id]
    # Nothing is in the namespaces of others, and theirs is not touched.
    containerd.ctr("namespaces", "create", "others")
    containerd.ctr("-n", "others", "leases", "create", "--id", "theirs")
    # It dies: containers go on, gantryd waits for it and starts none.
    containerd.stop()
    assert engine.namespace.exec("curl", "-sS", "-m", "5", "http://127.0.0.1:8080/").stdout == "hello from gantry\n"
    assert engine.api("GET", "/_ping", raw=True)[0] == 200 and engine.inspect("web")["State"]["Running"]
    assert processes(engine, "containerd") == []
    containerd.start()
    wait_until(lambda: engine.docker("exec", "web", "echo", "again", check=False).stdout == "again\n", 30, "the engine with the next containerd")
    assert engine.out("run", "--rm", "busybox", "echo", "works") == "works"
    # gantryd goes, also by the host's SIGTERM: the administrator's containerd stays.
    assert engine.stop() == 0
    assert containerd.process.poll() is None
    engine.start()
    assert engine.inspect("web")["State"]["Running"]
    engine.docker("rm", "-f", "web")
    wait_until(lambda: containerd.ctr("-n", "gantry", "containers", "ls", "-q").stdout == "", 20, "an empty namespace")
    assert containerd.ctr("-n", "others", "leases", "ls", "-q").stdout.split() == ["theirs"]


def test_without_the_containerd_that_is_named_gantryd_leaves_and_says_which(fresh, tmp_path):
    engine = fresh("--containerd", str(tmp_path / "no.sock"), start=False)
    engine.start(wait=False)
    code, seconds, said = leave(engine)
    assert code == 1 and seconds < 30 and f"containerd does not answer on {tmp_path}/no.sock" in said, said
    assert processes(engine, "containerd") == []
