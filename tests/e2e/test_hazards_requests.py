"""Hazards T10, T34, T35, T37 and T38: what a client may send in paths, names, filters, heads and secrets."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import resource
import socket
import subprocess
import time
import tomllib
import urllib.parse

import pytest
from harness import ROOT, wait_until
from registries import Registry
from test_bad_input import descriptors, raw

# -- T10: parameters of paths ----------------------------------------------------------------------------------------------

WORD = "canary-of-a-path"
HOSTILE = [
    f"..%2f..%2f..%2f..%2ftmp%2f{WORD}", f"%2e%2e%2f{WORD}", f"{WORD}%2f..%2f..%2f..%2fetc%2fpasswd", f"%2fetc%2f{WORD}",
    f"..%5c{WORD}", f"{WORD}%00", f"%00{WORD}", f"{WORD}%ff%fe", f"%e2%80%ae{WORD}", f"{WORD}%0d%0aX-Evil:%201", f"%20{WORD}",
    f"sha256:..%2f{WORD}", f"{WORD}@sha256:..%2f..%2fx", f"{WORD}:..", f"~{WORD}", f"{WORD}%f0%9f%90%8b", f"%25{WORD}",
    f"{WORD}" + "x" * 5000, f"{WORD}" + "x" * 65536,
]  # fmt: skip
REFUSED = {400, 404, 414, 431, 501, 503}


def operations():
    """Each operation of the API that has a name in its path; OPTIONS looks at none."""
    with open(ROOT / "api-spec" / "coverage.toml", "rb") as file:
        named = [operation.split(" ") for operation in tomllib.load(file) if "{" in operation]
    return [(method, path) for method, path in named if method != "OPTIONS"]


def asked(engine, method, target, body):
    """An answer that comes before all of the request was taken is one too."""
    connection = engine.connection()
    try:
        with contextlib.suppress(BrokenPipeError):
            connection.request(method, target, json.dumps(body).encode() if body else None, {"Content-Type": "application/json"} if body else {})
        answer = connection.response_class(connection.sock, method=method)
        answer.begin()
        return answer.status, answer.read()
    finally:
        connection.close()


@contextlib.contextmanager
def file_calls(engine, trace):
    """The calls of gantryd that take a path, as the kernel sees them."""
    spy = subprocess.Popen(
        ["strace", "-f", "-qq", "-s", "400", "-e", "trace=%file", "-o", trace, "-p", str(engine.process.pid)], stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: "TracerPid:\t0" not in pathlib.Path(f"/proc/{engine.process.pid}/status").read_text(), what="strace")
        yield
    finally:
        spy.terminate()
        spy.wait(20)


def test_t10_no_hostile_parameter_of_a_path_reaches_the_file_system(engine, tmp_path):
    trace = tmp_path / "trace"
    wrong = []
    with file_calls(engine, trace):
        for method, path in operations():
            for value in HOSTILE:
                target = re.sub(r"\{[^}]*\}", lambda _: value, path)  # noqa: B023
                if method == "PUT" or path.endswith("archive"):
                    target += "?path=/tmp"
                body = {"Image": "busybox", "Cmd": ["true"]} if method == "POST" else None
                status, answer = asked(engine, method, target, body)
                if status not in REFUSED or b"root:x" in answer:
                    wrong.append((method, target[:120], status, answer[:200]))
        # What is asked for by other ways than the path.
        for value in map(urllib.parse.unquote, HOSTILE[:6]):
            quoted = urllib.parse.quote(value)
            for method, target, body in (
                ("POST", f"/containers/create?name={quoted}", {"Image": "busybox"}),
                ("POST", "/containers/create", {"Image": value}),
                ("POST", f"/commit?container={quoted}", {}),
                ("POST", f"/images/create?fromImage={quoted}", None),
                ("POST", f"/images/create?fromImage=busybox&tag={quoted}", None),
                ("GET", f"/images/get?names={quoted}", None),
                ("POST", "/volumes/create", {"Name": value}),
                ("POST", f"/images/busybox/tag?repo={quoted}", None),
                ("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"VolumesFrom": [value]}}),
            ):  # fmt: skip
                status, answer = engine.api(method, target, body, raw=True)
                if status not in REFUSED:
                    wrong.append((method, target[:120], body, status, answer[:200]))
        engine.docker("volume", "create", "word-that-is-seen")
    engine.docker("volume", "rm", "word-that-is-seen")
    assert not wrong, "\n".join(map(str, wrong))
    text = trace.read_text()
    assert "word-that-is-seen" in text, "strace has seen nothing"
    assert WORD not in text, [line for line in text.splitlines() if WORD in line][:5]
    assert not pathlib.Path(f"/tmp/{WORD}").exists()


# -- T34: requests at the same time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.soak)], ids=["tenth", "full"])
def test_t34_of_creates_at_the_same_time_each_has_its_own_and_nothing_of_anothers(engine, count):
    """CVE-2020-14370."""

    def create(number):
        body = {"Image": "busybox", "Cmd": ["echo", f"c{number}"]}
        # Of some only one of them, so that a default that was kept would show.
        if number % 4 != 1:
            body["Env"] = [f"SECRET=s{number}", f"ONLY_{number}=1"]
        if number % 4 != 2:
            body["Labels"] = {"number": str(number), f"only-{number}": "1"}
        if number % 4 != 3:
            body["HostConfig"] = {"Binds": [f"/tmp:/only/{number}"], "ExtraHosts": [f"h{number}:10.0.0.1"], "Sysctls": {"net.ipv4.ip_forward": str(number % 2)}}
        status, answer = engine.api("POST", f"/containers/create?name=t34-{number}", body)
        assert status == 201, answer
        return body

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        asked = list(pool.map(create, range(count)))
        base = engine.api("GET", "/images/busybox/json")[1]["Config"]
        seen = list(pool.map(lambda n: engine.api("GET", f"/containers/t34-{n}/json")[1], range(count)))
        for body, about in zip(asked, seen):
            host = body.get("HostConfig", {})
            assert about["Config"]["Cmd"] == body["Cmd"]
            assert sorted(about["Config"]["Env"]) == sorted(body.get("Env", []) + base["Env"])
            assert about["Config"]["Labels"] == body.get("Labels", {})
            for option in ("Binds", "ExtraHosts", "Sysctls"):
                assert (about["HostConfig"].get(option) or None) == host.get(option), (option, about["HostConfig"][option])
            assert [mount["Destination"] for mount in about["Mounts"]] == [bind.split(":")[1] for bind in host.get("Binds", [])]
        assert all(status == 204 for status, _ in pool.map(lambda n: engine.api("DELETE", f"/containers/t34-{n}"), range(count)))


# -- T35: heads and frames ---------------------------------------------------------------------------------------------------


def test_t35_clients_that_never_end_their_head_hold_up_nobody(engine):
    before = descriptors(engine)
    slow = []
    try:
        for number in range(300):
            client = raw(engine)
            client.sendall(b"POST /containers/create HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"x" * number)
            slow.append(client)
        began = time.monotonic()
        for _ in range(10):
            for client in slow:
                client.sendall(b"x")
            assert engine.api("GET", "/containers/json", timeout=10)[0] == 200
        assert time.monotonic() - began < 20
    finally:
        for client in slow:
            client.close()
    wait_until(lambda: descriptors(engine) <= before + 2, 20, f"{before} descriptors again")


@pytest.mark.parametrize("piece", [b"1;" + b"x" * 65536, b"1;a=b" * 8192, b"0\r\n" + b"X-Trailer: y\r\n" * 8192], ids=["name", "many", "trailers"])
def test_t35_a_chunks_line_without_end_is_cut_off(engine, piece):
    resident = memory_kib(engine)
    client = raw(engine)
    client.sendall(b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    sent, answer = 0, b""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while sent < 64 << 20:
            client.sendall(piece if sent == 0 else piece[3:])
            sent += len(piece)
    with contextlib.suppress(ConnectionResetError):
        answer = client.recv(65536)
    client.close()
    assert sent < 16 << 20, sent
    assert answer == b"" or re.match(rb"HTTP/1.1 4\d\d ", answer), answer
    assert memory_kib(engine) - resident < 16 << 10
    assert engine.api("GET", "/_ping", raw=True)[0] == 200


def memory_kib(engine):
    return int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{engine.process.pid}/status").read_text()).group(1))


def test_t35_without_descriptors_no_client_is_served_and_all_are_when_there_are_some_again(fresh):
    engine = fresh()
    id = engine.out("run", "-d", "-p", "8080:80", "busybox", "httpd", "-f", "-h", "/var/www")
    served = engine.connection()
    served.request("GET", "/_ping")
    assert served.getresponse().read() == b"OK"
    pid = engine.process.pid
    plenty = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir(f"/proc/{pid}/fd")))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 5, plenty[1]))
    clients = []
    try:
        for _ in range(100):
            clients.append(raw(engine, timeout=60))
            clients[-1].sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        # Those that wait in the kernel, one that is connected already, and the container.
        wait_until(lambda: "accept" in engine.tail(20) or len(os.listdir(f"/proc/{pid}/fd")) >= highest, 10, "no descriptor is left")
        idle = [raw(engine) for _ in range(60)]
        wait_until(lambda: "accept" in engine.log.read_text(), 10, "the log's word of it")
        served.request("GET", "/_ping")
        assert served.getresponse().read() == b"OK"
        assert engine.namespace.exec("curl", "-sS", "-m", "5", "http://127.0.0.1:8080/index.html").stdout == "hello from gantry\n"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, plenty)
        for client in clients:
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, plenty)
        for client in [*clients, *idle]:
            client.close()
    assert engine.inspect(id)["State"]["Running"]
    assert engine.log.read_text().count("accept") < 600, "the log is flooded"


# -- T37: names and filters -------------------------------------------------------------------------------------------------

ODD = [" ", "\t", "a b", "\u202egnp", "\u05d0\u05d1", "é", ".", "..", "-x", "a/b", "a\n", "a\0", "🐋", "x" * 10240 + " "]


@pytest.mark.parametrize("name", ODD, ids=lambda name: ascii(name)[:12])
def test_t37_odd_names_are_refused_and_nothing_is_made(engine, name):
    quoted = urllib.parse.quote(name)
    kept = engine.out("create", "busybox")
    everything = lambda: (engine.out("ps", "-aq"), engine.out("volume", "ls", "-q"))  # noqa: E731
    before = everything()
    for path, body in (
        (f"/containers/create?name={quoted}", {"Image": "busybox"}),
        (f"/containers/{kept}/rename?name={quoted}", None),
        ("/volumes/create", {"Name": name}),
        ("/containers/create", {"Image": "busybox", "HostConfig": {"Binds": [f"{name}:/data"]}}),
        ("/containers/create", {"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "volume", "Source": name, "Target": "/x"}]}}),
    ):  # fmt: skip
        status, answer = engine.api("POST", path, body)
        assert status == 400 and answer["message"], (path[:60], status, answer)
    assert everything() == before
    engine.docker("rm", kept)


def test_t37_names_of_ten_kilobytes_are_refused_or_work(engine):
    name = "x" * 10240
    status, made = engine.api("POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sleep", "60"]})
    assert status in (201, 400), made
    if status == 201:
        assert engine.api("POST", f"/containers/{name}/start")[0] == 204
        assert engine.api("GET", f"/containers/{name}/json")[1]["Name"] == f"/{name}"
        engine.restart()
        assert engine.api("GET", "/containers/json")[1][0]["Names"] == [f"/{name}"]
        assert engine.api("DELETE", f"/containers/{name}?force=1")[0] == 204
    status, answer = engine.api("POST", "/volumes/create", {"Name": name})
    assert status in (400, 500) and answer["message"]
    status, answer = engine.api("POST", "/networks/create", {"Name": name})
    assert status in (201, 400), answer
    if status == 201:
        assert engine.api("DELETE", f"/networks/{name}")[0] == 204


@pytest.mark.parametrize("kind", ["containers", "images", "volumes", "networks"])
@pytest.mark.parametrize("filters", ['{"lable":["keep"]}', '{"":["x"]}', '{"until\\u0000":["1h"]}', '{"label"', "[]", '{"label":1}', "keep"])
def test_t37_a_prune_with_a_filter_that_is_none_takes_nothing(engine, kind, filters):
    container = engine.out("create", "--label", "keep", "busybox")
    volume = engine.out("volume", "create", "--label", "keep")
    network = engine.out("network", "create", "--label", "keep", "t37")
    engine.docker("import", "-", "t37", input="\0" * 10240)
    engine.docker("rmi", "--no-prune", "t37", check=False)
    images = engine.out("images", "-aq")
    status, answer = engine.api("POST", f"/{kind}/prune?filters={urllib.parse.quote(filters)}")
    assert status == 400 and answer["message"], (status, answer)
    assert engine.out("images", "-aq") == images
    engine.docker("rm", container)
    engine.docker("volume", "rm", volume)
    engine.docker("network", "rm", network)


# -- T38: secrets -------------------------------------------------------------------------------------------------------------

SECRET = "canary-0f-a-secret"


def test_t38_no_secret_is_in_a_log_at_trace(fresh, tmp_path):
    engine = fresh("--log-level", "trace")
    env = ("-e", f"TOKEN={SECRET}")
    engine.docker("run", "-d", "--name", "one", *env, "--health-cmd", "test -n \"$TOKEN\"", "--health-interval", "1s", "busybox", "sleep", "600")
    engine.docker("exec", *env, "one", "true")
    engine.docker("exec", "-d", *env, "one", "sleep", "600")
    # Where it goes wrong the most is said.
    for argv in (["exec", *env, "one", "nosuch"], ["exec", *env, "-w", "/nosuch", "one", "true"], ["exec", *env, "-u", "nobody-here", "one", "true"],
                 ["run", "--rm", *env, "busybox", "nosuch"], ["run", "--rm", *env, "--network", "nosuch", "busybox"],
                 ["run", "--rm", *env, "-v", "/tmp:/x:nosuch", "busybox"], ["run", "--rm", *env, "--memory", "1", "busybox"],
                 ["create", "-e", f"={SECRET}", "busybox"]):  # fmt: skip
        assert engine.docker(*argv, check=False).returncode != 0, argv
    engine.api("POST", "/containers/create", json.dumps({"Image": "busybox", "Env": [f"TOKEN={SECRET}"]}).encode()[:-1], {"Content-Type": "application/json"})
    engine.api("POST", "/containers/create", {"Image": "busybox", "Env": [f"TOKEN={SECRET}", 1]})
    engine.api("POST", "/containers/create", {"Image": "busybox", "Env": {"TOKEN": SECRET}})
    engine.docker("commit", "--change", f"ENV MORE={SECRET}", "one", "committed")
    engine.docker("import", "--change", f"ENV MORE={SECRET}", "-", "imported", input="\0" * 10240)
    engine.docker("update", "--memory", "64m", "--memory-swap", "-1", "one")
    arguments = urllib.parse.quote(json.dumps({"TOKEN": SECRET}))
    engine.api("POST", f"/build?buildargs={arguments}&t=x", b"\0" * 10240, {"Content-Type": "application/x-tar", "X-Registry-Config": SECRET})
    engine.restart()
    wait_until(lambda: engine.inspect("one")["State"]["Health"]["Status"] == "healthy", 20)
    registry = Registry(engine.namespace, tmp_path / "registry")
    try:
        name = f"{registry.where}/busybox:1"
        engine.docker("tag", "busybox", name)
        for auth in ({"username": "ann", "password": SECRET}, {"identitytoken": SECRET}, {"registrytoken": SECRET}):
            import base64

            header = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()}
            engine.api("POST", f"/images/{registry.where}/busybox/push?tag=1", b"", header, raw=True)
            engine.api("POST", f"/images/create?fromImage={urllib.parse.quote(registry.where)}/busybox&tag=1", b"", header, raw=True)
            engine.api("POST", "/images/create?fromImage=localhost:1/x&tag=1", b"", header, raw=True)
            engine.api("POST", "/auth", {**auth, "serveraddress": "localhost:1"}, raw=True)
            coded = base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()
            assert coded not in engine.log.read_text(errors="replace")
    finally:
        registry.close()
    engine.docker("rm", "-f", "one")
    engine.stop()
    logs = [engine.log, *engine.exec_root.rglob("*.log"), *engine.data.rglob("containerd*.log")]
    assert any(" level=trace" in log.read_text(errors="replace") or "TRACE" in log.read_text(errors="replace") for log in logs), "nothing was said at trace"
    for log in logs:
        found = [line for line in log.read_text(errors="replace").splitlines() if SECRET in line]
        assert not found, (log, found[:3])
