"""Killed before and after each port call of a verb, and started again: the thing is whole or gone, nothing is left.

The points are those that the verb really passes: gantryd, built with the feature `failpoints`, writes them down.
"""

import collections
import os
import random
import signal
import socket
import subprocess
import tarfile
import time

import http.client

import pytest
from harness import BIN, Engine, busybox_archive, wait_until
from leftovers import difference, inventory
from registries import Registry

# What the sweeps, the supervision of other containers and the daemon itself pass at any time: no step of a verb.
BACKGROUND = {
    "runtime.containers", "runtime.container_snapshots", "runtime.tasks", "network.sandboxes", "stdio.sessions",
    "files.list", "images.leases", "execs.list", "runtime.versions", "store.put_cache", "store.flush",
    "network.host_routes", "network.networks", "volumes.found",
}  # fmt: skip
# The second sweep, which takes what nobody claims, comes five seconds after the start.
SWEPT = 20
SAMPLE = 12


def has_failpoints():
    return b"GANTRY_FAILPOINTS_FILE" in (BIN / "gantryd").read_bytes()


needs_failpoints = pytest.mark.skipif(
    not (BIN / "gantryd").exists() or not has_failpoints(), reason="gantryd is built without the feature `failpoints`"
)
pytestmark = needs_failpoints


class Lab:
    """One engine that is killed at a point and started again, as often as there are points."""

    def __init__(self):
        self.engine = Engine()
        self.file = self.engine.root / "failpoints"
        self.file.write_text("")
        self.engine.env["GANTRY_FAILPOINTS_FILE"] = str(self.file)
        self.engine.start()
        self.engine.load_busybox()
        # Another's container, volume and port must be as they were after all of it.
        self.engine.docker("run", "-d", "--name", "bystander", "-p", "9000:80", "-v", "kept:/v", "busybox", "sleep", "100000")
        self.small = self._small_image()
        self.registry = None

    def _small_image(self):
        """An image of its own: loading busybox again would find everything there."""
        source, path = self.engine.root / "layer.tar", self.engine.root / "small.tar"
        marker = self.engine.root / "marker"
        marker.write_text("small\n")
        with tarfile.open(source, "w") as tar:
            tar.add(marker, "marker")
        self.engine.docker("import", "-c", 'CMD ["x"]', source, "small:latest")
        self.engine.docker("save", "-o", path, "small:latest")
        self.engine.docker("rmi", "small:latest")
        return path

    def trace(self, verb):
        """The points of a verb in the order in which it passes them, each with its number."""
        trace = self.file.with_name("failpoints.trace")
        verb.prepare(self)
        trace.unlink(missing_ok=True)
        self.arm("trace")
        verb.act(self)
        verb.settle(self)
        self.arm("")
        verb.clean(self)
        passes, points = collections.Counter(), []
        for point in trace.read_text().split():
            if point.rsplit(":", 1)[0] not in BACKGROUND:
                passes[point] += 1
                points.append(f"{point}@{passes[point]}")
        return points

    def arm(self, text):
        # Whole or not at all: gantryd reads it at any moment.
        part = self.file.with_suffix(".part")
        part.write_text(text)
        part.rename(self.file)

    def baseline(self):
        """What there is when nothing is under way: quiet for half a second."""
        last = inventory(self.engine)
        for _ in range(40):
            time.sleep(0.5)
            now = inventory(self.engine)
            if not difference(last, now):
                return now
            last = now
        raise AssertionError("the engine does not come to rest")

    def kill_at(self, verb, point):
        """Runs the verb with the point armed. Whether gantryd died of it."""
        verb.prepare(self)
        self.arm(point)
        verb.act(self)
        try:
            # What follows the answer (a record written later, an exit worked off) may pass the point too.
            self.engine.process.wait(5)
        except subprocess.TimeoutExpired:
            self.arm("")
            return False
        assert self.engine.process.returncode == -signal.SIGKILL, self.engine.tail()
        self.arm("")
        self.engine.start()
        return True

    def check(self, verb, point, before):
        """Whole or gone, usable at once, and after the sweeps nothing that was not there before."""
        verb.look(self)
        verb.clean(self)
        assert self.engine.inspect("bystander")["State"]["Status"] == "running"
        left = {}

        def nothing_left():
            left.clear()
            left.update(difference(before, inventory(self.engine)))
            return not left

        try:
            wait_until(nothing_left, SWEPT, every=0.25)
        except AssertionError:
            raise AssertionError(f"{verb.__name__} killed at {point}: left {left}\n{self.engine.tail(25)}") from None

    def request(self, method, path, body=None, headers=None, raw=False):
        """A request that may be cut off by the kill: its answer, or None."""
        try:
            answer = self.engine.api(method, path, body, headers, raw, timeout=30)
            assert answer[0] < 300, answer
            return answer
        except (OSError, http.client.HTTPException, socket.timeout):
            return None

    def names(self):
        return {name.lstrip("/"): c for c in self.engine.api("GET", "/containers/json?all=1")[1] for name in c["Names"]}


