"""What gantryd answers is what `api-spec/openapi.yaml` says: made-up requests, by operation, from a fixed seed.

Nothing here can reach the machine: bodies lose what opens the host (binds, devices, host namespaces, privileges).
"""

import os
import random

import pytest
import requests
import schemathesis
from docker.transport import UnixHTTPAdapter
from harness import ROOT, Engine
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS


@schemathesis.serializer("application/x-tar")
def tar_bytes(ctx, value):
    """Made-up bytes as they are: no archive."""
    return value if isinstance(value, bytes) else str(value).encode()


# A login asks a registry outside; it has tests of its own with one.
schema = schemathesis.openapi.from_path(ROOT / "api-spec" / "openapi.yaml").exclude(path="/auth")
schema.config.update(base_url="http://gantry.test")

EXAMPLES = int(os.environ.get("GANTRY_SCHEMA_EXAMPLES", "8"))
PATIENCE = 60
# Answers of many JSON objects: each is checked by itself in the tests of these operations.
STREAMS = {"/events", "/images/create", "/images/load", "/images/{name}/push"}
# What dockerd answers with 500 though it is not at fault; its clients read the text. One is the kernel's word on a limit,
# one that of a registry that is not there.
DOCKERDS_OWN = ("is not paused", "ps: ", "timeout waiting for exec session ready", ": invalid argument", "no such host")
CONFORMANCE = CHECKS.get_by_names(
    ["status_code_conformance", "content_type_conformance", "response_headers_conformance", "response_schema_conformance"]
)
# What a made-up container must not have: each opens the host.
HOST_KEYS = {
    "Binds", "Mounts", "Devices", "DeviceRequests", "DeviceCgroupRules", "Privileged", "PidMode", "IpcMode", "UTSMode",
    "UsernsMode", "CgroupnsMode", "CgroupParent", "Cgroup", "CapAdd", "SecurityOpt", "VolumesFrom", "OomKillDisable",
    "MaskedPaths", "ReadonlyPaths", "Sysctls", "Ulimits", "OomScoreAdj", "PublishAllPorts", "Runtime", "LogConfig",
}  # fmt: skip
SAFE_NETWORKS = ("none", "bridge", "default", "no-such-network")


class World:
    """An engine with one object of each kind in each state, so that made-up requests meet something."""

    def __init__(self):
        self.engine = Engine().start()
        self.engine.load_busybox()
        self.session = requests.Session()
        self.session.mount("http://", UnixHTTPAdapter(f"http+unix://{self.engine.socket}", timeout=PATIENCE))
        self.renew()

    def renew(self):
        """Puts back what a made-up request took away."""
        api = self.engine.api
        if api("GET", "/images/busybox/json")[0] == 404:
            self.engine.load_busybox()
        api("POST", "/images/busybox/tag?repo=target&tag=one")
        api("POST", "/volumes/create", {"Name": "volume-one"})
        for name, command in (("running", ["sleep", "600"]), ("stopped", ["echo", "hello"]), ("created", ["true"])):
            body = {"Image": "busybox", "Cmd": command, "StopSignal": "KILL"}
            made = api("POST", f"/containers/create?name={name}", body)[0] == 201
            if name == "running" or (made and name == "stopped"):
                api("POST", f"/containers/{name}/start")
        api("POST", "/containers/stopped/wait")
        body = {"Cmd": ["true"], "AttachStdout": True}
        status, answer = api("POST", "/containers/running/exec", body)
        self.exec = answer["Id"] if status == 201 else "no-such-exec"

    def close(self):
        self.session.close()
        self.engine.close()


@pytest.fixture(scope="module")
def world():
    world = World()
    yield world
    world.close()


def names_for(path, world):
    """Names that exist, and one that does not, for the object in a path."""
    if path.startswith("/exec/"):
        return [world.exec, "no-such-exec"]
    if path.startswith("/images/"):
        return ["busybox", "target:one", "nosuch"]
    if path.startswith("/networks/"):
        return ["bridge", "none", "nosuch"]
    if path.startswith("/volumes/"):
        return ["volume-one", "nosuch"]
    return ["running", "stopped", "created", "nosuch"]


