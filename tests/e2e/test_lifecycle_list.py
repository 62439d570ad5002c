"""`docker ps` and `docker inspect`: columns, texts and filters; df, prune and system prune."""

import json
import re

import pytest


@pytest.fixture(scope="module")
def zoo(engine):
    """One container of each state."""
    engine.docker("run", "-d", "--name", "running", "-l", "kind=up", "-p", "80", "--expose", "81", "-v", "stuff:/stuff",
                  "busybox", "sleep", "1000")  # fmt: skip
    engine.docker("run", "-d", "--name", "paused", "busybox", "sleep", "1000")
    engine.docker("pause", "paused")
    engine.docker("run", "--name", "exited0", "-l", "kind=down", "busybox", "true")
    engine.docker("run", "--name", "exited7", "-l", "kind=down", "-l", "more=1", "busybox", "sh", "-c", "exit 7", check=False)
    engine.docker("create", "--name", "created", "--network", "none", "busybox", "echo", "two words", "it's")
    return engine


def names(engine, *argv):
    return sorted(engine.out("ps", "--format", "{{.Names}}", *argv).split())


def test_the_columns_say_what_dockerd_says(zoo):
    lines = zoo.out("ps", "-a").splitlines()
    assert lines[0].split("  ")[0] == "CONTAINER ID" and len(lines) == 6
    rows = {row["Names"]: row for row in map(json.loads, zoo.out("ps", "-a", "--no-trunc", "--format", "json").splitlines())}
    assert re.fullmatch(r"Up (\d+ seconds?|Less than a second|About a minute)", rows["running"]["Status"])
    assert re.fullmatch(r"Up .* \(Paused\)", rows["paused"]["Status"])
    assert re.fullmatch(r"Exited \(0\) .* ago", rows["exited0"]["Status"])
    assert re.fullmatch(r"Exited \(7\) .* ago", rows["exited7"]["Status"])
    assert rows["created"]["Status"] == "Created"
    assert {name: row["State"] for name, row in rows.items()} == {
        "running": "running", "paused": "paused", "exited0": "exited", "exited7": "exited", "created": "created",
    }  # fmt: skip
    assert rows["created"]["Command"] == "\"echo 'two words' 'it's'\"" or "two words" in rows["created"]["Command"]
    assert rows["running"]["LocalVolumes"] == "1" and rows["running"]["Mounts"] == "stuff"
    assert rows["running"]["Networks"] == "bridge" and rows["created"]["Networks"] == "none"
    assert re.fullmatch(r"81/tcp, 0\.0\.0\.0:(\d+)->80/tcp, \[::\]:\1->80/tcp", rows["running"]["Ports"])
    order = zoo.out("ps", "-a", "--format", "{{.Names}}").split()
    assert order == ["created", "exited7", "exited0", "paused", "running"]


@pytest.mark.parametrize(
    "argv, want",
    [
        ((), ["paused", "running"]),
        (("-a",), ["created", "exited0", "exited7", "paused", "running"]),
        (("-l",), ["created"]),
        (("-n", "2"), ["created", "exited7"]),
        (("-f", "status=exited"), ["exited0", "exited7"]),
        (("-f", "status=created", "-f", "status=paused"), ["created", "paused"]),
        (("-a", "-f", "exited=7"), ["exited7"]),
        (("-a", "-f", "name=exited"), ["exited0", "exited7"]),
        (("-a", "-f", "name=^/exited7$"), ["exited7"]),
        (("-a", "-f", "name=^exited7$"), ["exited7"]),
        (("-a", "-f", "label=kind=down"), ["exited0", "exited7"]),
        (("-a", "-f", "label=kind=down", "-f", "label=more"), ["exited7"]),
        (("-a", "-f", "ancestor=busybox"), ["created", "exited0", "exited7", "paused", "running"]),
        (("-a", "-f", "ancestor=nosuch"), []),
        (("-a", "-f", "volume=stuff"), ["running"]),
        (("-a", "-f", "volume=/stuff"), ["running"]),
        (("-a", "-f", "network=none"), ["created"]),
        (("-a", "-f", "expose=81"), ["running"]),
        (("-a", "-f", "expose=80/tcp"), ["running"]),
        (("-a", "-f", "publish=80/tcp"), []),
        (("-a", "-f", "before=exited0"), ["paused", "running"]),
        (("-a", "-f", "since=exited0"), ["created", "exited7"]),
        (("-a", "-f", "health=none"), ["created", "exited0", "exited7", "paused", "running"]),
        (("-a", "-f", "is-task=true"), []),
    ],
)
def test_filters(zoo, argv, want):
    assert names(zoo, *argv) == want


def test_bad_filters_are_refused(zoo):
    for filters, status, text in (
        ({"status": ["foo"]}, 400, "invalid filter 'status=foo': invalid value for state (foo): must be one of created, "
         "running, paused, restarting, removing, exited, dead"),
        ({"nosuch": ["x"]}, 400, "invalid filter 'nosuch'"),
        ({"before": ["nosuch"]}, 404, "No such container: nosuch"),
    ):
        from urllib.parse import quote

        assert zoo.api("GET", f"/containers/json?filters={quote(json.dumps(filters))}") == (status, {"message": text})
    assert zoo.api("GET", "/containers/json?filters=x")[0] == 400


