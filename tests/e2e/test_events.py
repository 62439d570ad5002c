"""`docker events`: the sequences clients rely on, filters, the window of the past."""

import json
import subprocess
import time

import pytest
from harness import wait_until


@pytest.fixture
def told(engine):
    """Collects events from now on; `told(name)` gives the actions of a container so far."""

    class Told:
        def __init__(self):
            self.since = engine.out("info", "--format", "{{.SystemTime}}")

        def events(self, *filters):
            until = engine.out("info", "--format", "{{.SystemTime}}")
            argv = [a for f in filters for a in ("--filter", f)]
            lines = engine.out("events", "--since", self.since, "--until", until, "--format", "{{json .}}", *argv)
            return [json.loads(line) for line in lines.splitlines()]

        def actions(self, *filters):
            return [event["Action"] for event in self.events(*filters)]

    return Told()


SLEEP = ("busybox", "sleep", "1000")
DEAF = ("busybox", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")


def test_run_is_create_attach_connect_start_die(engine, told):
    engine.docker("run", "--name", "seq", "-l", "k=v", "busybox", "sh", "-c", "exit 3", check=False)
    events = [event for event in told.events() if event["Type"] in ("container", "network")]
    container = engine.inspect("seq")["Id"]
    assert [event["Action"] for event in events] == ["create", "attach", "connect", "start", "die", "disconnect"] or [
        event["Action"] for event in events
    ] == ["create", "attach", "connect", "start", "disconnect", "die"]
    create = events[0]
    assert create["status"] == "create" and create["id"] == container and create["from"] == "busybox"
    assert create["Actor"] == {"ID": container, "Attributes": {"image": "busybox", "name": "seq", "k": "v"}}
    assert create["scope"] == "local" and create["timeNano"] // 10**9 == create["time"]
    connect = next(event for event in events if event["Action"] == "connect")
    assert connect["Actor"]["Attributes"] == {"container": container, "name": "bridge", "type": "bridge"}
    assert "status" not in connect and "id" not in connect
    die = next(event for event in events if event["Action"] == "die")
    assert die["Actor"]["Attributes"]["exitCode"] == "3" and die["Actor"]["Attributes"]["execDuration"] == "0"
    engine.docker("rm", "seq")
    assert told.actions("container=seq", "type=container")[-1] == "destroy"


def test_stop_is_kill_then_stop_and_die(engine, told):
    engine.docker("run", "-d", "--name", "stopping", *DEAF)
    wait_until(lambda: "up" in engine.docker("logs", "stopping").stdout)
    engine.docker("stop", "-t", "1", "stopping")
    events = told.events("container=stopping", "type=container")
    actions = [event["Action"] for event in events]
    assert actions[:4] == ["create", "start", "kill", "kill"] and sorted(actions[4:]) == ["die", "stop"]
    assert [event["Actor"]["Attributes"]["signal"] for event in events if event["Action"] == "kill"] == ["15", "9"]
    engine.docker("rm", "stopping")


def test_kill_rm_f_restart_pause_and_rename_tell_what_dockerd_tells(engine, told):
    engine.docker("run", "-d", "--name", "many", *SLEEP)
    engine.docker("pause", "many")
    engine.docker("unpause", "many")
    engine.docker("restart", "-t", "0", "many")
    engine.docker("kill", "many")
    engine.docker("start", "many")
    engine.docker("rename", "many", "several")
    engine.docker("rm", "-f", "several")
    events = [event for event in told.events("type=container") if event["Actor"]["Attributes"]["name"] in ("many", "several")]
    actions = [event["Action"] for event in events]
    assert actions[:4] == ["create", "start", "pause", "unpause"]
    again = actions[4 : actions.index("restart") + 1]
    assert again[0] == "kill" and again[-2:] == ["start", "restart"] and sorted(set(again[1:-2]) - {"kill"}) == ["die", "stop"]
    assert actions[actions.index("restart") + 1 :] == ["kill", "die", "start", "rename", "kill", "die", "destroy"]
    rename = events[actions.index("rename")]["Actor"]["Attributes"]
    assert (rename["oldName"], rename["name"]) == ("/many", "several")


def test_exec_tells_create_start_and_die(engine, told):
    engine.docker("run", "-d", "--name", "exechost", *SLEEP)
    engine.docker("exec", "exechost", "sh", "-c", "exit 4", check=False)
    events = wait_until(lambda: (e := told.events("container=exechost", "type=container"))[-1]["Action"] == "exec_die" and e)
    assert [event["Action"] for event in events[2:]] == ["exec_create: sh -c exit 4", "exec_start: sh -c exit 4", "exec_die"]
    last = events[-1]["Actor"]["Attributes"]
    assert last["exitCode"] == "4" and last["execID"] == events[2]["Actor"]["Attributes"]["execID"]
    assert told.actions("event=exec_create") == ["exec_create: sh -c exit 4"]
    assert told.actions("event=exec_die") == ["exec_die"]
    engine.docker("rm", "-f", "exechost")


def test_an_oom_is_told_before_the_death(engine, told):
    engine.docker("run", "--name", "greedy", "-m", "8m", "--memory-swap", "8m", "busybox", "sh", "-c",
                  "tail /dev/zero", check=False)  # fmt: skip
    actions = told.actions("container=greedy", "type=container")
    assert engine.inspect("greedy")["State"]["OOMKilled"] is True
    assert "oom" in actions and actions.index("oom") < actions.index("die")
    engine.docker("rm", "greedy")


def test_filters_choose_by_type_name_label_event_and_image(engine, told):
    engine.docker("run", "--name", "chosen", "-l", "team=a", "busybox", "true")
    engine.docker("run", "--name", "other", "-l", "team=b", "-v", "filtervol:/x", "busybox", "true")
    assert {event["Type"] for event in told.events("type=volume")} == {"volume"}
    for filters in (("label=team=a",), ("label=team=a", "label=team"), ("container=chosen", "type=container")):
        assert {event["Actor"]["Attributes"]["name"] for event in told.events(*filters)} == {"chosen"}
    assert told.actions("event=die", "event=create", "label=team=a") == ["create", "die"]
    assert told.actions("image=busybox", "event=start") == ["start", "start"]
    assert told.actions("image=nosuch") == []
    assert told.actions("volume=filtervol", "type=volume") == ["create", "mount", "unmount"]
    assert set(told.actions("network=bridge", "type=network")) == {"connect", "disconnect"}
    assert told.actions("scope=swarm") == []
    # dockerd does not know the keys of these filters either way; JSON they must be.
    assert engine.api("GET", "/events?until=1&filters=%7B")[0] == 400
    engine.docker("rm", "-v", "chosen", "other")
    engine.docker("volume", "rm", "filtervol")


def test_the_headers_come_before_the_first_event_and_events_as_they_happen(engine):
    connection = engine.connection(timeout=20)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/json")
    engine.docker("volume", "create", "live")
    event = json.loads(answer.readline())
    assert (event["Type"], event["Action"], event["Actor"]["ID"]) == ("volume", "create", "live")
    connection.close()
    engine.docker("volume", "rm", "live")
    client = engine.docker_popen("events", "--filter", "type=volume", "--format", "{{.Action}}", stdout=subprocess.PIPE, text=True)
    made = 0
    while made == 0 or not line_ready(client):
        engine.docker("volume", "create", f"live{made}")
        made += 1
        assert made < 100
    assert client.stdout.readline() == "create\n"
    client.kill()
    client.wait()
    engine.docker("volume", "rm", *[f"live{n}" for n in range(made)])


def line_ready(client):
    import select

    return select.select([client.stdout], [], [], 0.1)[0]


def test_the_window_of_the_past_is_256_events_and_ends_at_until(engine):
    for n in range(130):
        engine.api("POST", "/volumes/create", body={"Name": f"ring{n}"})
        engine.api("DELETE", f"/volumes/ring{n}")
    until = time.time() + 1.0
    before = time.monotonic()
    data = engine.api("GET", f"/events?since=1&until={until:.9f}", raw=True)[1]
    assert 0.5 < time.monotonic() - before < 15
    events = [json.loads(line) for line in data.splitlines()]
    assert len(events) == 256
    assert [event["timeNano"] for event in events] == sorted(event["timeNano"] for event in events)
    assert engine.api("GET", "/events?since=1&until=2", raw=True) == (200, b"")
    status, body = engine.api("GET", "/events?since=5&until=2")
    assert status == 400
    assert "`since` time (5) cannot be after `until` time (2)" in body["message"]
    assert engine.api("GET", "/events?since=yesterday&until=2")[0] == 400


def test_old_versions_have_no_different_events(engine):
    since = time.time()
    engine.docker("create", "--name", "versioned", "busybox")
    for version in ("1.24", "1.44", "1.51"):
        data = engine.api("GET", f"/v{version}/events?since={since:.9f}&until={time.time():.9f}", raw=True)[1]
        event = json.loads(data.splitlines()[0])
        assert event["status"] == event["Action"] == "create" and event["from"] == "busybox"
    engine.docker("rm", "versioned")