CONFIG = {
    "Image": "busybox",
    "Cmd": ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do usleep 50000; done"],
    "Volumes": {"/anonymous": {}},
    "ExposedPorts": {"80/tcp": {}},
    "HostConfig": {"Binds": ["named:/named"], "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
}


class Verb:
    """What is done before, the verb itself, what must hold after the kill, and the way back."""

    def prepare(lab):
        pass

    def settle(lab):
        pass

    def look(lab):
        """The container is whole or gone: what is listed can be used."""
        if "it" not in lab.names():
            return
        status = lab.engine.inspect("it")["State"]["Status"]
        assert status in ("created", "running", "exited"), status
        if status != "running":
            answer = lab.engine.api("POST", "/containers/it/start")
            assert answer[0] == 204, answer
        state = lab.engine.inspect("it")
        assert state["State"]["Status"] == "running"
        wait_until(lambda: "up" in lab.engine.docker("logs", "it").stdout, 10, "the output")
        assert lab.engine.out("exec", "it", "echo", "in") == "in"
        assert state["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] != ""

    def clean(lab):
        answer = lab.engine.api("DELETE", "/containers/it?force=1&v=1")
        assert answer[0] in (204, 404), answer
        answer = lab.engine.api("DELETE", "/volumes/named?force=1")
        assert answer[0] in (204, 404), answer
        # The name, the port and the volume are free again.
        assert "it" not in lab.names()


class Create(Verb):
    def act(lab):
        lab.request("POST", "/containers/create?name=it", CONFIG)


class Start(Verb):
    def prepare(lab):
        assert lab.engine.api("POST", "/containers/create?name=it", CONFIG)[0] == 201

    def act(lab):
        lab.request("POST", "/containers/it/start")

    def settle(lab):
        time.sleep(0.3)  # the record that is written after the answer


class Stop(Verb):
    def prepare(lab):
        Start.prepare(lab)
        assert lab.engine.api("POST", "/containers/it/start")[0] == 204
        wait_until(lambda: "up" in lab.engine.docker("logs", "it").stdout)

    def act(lab):
        lab.request("POST", "/containers/it/stop?t=5")

    def settle(lab):
        time.sleep(0.5)  # the exit is worked off after the answer

    def look(lab):
        wait_until(lambda: lab.engine.inspect("it")["State"]["Status"] in ("running", "exited"), 10)
        status = lab.engine.inspect("it")["State"]
        assert status["Status"] == "running" or status["ExitCode"] == 0, status
        Verb.look(lab)


class Exec(Verb):
    prepare = Stop.prepare

    def act(lab):
        made = lab.request("POST", "/containers/it/exec", {"AttachStdout": True, "Cmd": ["sh", "-c", "usleep 200000; exit 3"]})
        if made:
            lab.request("POST", f"/exec/{made[1]['Id']}/start", {"Detach": True})

    def settle(lab):
        time.sleep(1)  # the exec's end

    def look(lab):
        assert lab.engine.inspect("it")["State"]["Status"] == "running"
        Verb.look(lab)
        wait_until(lambda: lab.engine.inspect("it")["ExecIDs"] is None, 10, "the end of all execs")


class Remove(Verb):
    def prepare(lab):
        Stop.prepare(lab)
        assert lab.engine.api("POST", "/containers/it/stop?t=5")[0] == 204

    def act(lab):
        lab.request("DELETE", "/containers/it?v=1")


class RemoveRunning(Verb):
    prepare = Stop.prepare

    def act(lab):
        lab.request("DELETE", "/containers/it?force=1&v=1")


class Load(Verb):
    def prepare(lab):
        assert lab.engine.api("GET", "/images/small:latest/json")[0] == 404

    def act(lab):
        lab.request("POST", "/images/load", lab.small.read_bytes(), {"Content-Type": "application/x-tar"})

    def look(lab):
        if lab.engine.api("GET", "/images/small:latest/json")[0] == 200:
            assert lab.engine.api("POST", "/containers/create?name=it", {"Image": "small"})[0] == 201
        # Once more, whatever was there.
        Load.act(lab)
        assert lab.engine.api("GET", "/images/small:latest/json")[0] == 200

    def clean(lab):
        Verb.clean(lab)
        assert lab.engine.api("DELETE", "/images/small:latest?force=1")[0] in (200, 404)


class Pull(Load):
    """As a load; the registry lives through it, and leases of blobs that came go with the pull that ends well."""

    def prepare(lab):
        if not lab.registry:
            lab.registry = Registry(lab.engine.namespace, lab.engine.root / "registry")
            lab.engine.docker("load", "-i", lab.small)
            lab.engine.docker("tag", "small:latest", f"{lab.registry.where}/small:latest")
            lab.engine.docker("push", f"{lab.registry.where}/small:latest")
            lab.engine.docker("rmi", "small:latest", f"{lab.registry.where}/small:latest")
        assert lab.engine.api("GET", f"/images/{lab.registry.where}/small:latest/json")[0] == 404

    def act(lab):
        lab.request("POST", f"/images/create?fromImage={lab.registry.where}/small&tag=latest", raw=True)

    def look(lab):
        name = f"{lab.registry.where}/small:latest"
        if lab.engine.api("GET", f"/images/{name}/json")[0] == 200:
            assert lab.engine.api("POST", "/containers/create?name=it", {"Image": name})[0] == 201
        # Once more, whatever was there.
        Pull.act(lab)
        assert lab.engine.api("GET", f"/images/{name}/json")[0] == 200

    def clean(lab):
        Verb.clean(lab)
        assert lab.engine.api("DELETE", f"/images/{lab.registry.where}/small:latest?force=1")[0] in (200, 404)
        assert lab.engine.api("POST", "/images/prune")[0] == 200


class VolumeCreate(Verb):
    def act(lab):
        lab.request("POST", "/volumes/create", {"Name": "made", "Labels": {"a": "b"}})

    def look(lab):
        status, volume = lab.engine.api("GET", "/volumes/made")
        assert status == 404 or (volume["Labels"] == {"a": "b"} and os.path.isdir(volume["Mountpoint"]))
        assert lab.engine.api("POST", "/volumes/create", {"Name": "made"})[0] == 201
        assert lab.engine.out("run", "--rm", "-v", "made:/v", "busybox", "sh", "-c", "echo x > /v/x && cat /v/x") == "x"

    def clean(lab):
        assert lab.engine.api("DELETE", "/volumes/made")[0] in (204, 404)


class NetworkCreate(Verb):
    """T54: name, subnet and bridge are usable at once, whatever is left to the sweeps."""

    BODY = {"Name": "net", "Options": {"com.docker.network.bridge.name": "br-it"}, "IPAM": {"Config": [{"Subnet": "10.90.0.0/24"}]}}

    def act(lab):
        lab.request("POST", "/networks/create", NetworkCreate.BODY)

    def look(lab):
        status, answer = lab.engine.api("POST", "/networks/create", NetworkCreate.BODY)
        assert status in (201, 409), answer
        argv = ("run", "--rm", "--network", "net", "--ip", "10.90.0.9", "busybox", "ping", "-c", "1", "-W", "2", "10.90.0.1")
        lab.engine.docker(*argv)

    def clean(lab):
        Verb.clean(lab)
        assert lab.engine.api("DELETE", "/networks/net")[0] in (204, 404)


class NetworkDelete(NetworkCreate):
    def prepare(lab):
        assert lab.engine.api("POST", "/networks/create", NetworkCreate.BODY)[0] == 201

    def act(lab):
        lab.request("DELETE", "/networks/net")


class NetworkConnect(NetworkCreate):
    CONNECT = {"Container": "it", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.90.0.8"}}}

    def prepare(lab):
        NetworkDelete.prepare(lab)
        Stop.prepare(lab)

    def act(lab):
        lab.request("POST", "/networks/net/connect", NetworkConnect.CONNECT)

    def look(lab):
        """The record and the kernel say the same, and the way there and back is open."""
        for _ in range(2):
            joined = "net" in lab.engine.inspect("it")["NetworkSettings"]["Networks"]
            seen = lab.engine.out("exec", "it", "ip", "-o", "-4", "addr")
            assert ("10.90.0.8/24" in seen) == joined, seen
            verb, body = ("disconnect", {"Container": "it"}) if joined else ("connect", NetworkConnect.CONNECT)
            status, answer = lab.engine.api("POST", f"/networks/net/{verb}", body)
            assert status == 200, answer
        Verb.look(lab)


class NetworkDisconnect(NetworkConnect):
    def prepare(lab):
        NetworkConnect.prepare(lab)
        assert lab.engine.api("POST", "/networks/net/connect", NetworkConnect.CONNECT)[0] == 200

    def act(lab):
        lab.request("POST", "/networks/net/disconnect", {"Container": "it"})


NETWORK_VERBS = [NetworkCreate, NetworkDelete, NetworkConnect, NetworkDisconnect]
VERBS = [Create, Start, Exec, Stop, Remove, RemoveRunning, Load, Pull, VolumeCreate]


@pytest.fixture(scope="module")
def lab():
    assert busybox_archive().exists()
    lab = Lab()
    try:
        yield lab
    finally:
        if lab.registry:
            lab.registry.close()
        lab.engine.close()


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("verb", VERBS + NETWORK_VERBS, ids=lambda verb: verb.__name__)
def test_a_kill_at_every_point_of_a_verb_leaves_it_whole_or_gone(lab, verb):
    points = lab.trace(verb)
    before = lab.baseline()
    failures = []
    for point in points:
        try:
            lab.kill_at(verb, point)
            lab.check(verb, point, before)
        except AssertionError as failure:
            # The others are to be seen as well; what this one left is no fault of theirs.
            failures.append(f"--- {point}\n{failure}")
            verb.clean(lab)
            before = lab.baseline()
    assert not failures, f"{len(failures)} of {len(points)}\n" + "\n".join(failures)


def test_a_kill_at_some_point_of_each_verb_leaves_it_whole_or_gone(lab):
    kill_at_some_points(lab, VERBS, SAMPLE)


def test_a_kill_at_some_point_of_each_network_verb_leaves_it_whole_or_gone(lab):
    kill_at_some_points(lab, NETWORK_VERBS, 8)


def kill_at_some_points(lab, verbs, sample):
    """The sweeps are waited for once, after all of them; each thing is looked at at once."""
    seed = int(os.environ.get("GANTRY_SEED", time.time_ns() % 100_000))
    print("GANTRY_SEED", seed)
    chance = random.Random(seed)
    points = {verb: lab.trace(verb) for verb in verbs}
    for verb, passed in points.items():
        assert passed, verb
    chosen = [(verb, chance.choice(points[verb])) for verb in verbs]
    rest = [(verb, point) for verb in verbs for point in points[verb] if (verb, point) not in chosen]
    chosen += chance.sample(rest, sample - len(verbs))
    before = lab.baseline()
    for verb, point in chosen:
        lab.kill_at(verb, point)
        verb.look(lab)
        verb.clean(lab)
    lab.check(Verb, f"one of {[f'{verb.__name__} {point}' for verb, point in chosen]}", before)
