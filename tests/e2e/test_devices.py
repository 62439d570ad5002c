"""Devices that vendors describe (CDI), and `--gpus`."""

import json
import os

import pytest

SPEC = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.com/card",
    "containerEdits": {"env": ["CARDS=some"]},
    "devices": [
        {
            "name": "zero",
            "containerEdits": {
                "env": ["CARD=zero"],
                "deviceNodes": [{"path": "/dev/card0", "hostPath": "/dev/zero"}],
                "mounts": [{"hostPath": "@ROOT@/lib", "containerPath": "/opt/card", "options": ["ro", "bind"]}],
                "hooks": [{"hookName": "createRuntime", "path": "@ROOT@/hook", "args": ["hook", "said"]}],
            },
        },
        {"name": "absent", "containerEdits": {"deviceNodes": [{"path": "/dev/nosuch"}]}},
    ],
}
YAML = """\
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: all
  containerEdits:
    env:
    - GOT=all
- name: "0"
  containerEdits:
    env:
    - GOT=0
"""


@pytest.fixture
def vendors(fresh, tmp_path):
    folder = tmp_path / "cdi"
    folder.mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libcard.so").write_text("a library")
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ncat > {tmp_path}/state\necho $1 > {tmp_path}/hooked\n")
    hook.chmod(0o755)
    (folder / "vendor.json").write_text(json.dumps(SPEC).replace("@ROOT@", str(tmp_path)))
    (folder / "broken.yaml").write_text("- no spec")
    return fresh("--cdi-spec-dir", str(folder)), folder


def test_a_device_of_a_vendor_brings_all_that_its_spec_says(vendors, tmp_path):
    engine, _ = vendors
    shown = engine.docker(
        "run", "--rm", "--device", "vendor.com/card=zero", "busybox", "sh", "-c",
        "echo $CARDS $CARD; cat /opt/card/libcard.so; echo; head -c 3 /dev/card0 | od -An -tx1; touch /opt/card/x || echo read-only",
    ).stdout  # fmt: skip
    assert shown.splitlines() == ["some zero", "a library", " 00 00 00", "read-only"]
    assert (tmp_path / "hooked").read_text() == "said\n"
    assert json.loads((tmp_path / "state").read_text())["ociVersion"]
    engine.docker("create", "--name", "card", "--device", "vendor.com/card=zero", "busybox")
    requests = engine.inspect("card")["HostConfig"]["DeviceRequests"]
    assert [(one["Driver"], one["DeviceIDs"]) for one in requests] == [("cdi", ["vendor.com/card=zero"])]


def test_a_device_that_is_not_there_is_told_and_nothing_is_left(vendors):
    engine, _ = vendors
    done = engine.docker("run", "--rm", "--device", "vendor.com/card=nosuch", "busybox", "true", check=False)
    assert done.returncode != 0
    assert "CDI device injection failed: unresolvable CDI devices vendor.com/card=nosuch" in done.stderr
    done = engine.docker("run", "--rm", "--device", "vendor.com/card=absent", "busybox", "true", check=False)
    assert done.returncode != 0 and 'failed to stat CDI host device "/dev/nosuch"' in done.stderr
    assert engine.docker("ps", "-aq").stdout == ""


def test_info_lists_the_devices_and_what_is_wrong_with_a_spec(vendors):
    engine, folder = vendors
    info = engine.api("GET", "/v1.51/info")[1]
    assert info["CDISpecDirs"] == [str(folder)]
    assert {"Source": "cdi", "ID": "vendor.com/card=zero"} in info["DiscoveredDevices"]
    assert any(str(folder / "broken.yaml") in text for text in info["Warnings"])
    assert "DiscoveredDevices" not in engine.api("GET", "/v1.49/info")[1]


def test_gpus_come_by_the_vendors_spec(vendors):
    engine, folder = vendors
    done = engine.docker("run", "--rm", "--gpus", "all", "busybox", "true", check=False)
    assert done.returncode == 125
    assert 'could not select device driver "" with capabilities: [[gpu]]' in done.stderr
    (folder / "nvidia.yaml").write_text(YAML)
    for asked, got in (("all", "all"), ("1", "0"), ("device=0", "0")):
        assert engine.docker("run", "--rm", "--gpus", asked, "busybox", "sh", "-c", "echo $GOT").stdout.strip() == got


def test_without_a_spec_the_vendors_hook_is_run(fresh, tmp_path):
    hook = tmp_path / "nvidia-container-runtime-hook"
    hook.write_text(f"#!/bin/sh\necho $1 > {tmp_path}/hooked\n")
    hook.chmod(0o755)
    engine = fresh("--cdi-spec-dir", str(tmp_path / "none"), env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    shown = engine.docker("run", "--rm", "--gpus", '"device=a,b","capabilities=utility"', "busybox", "env").stdout
    assert "NVIDIA_VISIBLE_DEVICES=a,b" in shown and "NVIDIA_DRIVER_CAPABILITIES=utility" in shown
    assert (tmp_path / "hooked").read_text() == "prestart\n"