def aim(case, world):
    """Lets three requests of four meet an object that is there, and ends what would stream for ever."""
    chance = random.Random(f"{case.path} {case.query} {case.body}")
    for name in case.path_parameters or {}:
        if chance.random() < 0.75:
            case.path_parameters[name] = chance.choice(names_for(case.path, world))
    query = case.query if isinstance(case.query, dict) else {}
    if case.path == "/events":
        query = {**query, "until": "1"}
    if case.path.endswith("/logs"):
        query = {**query, "follow": "0"}
    if case.path.endswith(("/wait", "/attach")) and (case.path_parameters or {}).get("id") in ("running", "created"):
        case.path_parameters["id"] = "stopped"
    if case.path.endswith("/stats"):
        query = {**query, "stream": "0"}
    if case.path.endswith("/attach"):
        # On a container that does not run it would wait for the next start, as under dockerd.
        query = {**query, "stream": "0"}
    if case.path.endswith("/wait"):
        query.pop("condition", None)
    if case.path.endswith("/stop") or case.path.endswith("/restart"):
        query = {**query, "t": "0"} if query.get("t") else query
    case.query = query
    if isinstance(case.body, dict):
        case.body = tame(case.path, case.body, chance)


def tame(path, body, chance):
    """Takes from a made-up body what would open the host, and mostly names an image that is there."""
    if path == "/containers/create":
        body = dict(body)
        if chance.random() < 0.75:
            body["Image"] = "busybox"
        host = body.get("HostConfig")
        if isinstance(host, dict):
            host = {key: value for key, value in host.items() if key not in HOST_KEYS}
            if host.get("NetworkMode") not in SAFE_NETWORKS:
                host["NetworkMode"] = chance.choice(SAFE_NETWORKS)
            body["HostConfig"] = host
    if path == "/volumes/create":
        body = {key: value for key, value in body.items() if key != "DriverOpts"}
    if path.endswith("/exec"):
        body = {**body, "Privileged": False}
    return body


def without_server_error(ctx, response, case):
    """No 5xx; but what is not built may say so where the description has a 501."""
    status, documented = response.status_code, case.operation.definition.raw.get("responses", {})
    if status < 500 or (status == 501 and "501" in documented):
        return
    if status == 500 and any(text in response.text for text in DOCKERDS_OWN):
        return
    raise AssertionError(f"{status}: {response.text[:500]}")


def checks_of(case):
    """What is asked of an answer: all of it; of a method that is not in the description, that nothing broke."""
    if case.method.upper() != case.operation.method.upper():
        return [nothing_broke]
    if case.path in STREAMS:
        return [without_server_error, *CHECKS.get_by_names(["status_code_conformance"])]
    return [without_server_error, *CONFORMANCE]


def nothing_broke(ctx, response, case):
    if response.status_code == 500:
        raise AssertionError(response.text[:500])


def in_full(examples):
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def probe(case, world):
    aim(case, world)
    try:
        response = case.call(session=world.session, timeout=PATIENCE)
    except requests.exceptions.InvalidHeader:
        return  # the client would not send it
    case.validate_response(response, checks=checks_of(case))
    if response.status_code < 300 and (
        case.method == "DELETE" or case.path.endswith(("/prune", "/kill", "/stop", "/rename", "/pause"))
    ):
        world.engine.api("POST", "/containers/running/unpause")
        world.renew()


@schema.parametrize()
@in_full(EXAMPLES)
def test_every_answer_is_one_that_the_description_has(case, world):
    probe(case, world)


@pytest.mark.soak
@schema.parametrize()
@in_full(EXAMPLES * 20)
def test_many_more_answers_are_ones_that_the_description_has(case, world):
    probe(case, world)


def test_the_engine_is_whole_after_all_that(world):
    """Runs last in this file: no panic was logged, and containers still run."""
    assert world.engine.process.poll() is None
    world.renew()
    assert world.engine.out("run", "--rm", "busybox", "echo", "still here") == "still here"
    assert "panicked" not in world.engine.log.read_text(errors="replace")
