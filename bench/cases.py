"""The cases: each does one piece of work on an engine and returns its seconds, set-up and cleaning apart."""

import contextlib
import io
import tarfile
from concurrent.futures import ThreadPoolExecutor

import images
from files import MIB, folder, timed

LOG_BYTES = 64 * MIB
BRIDGE = {"NetworkMode": "bridge"}
NONE = {"NetworkMode": "none"}
# dockerd publishes only what is exposed too.
EXPOSED = {"ExposedPorts": {"80/tcp": {}}}
PORT = {**BRIDGE, "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]}}


def cycle(host_config, **config):
    """create, start, wait, remove: what `docker run --rm` costs."""

    def case(engine):
        with timed() as clock:
            container = engine.create(["true"], host_config, **config)
            engine.start(container)
            code = engine.wait(container)
            engine.remove(container)
        if code != 0:
            raise RuntimeError(f"`true` left with {code}")
        return clock.seconds

    return case


def start(host_config):
    def case(engine):
        container = engine.create(["sleep", "60"], host_config)
        with timed() as clock:
            engine.start(container)
        engine.remove(container)
        return clock.seconds

    return case


def execute(engine):
    with timed() as clock:
        body = {"Cmd": ["true"], "AttachStdout": True}
        made = engine.json("POST", f"/containers/{engine.running}/exec", body)["Id"]
        engine.raw("POST", f"/exec/{made}/start", {"Detach": False})
        code = engine.json("GET", f"/exec/{made}/json")["ExitCode"]
    if code != 0:
        raise RuntimeError(f"`true` left with {code}")
    return clock.seconds


def stop_and_remove(engine):
    container = engine.create(["sleep", "1000"], BRIDGE, StopSignal="SIGKILL")
    engine.start(container)
    with timed() as clock:
        engine.raw("POST", f"/containers/{container}/stop?t=1")
        engine.remove(container)
    return clock.seconds


def parallel_start(count, host_config):
    def case(engine):
        containers = [engine.create(["sleep", "1000"], host_config) for _ in range(count)]
        with ThreadPoolExecutor(count) as pool:
            try:
                with timed() as clock:
                    list(pool.map(engine.start, containers))
            finally:
                list(pool.map(engine.remove, containers))
        return clock.seconds

    return case


def network(engine):
    with timed() as clock:
        made = engine.json("POST", "/networks/create", {"Name": "benchnet", "CheckDuplicate": True})["Id"]
        engine.raw("DELETE", f"/networks/{made}")
    return clock.seconds


def log_write(engine):
    """`cat` of a ready file: the writer is never what is waited for."""
    binds = [f"{lines()}:/lines:ro"]
    container = engine.create(["cat", "/lines"], {**NONE, "Binds": binds})
    with timed() as clock:
        engine.start(container)
        engine.wait(container)
    engine.logged.append(container)
    return clock.seconds


def log_read(engine):
    with timed() as clock:
        data = engine.raw("GET", f"/containers/{engine.logged[-1]}/logs?stdout=1")
    if len(data) < LOG_BYTES:
        raise RuntimeError(f"{len(data)} bytes of {LOG_BYTES}")
    return clock.seconds


def log_tail(engine):
    with timed() as clock:
        data = engine.raw("GET", f"/containers/{engine.logged[-1]}/logs?stdout=1&tail=10")
    if len(data) != 10 * 108:
        raise RuntimeError(f"{len(data)} bytes are not ten lines")
    return clock.seconds


def copy_in_and_out(engine):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo("blob")
        info.size = 64 * MIB
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    with timed() as clock:
        engine.raw("PUT", f"/containers/{engine.running}/archive?path=/tmp", archive.getvalue())
        data = engine.raw("GET", f"/containers/{engine.running}/archive?path=/tmp/blob")
    if len(data) <= 64 * MIB:
        raise RuntimeError(f"{len(data)} bytes came back")
    return clock.seconds


def list_all(engine):
    with timed() as clock:
        found = engine.json("GET", "/containers/json?all=1")
    if len(found) < len(engine.fleet):
        raise RuntimeError(f"{len(found)} of {len(engine.fleet)} containers")
    return clock.seconds


def repeated(path, times):
    """The same read on one connection."""

    def case(engine):
        with contextlib.closing(engine.connection()) as connection, timed() as clock:
            for _ in range(times):
                engine.raw("GET", path.format(running=engine.running), over=connection)
        return clock.seconds

    return case


SENDER = """
import socket, sys, time
block, left = bytes(1 << 20), int(sys.argv[2])
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as stream:
    start = time.perf_counter()
    for _ in range(left):
        stream.sendall(block)
    stream.shutdown(socket.SHUT_WR)
    stream.recv(1)
    print(time.perf_counter() - start)
"""


def port_over_loopback(engine):
    """What a client of the host's sends to a published port on 127.0.0.1, until the container has all of it."""
    container = engine.create(["sh", "-c", "nc -l -p 80 > /dev/null"], PORT, **EXPOSED)
    engine.start(container)
    try:
        ports = engine.json("GET", f"/containers/{container}/json")["NetworkSettings"]["Ports"]
        sent = engine.namespace.exec("python3", "-c", SENDER, ports["80/tcp"][0]["HostPort"], 512)
    finally:
        engine.remove(container)
    return float(sent.stdout)


CASES = {
    "ping x200": repeated("/_ping", 200),
    "cycle none": cycle(NONE),
    "cycle bridge": cycle(BRIDGE),
    "cycle bridge+port": cycle(PORT, **EXPOSED),
    "start none": start(NONE),
    "start bridge": start(BRIDGE),
    "exec true": execute,
    "stop+rm": stop_and_remove,
    "parallel start x20": parallel_start(20, BRIDGE),
    "parallel start x100 none": parallel_start(100, NONE),
    "network create+rm": network,
    "port 127.0.0.1 512MiB": port_over_loopback,
    "log write 64MiB": log_write,
    "log read 64MiB": log_read,
    "log tail 10": log_tail,
    "cp 64MiB in+out": copy_in_and_out,
    "list all": list_all,
    "inspect x50": repeated("/containers/{running}/json", 50),
    **images.CASES,
}
NEEDS = {"log read 64MiB": "log write 64MiB", "log tail 10": "log write 64MiB"}


def lines():
    """64 MiB in lines of 100 bytes."""
    path = folder() / "lines"
    if not path.exists():
        path.write_bytes((b"x" * 99 + b"\n") * (LOG_BYTES // 100 + 1))
    return path
