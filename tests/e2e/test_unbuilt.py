"""What gantryd does not have: the plugins' empty list and 404, the swarm's 503 in Docker's words, an honest 501 for the rest."""

import re
import tomllib
import urllib.parse

import pytest
from harness import ROOT

NOT_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
)
NOT_MEMBER = "This node is not part of a swarm"
ENABLED = urllib.parse.quote('{"enabled":["true"]}')
CHECKPOINT = "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it."


def rows():
    """(operation, status) of each row of the table that says `answers NNN`."""
    with open(ROOT / "api-spec" / "coverage.toml", "rb") as file:
        table = tomllib.load(file)
    said = ((operation, re.match(r"answers (\d{3})", row.get("missing", ""))) for operation, row in table.items())
    return [(operation, int(found[1])) for operation, found in said if found]


def sentence(operation, status):
    method, path = operation.split(" ")
    if path.startswith("/debug"):
        return "page not found"
    if path.startswith("/plugins") and status == 404:
        return 'plugin "nosuch" not found'
    if path == "/volumes/{name}":
        return "volume update only valid for cluster volumes, but swarm is unavailable"
    if "checkpoints" in path:
        return CHECKPOINT
    if status == 503:
        return NOT_MEMBER if path == "/swarm/leave" else NOT_MANAGER
    return f"{method} {path} is not implemented by gantry yet"


@pytest.mark.parametrize("operation, status", rows())
def test_what_is_not_there_answers_as_its_row_says(engine, operation, status):
    method, path = operation.split(" ")
    target = re.sub(r"\{[^}]*\}", "nosuch", path)
    body = {} if method in ("POST", "PUT") else None
    for version in ("", "/v1.44"):
        assert engine.api(method, version + target, body) == (status, {"message": sentence(operation, status)})


def test_there_are_no_plugins_and_the_client_says_so(engine):
    assert engine.api("GET", "/plugins") == (200, [])
    assert engine.api("GET", f"/plugins?filters={ENABLED}") == (200, [])
    assert engine.out("plugin", "ls", "-q") == ""
    done = engine.docker("plugin", "inspect", "nosuch", check=False)
    assert done.returncode == 1 and 'plugin "nosuch" not found' in done.stderr


@pytest.mark.parametrize("argv, words", [
    (("node", "ls"), NOT_MANAGER), (("service", "ls"), NOT_MANAGER), (("secret", "ls"), NOT_MANAGER), (("config", "ls"), NOT_MANAGER),
    (("stack", "ls"), NOT_MANAGER), (("swarm", "leave"), NOT_MEMBER), (("swarm", "join-token", "worker"), NOT_MANAGER),
    (("swarm", "init"), "is not implemented by gantry yet"), (("checkpoint", "ls", "x"), ""),
])  # fmt: skip
def test_the_client_prints_dockers_sentence(engine, argv, words):
    done = engine.docker(*argv, check=False)
    assert done.returncode == 1 and words in done.stderr, done
    assert engine.api("GET", "/info")[1]["Swarm"]["LocalNodeState"] == "inactive"
