"""Volumes of plugins, with a real plugin process: every call, its errors, and its death in the middle (T51)."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
from harness import wait_until

PROGRAM = pathlib.Path(__file__).with_name("volume_plugin.py")


class VolumePlugin:
    def __init__(self, folder):
        self.folder = folder
        self.name = f"gt{os.getpid()}-{folder.name[-12:]}".lower().replace("_", "-")
        self.socket = pathlib.Path(f"/run/docker/plugins/{self.name}.sock")
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, self.socket, self.folder], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def end(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.end()
        self.socket.unlink(missing_ok=True)

    def calls(self, method=None):
        lines = (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []
        calls = [json.loads(line) for line in lines]
        return [asked for name, asked in calls if name == method] if method else calls

    def faults(self, **faults):
        (self.folder / "faults").write_text(json.dumps(faults))


@pytest.fixture
def plugin(tmp_path):
    made = VolumePlugin(tmp_path)
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