def test_items_have_dockerds_fields(zoo):
    status, items = zoo.api("GET", "/containers/json?all=1&size=1&limit=-1")
    assert status == 200 and len(items) == 5
    item = next(item for item in items if item["Names"] == ["/running"])
    assert set(item) >= {
        "Id", "Names", "Image", "ImageID", "Command", "Created", "Ports", "Labels", "State", "Status", "HostConfig",
        "NetworkSettings", "Mounts", "SizeRootFs",
    }  # fmt: skip
    assert item["Image"] == "busybox" and item["ImageID"].startswith("sha256:") and item["Command"] == "sleep 1000"
    assert {"PrivatePort": 81, "Type": "tcp"} in item["Ports"]
    assert {port.get("IP") for port in item["Ports"]} == {None, "0.0.0.0", "::"}
    assert item["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert "SizeRootFs" not in zoo.api("GET", "/containers/json")[1][0]


def test_inspect_has_dockerds_fields_and_nulls(zoo):
    seen = zoo.inspect("running")
    assert seen["State"] == {
        "Status": "running", "Running": True, "Paused": False, "Restarting": False, "OOMKilled": False, "Dead": False,
        "Pid": seen["State"]["Pid"], "ExitCode": 0, "Error": "", "StartedAt": seen["State"]["StartedAt"],
        "FinishedAt": "0001-01-01T00:00:00Z",
    }  # fmt: skip
    assert (seen["Name"], seen["Path"], seen["Args"], seen["Platform"]) == ("/running", "sleep", ["1000"], "linux")
    assert seen["Image"].startswith("sha256:") and seen["Config"]["Image"] == "busybox"
    assert seen["ExecIDs"] is None and seen["RestartCount"] == 0
    config, host = seen["Config"], seen["HostConfig"]
    assert config["Hostname"] == seen["Id"][:12] and config["Entrypoint"] is None and config["Cmd"] == ["sleep", "1000"]
    assert config["ExposedPorts"] == {"80/tcp": {}, "81/tcp": {}} and config["Labels"] == {"kind": "up"}
    assert host["NetworkMode"] == "bridge" and host["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert host["LogConfig"] == {"Type": "json-file", "Config": {}} and host["ShmSize"] == 67108864
    assert host["IpcMode"] == "private" and host["Runtime"] == "runc" and host["Binds"] == ["stuff:/stuff"]
    assert "/proc/kcore" in host["MaskedPaths"] and "/proc/sys" in host["ReadonlyPaths"]
    for key in ("CapAdd", "CapDrop", "Dns", "ExtraHosts", "VolumesFrom", "Devices", "Ulimits", "PidsLimit", "Links"):
        assert host[key] in (None, []), key
    assert zoo.inspect("created")["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
    assert zoo.inspect("exited7")["NetworkSettings"]["Ports"] == {}
    sized = zoo.api("GET", "/containers/running/json?size=1")[1]
    assert sized["SizeRootFs"] > 0 and "SizeRw" in sized


def test_inspect_of_nothing_asks_every_group_and_says_so(zoo):
    done = zoo.docker("inspect", "nosuch", check=False)
    assert done.returncode == 1 and done.stdout.strip() == "[]"
    assert "no such object: nosuch" in done.stderr.lower()


def test_df_counts_what_is_there(zoo):
    body = zoo.api("GET", "/system/df")[1]
    assert len(body["Containers"]) == 5 and len(body["Images"]) == 1 and body["LayersSize"] > 0
    volume = next(volume for volume in body["Volumes"] if volume["Name"] == "stuff")
    assert volume["UsageData"]["RefCount"] == 1 and volume["UsageData"]["Size"] >= 0
    assert body["Images"][0]["Containers"] == 5
    only = zoo.api("GET", "/system/df?type=volume")[1]
    assert only["Volumes"] and not only.get("Containers")
    assert zoo.api("GET", "/system/df?type=x") == (400, {"message": "unknown object type: x"})
    table = zoo.out("system", "df").splitlines()
    assert [line.split("  ")[0] for line in table] == ["TYPE", "Images", "Containers", "Local Volumes", "Build Cache"]
    assert table[2].split()[1:3] == ["5", "2"]


def test_container_prune_takes_the_stopped_and_heeds_filters(zoo):
    status, body = zoo.api("POST", "/containers/prune?filters=%7B%22label%22:%5B%22more%22%5D%7D")
    assert status == 200 and len(body["ContainersDeleted"]) == 1 and body["SpaceReclaimed"] >= 0
    assert "exited7" not in names(zoo, "-a")
    assert zoo.api("POST", "/containers/prune?filters=%7B%22until%22:%5B%221%22%5D%7D")[1]["ContainersDeleted"] is None
    assert "exited0" in names(zoo, "-a")


def test_system_prune_takes_all_that_is_unused(zoo):
    anonymous = zoo.out("volume", "create")
    out = zoo.out("system", "prune", "-af", "--volumes")
    assert "Deleted Containers:" in out and "Total reclaimed space:" in out and anonymous in out
    assert names(zoo, "-a") == ["paused", "running"]
    assert zoo.out("image", "ls", "-q") != "" and zoo.out("volume", "ls", "-q") == "stuff"
    zoo.docker("rm", "-f", "paused", "running")
    out = zoo.out("system", "prune", "-af", "--volumes")
    assert zoo.out("image", "ls", "-q") == "" and "untagged: busybox:latest" in out
