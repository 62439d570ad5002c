"""Where gantryd listens, who may connect, and what it says where another engine is in the way."""

import grp
import json
import os
import socket
import stat
import sys

import pytest
from daemon_process import Variant, leave, listening, refused
from harness import run, wait_until


def test_the_socket_is_for_root_and_group_docker(fresh):
    engine = fresh(busybox=False)
    found = engine.socket.stat()
    try:
        docker = grp.getgrnam("docker").gr_gid
    except KeyError:
        docker = 0
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o660, 0, docker)


def test_group_names_who_may_connect(fresh, tmp_path):
    engine = fresh("--group", "daemon", busybox=False)
    found = engine.socket.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, grp.getgrnam("daemon").gr_gid)
    others = fresh("-G", "nosuchgroup", start=False)
    others.start(wait=False)
    code, _, said = leave(others)
    assert code == 1 and "group nosuchgroup not found" in said


def test_another_group_after_a_restart_gets_the_socket(fresh):
    engine = fresh(busybox=False)
    engine.kill()
    engine.flags += ["--group", "daemon"]
    engine.start()
    assert engine.socket.stat().st_gid == grp.getgrnam("daemon").gr_gid


def test_hosts_may_be_repeated(fresh):
    engine = fresh("-H", "tcp://127.0.0.1:2375", "--tls=false", busybox=False)
    other = engine.root / "deep" / "other.sock"
    engine.stop()
    engine.flags += ["-H", f"unix://{other}"]
    engine.start()
    ids = [
        json.loads(run("curl", "-sf", "--unix-socket", path, "http://d/info").stdout)["ID"] for path in (engine.socket, other)
    ]
    answer = json.loads(engine.namespace.exec("curl", "-sf", "http://127.0.0.1:2375/info").stdout)
    assert {*ids, answer["ID"]} == {answer["ID"]}
    assert any("http://127.0.0.1:2375 without encryption" in line for line in answer["Warnings"]), answer["Warnings"]


@pytest.mark.parametrize("more", [[], ["--tlsverify=false"]])
def test_an_open_tcp_socket_has_to_be_spelt_out(tmp_path, more):
    said = refused(tmp_path, "-H", "tcp://127.0.0.1:2375", *more)
    assert "--tlsverify" in said and "--tls=false" in said


def test_a_taken_tcp_port_is_named(fresh):
    engine = fresh("-H", "tcp://127.0.0.1:2375", "--tls=false", start=False)
    script = "import socket, time; s = socket.create_server(('127.0.0.1', 2375)); time.sleep(600)"
    listener = engine.namespace.popen(sys.executable, "-c", script)
    try:
        wait_until(lambda: ":2375" in engine.namespace.exec("ss", "-ltn").stdout, what="a listener on the port")
        engine.start(wait=False)
        code, _, said = leave(engine)
        assert code == 1 and "listen tcp 127.0.0.1:2375" in said and "in use" in said
    finally:
        listener.kill()
        listener.wait()


def test_sockets_of_systemd_are_served(fresh):
    """fd:// as `systemd-socket-activate` does it: a request made before gantryd is there waits for it."""
    engine = fresh(start=False)
    engine.config.write_text("{}")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(engine.socket))
    bound.listen(64)
    early = socket.socket(socket.AF_UNIX)
    early.connect(str(engine.socket))
    early.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
    argv = engine.argv()
    at = argv.index("-H")
    argv[at + 1] = "fd://"
    nsenter = ["nsenter", f"--net=/run/netns/{engine.namespace.name}", "--"]
    with open(engine.log, "ab") as log:
        engine.process = listening(nsenter, *argv, socket=bound, stdout=log, stderr=log)
    engine.wait_ready()
    early.settimeout(10)
    assert early.recv(4096).startswith(b"HTTP/1.1 200")
    inode = os.stat(engine.socket).st_ino
    engine.load_busybox()
    assert engine.out("run", "--rm", "busybox", "echo", "hi") == "hi"
    assert engine.stop() == 0
    assert os.stat(engine.socket).st_ino == inode, "the socket is systemd's, it stays"


def test_fd_without_a_service_manager_is_an_error(fresh):
    engine = fresh(start=False)
    engine.socket = engine.root / "never.sock"
    engine.flags = ["-H", "fd://"]
    engine.start(wait=False)
    code, _, said = leave(engine)
    assert code == 1 and "no sockets found via socket activation" in said


def test_where_another_engine_answers_the_error_names_the_flag(fresh):
    first = fresh(busybox=False)
    second = fresh(start=False)
    second.socket = first.socket
    second.start(wait=False)
    code, _, said = leave(second)
    assert code == 1
    assert f"answers on unix://{first.socket}" in said and "-H" in said and "Docker/" in said
    assert first.api("GET", "/_ping", raw=True)[0] == 200
    assert not second.processes(), "a start that was refused leaves no containerd and no companion"
    assert not second.data.exists() and not second.exec_root.exists()


def test_a_dead_engines_socket_is_replaced(fresh):
    engine = fresh(start=False)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(engine.socket))
    left.close()
    engine.start()
    assert engine.api("GET", "/_ping", raw=True) == (200, b"OK")


def test_started_as_dockerd_it_is_the_same(fresh, request):
    def by_link(engine, argv):
        link = engine.root / "dockerd"
        if not link.exists():
            link.symlink_to(argv[0])
        return [str(link), *argv[1:]]

    engine = Variant(change=by_link)
    request.addfinalizer(engine.close)
    engine.start().load_busybox()
    assert engine.out("run", "--rm", "busybox", "echo", "hi") == "hi"
    assert engine.out("version", "--format", "{{.Server.APIVersion}}") == "1.51"
