"""Volumes of plugins, with a real plugin process: every call, its errors, and its death in the middle (T51)."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.parse

import pytest
from harness import Engine

PROGRAM = pathlib.Path(__file__).with_name("volume_plugin.py")


class VolumePlugin:
    def __init__(self, folder, at):
        self.folder, self.socket = folder, at
        self.name = f"gt{os.getpid()}-{folder.name[-12:]}".lower().replace("_", "-")
        self.prefix, self.process = [], None

    def listen(self):
        """At its own name in the folder of sockets."""
        self.socket.mkdir(parents=True, exist_ok=True)
        self.socket /= f"{self.name}.sock"
        self.start()
        return self

    def start(self):
        self.process = subprocess.Popen(
            [*self.prefix, sys.executable, PROGRAM, str(self.socket), self.folder], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def end(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.end()
        if isinstance(self.socket, pathlib.Path):
            self.socket.unlink(missing_ok=True)

    def calls(self, method=None):
        lines = (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []
        calls = [json.loads(line) for line in lines]
        return [asked for name, asked in calls if name == method] if method else calls

    def faults(self, **faults):
        (self.folder / "faults").write_text(json.dumps(faults))

    def has(self, name, **files):
        """A volume that it got from elsewhere than Docker."""
        place = self.folder / "volumes" / name
        place.mkdir(parents=True)
        for file, text in files.items():
            (place / file).write_text(text)
        return place


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """One that does not find the plugins of other tests, nor they its own."""
    root = tmp_path_factory.mktemp("plugins")
    engine = Engine(env={"GANTRY_PLUGIN_ROOT": str(root)})
    engine.plugins = root
    try:
        yield engine.start().load_busybox()
    finally:
        engine.close()


@pytest.fixture
def plugin(engine, tmp_path):
    made = VolumePlugin(tmp_path, engine.plugins / "run/docker/plugins").listen()
    yield made
    made.close()


def test_a_plugins_volume_is_like_any_other(engine, plugin):
    docker = engine.docker
    assert docker("volume", "create", "-d", plugin.name, "-o", "size=3", "-o", "x=y", "--label", "a=b", "far").stdout == "far\n"
    assert plugin.calls("Create") == [{"Name": "far", "Opts": {"size": "3", "x": "y"}}]
    about = engine.api("GET", "/volumes/far")[1]
    assert (about["Driver"], about["Options"], about["Labels"]) == (plugin.name, {"size": "3", "x": "y"}, {"a": "b"})
    assert docker("volume", "ls", "-q", "--filter", f"driver={plugin.name}").stdout == "far\n"
    # Idempotent; the same name with another driver is not.
    docker("volume", "create", "-d", plugin.name, "far")
    assert len(plugin.calls("Create")) == 1
    assert "volume name must be unique" in docker("volume", "create", "far", check=False).stderr
    assert docker("run", "--rm", "-v", "far:/v", "busybox", "sh", "-c", "cat /v/options; echo kept > /v/file").stdout == json.dumps({"size": "3", "x": "y"})
    assert (plugin.folder / "volumes" / "far" / "file").read_text() == "kept\n"
    # A user is a container: mounted for each, unmounted with each.
    one = docker("run", "-d", "--name", "one", "-v", "far:/v", "busybox", "sleep", "1000").stdout.strip()
    two = docker("run", "-d", "--name", "two", "--mount", f"type=volume,source=far,target=/w,volume-driver={plugin.name}",
                 "busybox", "sleep", "1000").stdout.strip()  # fmt: skip
    assert {call["ID"] for call in plugin.calls("Mount")} >= {one, two}
    docker("exec", "one", "sh", "-c", "echo seen > /v/by-one")
    assert docker("exec", "two", "cat", "/w/by-one").stdout == "seen\n"
    docker("rm", "-f", "one")
    assert one in [call["ID"] for call in plugin.calls("Unmount")] and two not in [call["ID"] for call in plugin.calls("Unmount")][-1:]
    assert docker("exec", "two", "cat", "/w/file").stdout == "kept\n"
    # gantryd dies: what is mounted stays so, and is unmounted by the next one.
    engine.restart()
    assert docker("exec", "two", "cat", "/w/file").stdout == "kept\n"
    refused = docker("volume", "rm", "far", check=False)
    assert f"remove far: volume is in use - [{two}]" in refused.stderr and not plugin.calls("Remove")
    docker("rm", "-f", "two")
    assert plugin.calls("Unmount")[-1] == {"Name": "far", "ID": two}
    docker("volume", "rm", "far")
    assert plugin.calls("Remove") == [{"Name": "far"}] and not (plugin.folder / "volumes" / "far").exists()
    assert not (engine.data / "volumes" / "far").exists()
    # With the container, where it has no name.
    docker("run", "--rm", "--volume-driver", plugin.name, "-v", "/v", "busybox", "touch", "/v/x")
    assert list((plugin.folder / "volumes").iterdir()) == []


def test_a_plugins_words_reach_the_client_and_nothing_is_left(engine, plugin):
    docker = engine.docker
    plugin.faults(Create="no room at the inn")
    done = docker("volume", "create", "-d", plugin.name, "inn", check=False)
    assert done.returncode != 0 and "create inn: VolumeDriver.Create: no room at the inn" in done.stderr
    assert engine.api("GET", "/volumes/inn")[0] == 404 and not (engine.data / "volumes" / "inn").exists()
    plugin.faults(Mount="the disk is away")
    done = docker("run", "--rm", "--name", "away", "--volume-driver", plugin.name, "-v", "inn:/v", "busybox", "true", check=False)
    assert "error while mounting volume 'inn': VolumeDriver.Mount: the disk is away" in done.stderr
    assert docker("container", "inspect", "away", check=False).returncode != 0
    plugin.faults(Remove="somebody else has it")
    done = docker("volume", "rm", "inn", check=False)
    assert "remove inn: VolumeDriver.Remove: somebody else has it" in done.stderr
    assert engine.api("GET", "/volumes/inn")[0] == 200
    plugin.faults()
    docker("volume", "rm", "inn")


def test_a_driver_that_is_not_there_is_named(engine):
    done = engine.docker("volume", "create", "-d", "nosuch", "lost", check=False)
    assert 'create lost: error looking up volume plugin nosuch: plugin "nosuch" not found' in done.stderr
    assert engine.api("POST", "/volumes/create", {"Name": "lost", "Driver": "nosuch"})[0] == 404


@pytest.mark.parametrize("method", ["Create", "Get", "Mount", "Unmount", "Remove"])
def test_a_plugin_that_dies_takes_nothing_with_it(engine, plugin, method):
    docker = engine.docker
    name = f"dies-{method.lower()}"
    plugin.faults(**{method: "die"})
    begun = time.monotonic()
    docker("volume", "create", "-d", plugin.name, name, check=False, timeout=60)
    docker("run", "-d", "--name", name, "-v", f"{name}:/v", "--volume-driver", plugin.name, "busybox", "sleep", "1000", check=False, timeout=60)
    # Whatever became of it: others are served at once, and it can be removed.
    alone = time.monotonic()
    assert docker("run", "--rm", "busybox", "echo", "served").stdout == "served\n"
    assert time.monotonic() - alone < 5
    docker("rm", "-f", name, check=False, timeout=60)
    docker("volume", "rm", name, check=False, timeout=60)
    assert time.monotonic() - begun < 60
    # It comes back, and so does its work.
    plugin.process.kill()
    plugin.process.wait()
    plugin.faults()
    plugin.start()
    docker("volume", "rm", "-f", name, timeout=60)
    docker("run", "--rm", "-v", f"{name}:/v", "--volume-driver", plugin.name, "busybox", "touch", "/v/x", timeout=60)
    docker("volume", "rm", name)
    assert not (plugin.folder / "volumes" / name).exists()
    assert engine.mounts() == [] or all(name not in mount for mount in engine.mounts())


def test_a_plugin_that_is_gone_for_good_does_not_hold_its_volumes(engine, plugin):
    docker = engine.docker
    docker("volume", "create", "-d", plugin.name, "orphan")
    docker("run", "-d", "--name", "holder", "-v", "orphan:/v", "busybox", "sleep", "1000")
    plugin.close()
    docker("rm", "-f", "holder", timeout=60)
    done = docker("volume", "rm", "orphan", check=False)
    assert done.returncode != 0 and f'plugin "{plugin.name}" not found' in done.stderr
    docker("volume", "rm", "-f", "orphan")
    assert engine.api("GET", "/volumes/orphan")[0] == 404
    assert not (engine.data / "volumes" / "orphan").exists()


def volumes(engine, **filters):
    status, body = engine.api("GET", "/volumes?filters=" + urllib.parse.quote(json.dumps(filters)))
    assert status == 200
    return {volume["Name"]: volume for volume in body["Volumes"]}, body["Warnings"] or []


def test_what_only_a_plugin_knows_is_listed_inspected_used_and_removed(engine, plugin):
    docker = engine.docker
    (plugin.folder / "scope").write_text("global")
    place = plugin.has("theirs", word="said\n")
    docker("volume", "create", "ours")
    listed, warnings = volumes(engine)
    assert {"ours", "theirs"} <= set(listed) and warnings == []
    assert listed["theirs"] == {
        "Name": "theirs", "Driver": plugin.name, "Scope": "global", "Mountpoint": str(place), "Labels": None, "Options": None,
        "CreatedAt": "2020-02-03T04:05:06Z",
    }  # fmt: skip
    assert "theirs" not in volumes(engine, driver=["local"])[0] and set(volumes(engine, driver=[plugin.name])[0]) == {"theirs"}
    assert engine.api("GET", "/volumes/theirs")[1] == {**listed["theirs"], "Status": {"kept": ["here"]}}
    assert {plugin.name, "local"} <= set(engine.api("GET", "/info")[1]["Plugins"]["Volume"])
    # What it can do is asked once.
    assert len(plugin.calls("Capabilities")) == 1
    # Nobody has to say whose it is.
    assert docker("run", "--rm", "-v", "theirs:/v", "busybox", "cat", "/v/word").stdout == "said\n"
    assert plugin.calls("Create") == []
    plugin.has("second", word="too\n")
    assert docker("run", "--rm", "-v", "second:/v", "--volume-driver", plugin.name, "busybox", "cat", "/v/word").stdout == "too\n"
    assert engine.api("POST", "/volumes/create", {"Name": "theirs"})[1]["Driver"] == plugin.name and engine.api("GET", "/volumes/theirs")[1]["Driver"] == plugin.name
    assert "volume name must be unique" in docker("volume", "create", "-d", "local", "theirs", check=False).stderr
    # One that Docker was never told to make is not pruned, and can be removed.
    plugin.has("third")
    docker("volume", "prune", "-af")
    assert {"theirs", "second", "third"} <= set(volumes(engine)[0])
    docker("volume", "rm", "theirs", "second", "third")
    assert list((plugin.folder / "volumes").iterdir()) == [] and plugin.name not in str(volumes(engine))
    assert engine.api("GET", "/volumes/third")[0] == 404
    assert engine.api("DELETE", "/volumes/third") == (404, {"message": "get third: no such volume"})
    # A name that no plugin has is ours.
    docker("run", "--rm", "-v", "fourth:/v", "busybox", "true")
    assert engine.api("GET", "/volumes/fourth")[1]["Driver"] == "local"
    docker("volume", "rm", "fourth")


def test_a_plugin_that_tells_the_place_by_itself_is_asked_for_it(engine, plugin):
    (plugin.folder / "shy").touch()
    place = plugin.has("shy")
    assert engine.api("GET", "/volumes/shy")[1]["Mountpoint"] == str(place)
    assert plugin.calls("Path") == [{"Name": "shy"}]
    plugin.faults(Path="not now", Capabilities="not at all")
    about = engine.api("GET", "/volumes/shy")[1]
    assert (about["Mountpoint"], about["Scope"]) == ("", "local")


def test_what_a_plugin_has_lost_is_not_there(engine, plugin):
    docker = engine.docker
    docker("volume", "create", "-d", plugin.name, "lost")
    shutil.rmtree(plugin.folder / "volumes" / "lost")
    assert "lost" not in volumes(engine)[0]
    assert engine.api("GET", "/volumes/lost") == (404, {"message": "get lost: no such volume"})
    docker("volume", "rm", "lost")


@pytest.mark.parametrize("fault", ["die", "hang", "no idea"])
def test_a_list_does_without_a_driver_that_cannot_tell(engine, plugin, fault):
    docker = engine.docker
    docker("volume", "create", "-d", plugin.name, "known")
    docker("volume", "create", "own")
    plugin.has("unknown")
    plugin.faults(List=fault)
    begun = time.monotonic()
    listed, warnings = volumes(engine)
    assert time.monotonic() - begun < 15
    assert {"known", "own"} <= set(listed) and "unknown" not in listed
    assert len(warnings) == 1 and warnings[0].startswith(f"list {plugin.name}: VolumeDriver.List: "), warnings
    assert fault != "no idea" or warnings[0].endswith(": no idea")
    # Those of others are told without it.
    begun = time.monotonic()
    assert volumes(engine, driver=["local"]) == ({name: about for name, about in listed.items() if about["Driver"] == "local"}, [])
    assert time.monotonic() - begun < 2
    plugin.end()
    plugin.faults()
    plugin.start()
    listed, warnings = volumes(engine)
    assert {"known", "own", "unknown"} <= set(listed) and warnings == []
    docker("volume", "rm", "known", "own", "unknown")


def test_one_that_hangs_from_the_first_word_on_costs_a_list_its_limit(engine, tmp_path):
    """A plugin of which nobody knows what it is for: it is left out, and warned of where a volume is on record."""
    made = VolumePlugin(tmp_path, engine.plugins / "run/docker/plugins").listen()
    try:
        engine.docker("volume", "create", "-d", made.name, "first-word")
        made.faults(Activate="hang")
        engine.restart()
        begun = time.monotonic()
        listed, warnings = volumes(engine)
        assert time.monotonic() - begun < 15
        assert "first-word" in listed and len(warnings) == 1 and warnings[0].startswith(f"list {made.name}: Plugin.Activate: ")
        made.end()
        made.faults()
        made.start()
        engine.docker("volume", "rm", "first-word")
        made.faults(Activate="hang")
        engine.restart()
        assert volumes(engine)[1] == []
    finally:
        made.close()


@pytest.mark.parametrize("method", ["Create", "Get", "Mount", "Unmount", "Remove"])
def test_a_plugin_that_hangs_holds_up_nobody_else(engine, plugin, method):
    docker = engine.docker
    name = f"hangs-{method.lower()}"
    plugin.has(f"{name}-there")
    docker("volume", "create", "-d", plugin.name, f"{name}-known")
    plugin.faults(**{method: "hang"})
    making = engine.docker_popen("run", "--name", name, "-v", f"{name}:/v", "--volume-driver", plugin.name, "busybox", "true")
    try:
        begun = time.monotonic()
        assert docker("run", "--rm", "busybox", "echo", "served").stdout == "served\n"
        assert engine.api("GET", "/volumes/nosuch-at-all")[0] == 404
        docker("run", "--rm", "-v", f"{name}-own:/v", "busybox", "true")
        # Who asks which plugin has it waits once for the one that says nothing.
        assert time.monotonic() - begun < (8 if method == "Get" else 5)
        begun = time.monotonic()
        docker("run", "--rm", "-v", f"{name}-own2:/v", "busybox", "true")
        assert {f"{name}-known", f"{name}-own", f"{name}-own2"} <= set(volumes(engine)[0])
        assert engine.api("GET", f"/volumes/{name}-own2")[0] == 200
        assert time.monotonic() - begun < 3
        making.wait(timeout=100)
    finally:
        making.kill()
        making.wait()
    plugin.end()
    plugin.faults()
    plugin.start()
    docker("rm", "-f", name, check=False, timeout=60)
    for volume in volumes(engine)[0]:
        if volume.startswith(name):
            docker("volume", "rm", volume)
    assert not any(place.name.startswith(name) for place in (plugin.folder / "volumes").iterdir())
    assert all(name not in mount for mount in engine.mounts())


@pytest.mark.parametrize("kind", ["spec", "json", "folder", "port"])
def test_a_plugin_is_found_by_its_file(engine, tmp_path, kind):
    made = VolumePlugin(tmp_path, "7999" if kind == "port" else tmp_path / "elsewhere.sock")
    # A port is one of the namespace that gantryd is in.
    made.prefix = ["nsenter", f"--net=/run/netns/{engine.namespace.name}", "--"] if kind == "port" else []
    made.start()
    address = f"tcp://127.0.0.1:{made.socket}" if kind == "port" else f"unix://{made.socket}"
    folder = engine.plugins / ("usr/lib" if kind == "port" else "etc") / "docker/plugins" / (made.name if kind == "folder" else ".")
    file = folder / f"{made.name}.{'json' if kind == 'json' else 'spec'}"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"Name": made.name, "Addr": address}) if kind == "json" else f"{address}\n")
    try:
        made.has("found", word="so\n")
        assert volumes(engine)[0]["found"]["Driver"] == made.name
        assert engine.docker("run", "--rm", "-v", "found:/v", "busybox", "cat", "/v/word").stdout == "so\n"
        engine.docker("volume", "rm", "found")
        assert made.calls("Remove") == [{"Name": "found"}]
    finally:
        made.close()
        file.unlink()


def test_a_plugin_of_the_host_is_found(fresh, tmp_path):
    made = VolumePlugin(tmp_path, pathlib.Path("/run/docker/plugins")).listen()
    try:
        made.has(made.name)
        engine = fresh(busybox=False)
        assert engine.out("volume", "ls", "-q", "-f", f"driver={made.name}") == made.name
    finally:
        made.close()
