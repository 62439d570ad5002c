"""gantryd killed at each step of what it does with plugins of networks and addresses: the ledger of the plugin is empty in
the end, and what is there can be used.

The steps are those of `test_failpoints`: before and after each call of a port, the plugin's calls among them.
"""

import os
import random
import time

import pytest
from harness import wait_until
from test_failpoints import Lab, Verb, needs_failpoints
from test_network_plugins import NOTHING, NetworkPlugin, addresses, no_links_of_plugins

pytestmark = needs_failpoints
SAMPLE = 14


class FarVerb(Verb):
    """On a network of the plugin's, with its addresses."""

    def network(lab):
        body = {"Name": "far", "Driver": lab.plugin.name, "IPAM": {"Driver": lab.plugin.name}}
        return lab.request("POST", "/networks/create", body)

    def container(lab, network):
        body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": network}}
        assert lab.engine.api("POST", "/containers/create?name=it", body)[0] == 201

    def settle(lab):
        time.sleep(0.5)  # what follows the answer: a record, the end of a run

    def look(lab):
        if lab.engine.api("GET", "/networks/far")[0] == 404:
            assert FarVerb.network(lab)[0] == 201
        if "it" not in lab.names():
            FarVerb.container(lab, "far")
        if lab.engine.inspect("it")["State"]["Status"] != "running":
            assert lab.engine.api("POST", "/containers/it/start")[0] == 204
        if "far" not in addresses(lab.engine, "it"):
            assert lab.engine.api("POST", "/networks/far/connect", {"Container": "it"})[0] == 200
        gateway = lab.engine.api("GET", "/networks/far")[1]["IPAM"]["Config"][0]["Gateway"]
        lab.engine.docker("exec", "it", "ping", "-c", "1", "-W", "2", gateway)

    def clean(lab):
        assert lab.engine.api("DELETE", "/containers/it?force=1&v=1")[0] in (204, 404)
        assert lab.engine.api("DELETE", "/networks/far")[0] in (204, 404)


class FarNetworkCreate(FarVerb):
    act = FarVerb.network


class FarNetworkDelete(FarVerb):
    def prepare(lab):
        assert FarVerb.network(lab)[0] == 201

    def act(lab):
        lab.request("DELETE", "/networks/far")


class FarStart(FarVerb):
    def prepare(lab):
        FarNetworkDelete.prepare(lab)
        FarVerb.container(lab, "far")

    def act(lab):
        lab.request("POST", "/containers/it/start")


class FarRemove(FarVerb):
    def prepare(lab):
        FarStart.prepare(lab)
        assert lab.engine.api("POST", "/containers/it/start")[0] == 204

    def act(lab):
        lab.request("DELETE", "/containers/it?force=1")


class FarStop(FarRemove):
    def act(lab):
        lab.request("POST", "/containers/it/stop?t=0")


class FarConnect(FarVerb):
    def prepare(lab):
        FarNetworkDelete.prepare(lab)
        FarVerb.container(lab, "bridge")
        assert lab.engine.api("POST", "/containers/it/start")[0] == 204

    def act(lab):
        lab.request("POST", "/networks/far/connect", {"Container": "it"})


class FarDisconnect(FarConnect):
    def prepare(lab):
        FarConnect.prepare(lab)
        assert lab.engine.api("POST", "/networks/far/connect", {"Container": "it"})[0] == 200

    def act(lab):
        lab.request("POST", "/networks/far/disconnect", {"Container": "it"})


VERBS = [FarNetworkCreate, FarNetworkDelete, FarStart, FarStop, FarRemove, FarConnect, FarDisconnect]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab()
    lab.plugin = None
    try:
        lab.plugin = NetworkPlugin(lab.engine, tmp_path_factory.mktemp("killed"))
        yield lab
    finally:
        lab.engine.close()
        if lab.plugin:
            lab.plugin.close()


def kill_at(lab, verb, point):
    lab.kill_at(verb, point)
    verb.look(lab)
    verb.clean(lab)
    ledger = lab.plugin.ledger
    wait_until(lambda: ledger() == NOTHING, 20, lambda: f"{verb.__name__} {point}: an empty ledger: {ledger()}")
    assert no_links_of_plugins(lab.engine) == [], (verb.__name__, point)


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_a_kill_at_every_point_of_a_verb_leaves_nothing_at_the_plugin(lab, verb):
    failures = []
    for point in lab.trace(verb):
        try:
            kill_at(lab, verb, point)
        except AssertionError as failure:
            failures.append(f"--- {point}\n{failure}")
            verb.clean(lab)
    assert not failures, "\n".join(failures)


def test_a_kill_at_some_point_of_each_verb_leaves_nothing_at_the_plugin(lab):
    seed = int(os.environ.get("GANTRY_SEED", time.time_ns() % 100_000))
    print("GANTRY_SEED", seed)
    chance = random.Random(seed)
    points = {verb: lab.trace(verb) for verb in VERBS}
    for verb, passed in points.items():
        assert any(point.startswith("plugins.") for point in passed), verb
    chosen = [(verb, chance.choice(points[verb])) for verb in VERBS]
    rest = [(verb, point) for verb in VERBS for point in points[verb] if (verb, point) not in chosen]
    for verb, point in chosen + chance.sample(rest, SAMPLE - len(chosen)):
        kill_at(lab, verb, point)
