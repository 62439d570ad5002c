"""Volumes: their life, what is copied into them, who uses them, what a prune takes."""

import json
import os
import pathlib

import pytest
from harness import run, wait_until

def test_create_is_idempotent_and_inspect_says_what_dockerd_says(engine):
    status, made = engine.api("POST", "/volumes/create", body={"Name": "vol", "Labels": {"a": "b"}})
    assert status == 201
    assert made["Name"] == "vol" and made["Driver"] == "local" and made["Scope"] == "local"
    assert made["Labels"] == {"a": "b"} and made["Options"] is None
    assert made["Mountpoint"] == str(engine.data / "volumes" / "vol" / "_data")
    assert "." not in made["CreatedAt"] and "Status" not in made and "UsageData" not in made
    assert engine.api("POST", "/volumes/create", body={"Name": "vol"}) == (201, made)
    assert engine.api("GET", "/volumes/vol") == (200, made)
    assert json.loads(engine.out("volume", "inspect", "vol")) == [made]
    assert engine.out("volume", "ls", "--format", "{{.Driver}} {{.Name}}") == "local vol"
    assert engine.out("volume", "rm", "vol") == "vol"
    assert engine.api("GET", "/volumes/vol") == (404, {"message": "get vol: no such volume"})
    assert engine.api("GET", "/volumes") == (200, {"Volumes": [], "Warnings": None})

def test_a_volume_without_a_name_is_anonymous(engine):
    name = engine.out("volume", "create")
    assert len(name) == 64 and int(name, 16) >= 0
    assert engine.api("GET", f"/volumes/{name}")[1]["Labels"] == {"com.docker.volume.anonymous": ""}
    engine.docker("volume", "rm", name)

def test_bad_names_drivers_and_missing_volumes_have_dockers_texts(engine):
    status, body = engine.api("POST", "/volumes/create", body={"Name": "/x"})
    assert status == 400
    assert body["message"] == (
        'create /x: "/x" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed.'
        " If you intended to pass a host directory, use absolute path"
    )
    assert engine.api("POST", "/volumes/create", body={"Name": "xx", "Driver": "nosuch"})[0] in (400, 404)
    assert engine.api("DELETE", "/volumes/nosuch") == (404, {"message": "get nosuch: no such volume"})
    assert engine.api("DELETE", "/volumes/nosuch?force=1") == (204, b"")
    status, body = engine.api("PUT", "/volumes/nosuch?version=1", body={})
    assert status == 503
    assert body["message"] == "volume update only valid for cluster volumes, but swarm is unavailable"

def test_a_volume_in_use_also_by_a_stopped_container_cannot_be_removed(engine):
    first = engine.out("create", "-v", "used:/data", "busybox")
    second = engine.out("run", "-d", "-v", "used:/data", "busybox", "sleep", "100")
    status, body = engine.api("DELETE", "/volumes/used")
    assert status == 409
    assert body["message"] in (
        f"remove used: volume is in use - [{first}, {second}]",
        f"remove used: volume is in use - [{second}, {first}]",
    )
    assert engine.api("DELETE", "/volumes/used?force=1")[0] == 409
    engine.docker("rm", "-f", first, second)
    engine.docker("volume", "rm", "used")

def test_data_outlives_containers_and_mounts_are_shown(engine):
    engine.docker("run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "echo hello > /data/x")
    assert engine.out("run", "--rm", "-v", "kept:/data:ro", "busybox", "cat", "/data/x") == "hello"
    refused = engine.docker("run", "--rm", "-v", "kept:/data:ro", "busybox", "touch", "/data/y", check=False)
    assert refused.returncode == 1 and "Read-only file system" in refused.stderr
    container = engine.out(
        "create", "-v", "kept:/data", "-v", "/etc:/host:ro", "--mount", "type=tmpfs,dst=/t", "-v", "/anon", "busybox"
    )
    mounts = {mount["Destination"]: mount for mount in engine.inspect(container)["Mounts"]}
    assert mounts["/data"] == {
        "Type": "volume", "Name": "kept", "Source": str(engine.data / "volumes/kept/_data"), "Destination": "/data",
        "Driver": "local", "Mode": "z", "RW": True, "Propagation": "",
    }  # fmt: skip
    assert mounts["/host"] == {
        "Type": "bind", "Source": "/etc", "Destination": "/host", "Mode": "ro", "RW": False, "Propagation": "rprivate",
    }  # fmt: skip
    assert mounts["/anon"]["Type"] == "volume" and len(mounts["/anon"]["Name"]) == 64
    assert mounts["/t"]["Type"] == "tmpfs"
    engine.docker("rm", "-v", container)
    assert engine.out("volume", "ls", "-q") == "kept"
    engine.docker("volume", "rm", "kept")

def test_an_empty_volume_gets_the_images_files_with_owner_and_mode(engine):
    maker = engine.out(
        "run", "-d", "busybox", "sh", "-c",
        "mkdir -p /stuff/deep; echo a > /stuff/deep/a; chown 1000:100 /stuff /stuff/deep/a;"
        "chmod 2750 /stuff; chmod 4711 /stuff/deep/a; ln -s a /stuff/deep/link",
    )  # fmt: skip
    engine.docker("wait", maker)
    archive = engine.root / "copied.tar"
    engine.docker("rm", maker)
    # An image with these files, made by import: commit belongs to another issue.
    tree = engine.root / "tree"
    (tree / "stuff/deep").mkdir(parents=True)
    (tree / "stuff/deep/a").write_text("a\n")
    (tree / "stuff/deep/link").symlink_to("a")
    os.chown(tree / "stuff", 1000, 100)
    os.chown(tree / "stuff/deep/a", 1000, 100)
    os.chmod(tree / "stuff", 0o2750)
    os.chmod(tree / "stuff/deep/a", 0o4711)
    (tree / "bin").mkdir()
    for name in ("busybox", "sh", "stat", "ls"):
        source = pathlib.Path("/bin/busybox") if pathlib.Path("/bin/busybox").exists() else pathlib.Path("/usr/bin/busybox")
        (tree / "bin" / name).write_bytes(source.read_bytes())
        os.chmod(tree / "bin" / name, 0o755)
    import tarfile

    with tarfile.open(archive, "w") as tar:
        tar.add(tree, arcname=".")
    engine.docker("import", "-c", 'CMD ["/bin/sh"]', str(archive), "stuff:1")
    show = ("stat", "-c", "%n %u %g %a", "/stuff", "/stuff/deep", "/stuff/deep/a", "/stuff/deep/link")
    want = engine.out("run", "--rm", "stuff:1", *show)
    assert "/stuff 1000 100 2750" in want and "/stuff/deep/a 1000 100 4711" in want
    assert engine.out("run", "--rm", "-v", "copy:/stuff", "stuff:1", *show) == want
    # A volume that has something in it already is left alone, and so is one that says nocopy.
    engine.docker("run", "--rm", "-v", "other:/elsewhere", "stuff:1", "sh", "-c", "echo mine > /elsewhere/mine")
    assert engine.out("run", "--rm", "-v", "other:/stuff", "stuff:1", "ls", "/stuff") == "mine"
    assert engine.out("run", "--rm", "-v", "bare:/stuff:nocopy", "stuff:1", "ls", "/stuff") == ""
    # At create already: a container that never ran has its volume filled.
    made = engine.out("create", "-v", "early:/stuff", "stuff:1")
    assert (engine.data / "volumes/early/_data/deep/a").read_text() == "a\n"
    engine.docker("rm", made)
    engine.docker("volume", "rm", "copy", "other", "bare", "early")

def test_a_prune_takes_unused_anonymous_volumes_and_all_when_asked(engine):
    anonymous = engine.out("volume", "create")
    for name in ("plain", "labelled"):
        engine.docker("volume", "create", *(["--label", "x=y"] if name == "labelled" else []), name)
    engine.docker("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "optioned")
    used = engine.out("create", "-v", "/data", "busybox")
    in_use = engine.inspect(used)["Mounts"][0]["Name"]
    status, body = engine.api("POST", "/volumes/prune")
    assert status == 200 and body["VolumesDeleted"] == [anonymous] and body["SpaceReclaimed"] >= 0
    kept = engine.out("volume", "prune", "-af", "--filter", "label!=x=y")
    assert "plain" in kept and "labelled" not in kept
    assert set(engine.out("volume", "ls", "-q").split()) == {"labelled", "optioned", in_use}
    assert engine.api("POST", "/v1.41/volumes/prune")[1]["VolumesDeleted"] == ["labelled"]
    assert set(engine.out("volume", "ls", "-q").split()) == {"optioned", in_use}
    engine.docker("rm", "-v", used)
    assert engine.out("volume", "ls", "-q") == "optioned"
    engine.docker("volume", "rm", "optioned")

def test_lists_are_filtered(engine):
    engine.docker("volume", "create", "--label", "k=v", "one")
    engine.docker("volume", "create", "two")
    holder = engine.out("create", "-v", "two:/x", "busybox")

    def listed(*filters):
        return sorted(engine.out("volume", "ls", "-q", *[a for f in filters for a in ("--filter", f)]).split())

    assert listed("name=on") == ["one"]
    assert listed("label=k") == ["one"] and listed("label=k=v") == ["one"] and listed("label=k=w") == []
    assert listed("dangling=true") == ["one"] and listed("dangling=false") == ["two"]
    assert listed("driver=local") == ["one", "two"] and listed("driver=x") == []
    assert engine.api("GET", "/volumes?filters=%7B%22nosuch%22:%7B%22a%22:true%7D%7D") == (400, {"message": "invalid filter 'nosuch'"})
    engine.docker("rm", holder)
    engine.docker("volume", "rm", "one", "two")

def test_a_tmpfs_volume_of_the_local_driver_is_mounted_while_it_is_used(engine):
    engine.docker("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m,mode=700", "ram")
    assert engine.out("run", "--rm", "-v", "ram:/ram", "busybox", "sh", "-c", "grep ' /ram ' /proc/mounts | cut -d' ' -f3") == "tmpfs"
    assert not [mount for mount in engine.mounts() if "/volumes/ram/" in mount]
    engine.docker("volume", "rm", "ram")

def test_a_bind_volume_of_the_local_driver_is_the_folder_that_it_names(engine, tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "word").write_text("there\n")
    options = ["-o", "type=none", "-o", "o=bind", "-o", f"device={folder}"]
    engine.docker("volume", "create", *options, "bound")
    assert engine.docker("run", "--rm", "-v", "bound:/v", "busybox", "sh", "-c", "cat /v/word; echo seen > /v/back").stdout == "there\n"
    assert (folder / "back").read_text() == "seen\n"
    # For as long as somebody uses it, and no longer.
    engine.docker("run", "-d", "--name", "user", "-v", "bound:/v", "busybox", "sleep", "1000")
    assert any("volumes/bound/_data" in mount for mount in engine.mounts())
    engine.docker("rm", "-f", "user")
    assert not any("volumes/bound" in mount for mount in engine.mounts())
    # Its removal takes nothing of the folder, and it is never pruned.
    engine.docker("volume", "prune", "-af")
    engine.docker("volume", "rm", "bound")
    assert sorted(path.name for path in folder.iterdir()) == ["back", "word"]
    engine.docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}/missing", "lost")
    done = engine.docker("run", "--rm", "-v", "lost:/v", "busybox", "true", check=False)
    # The CLI takes the last words for those of a missing program.
    assert done.returncode == 127 and "failed to mount local volume: mount" in done.stderr and "no such file or directory" in done.stderr
    engine.docker("volume", "rm", "lost")


def test_a_bind_of_a_missing_folder_is_made_by_v_and_refused_by_mount(engine):
    missing = engine.root / "missing"
    refused = engine.docker("run", "--rm", "--mount", f"type=bind,src={missing},dst=/x", "busybox", check=False)
    assert refused.returncode == 125
    assert f"invalid mount config for type \"bind\": bind source path does not exist: {missing}" in refused.stderr
    engine.docker("run", "--rm", "-v", f"{missing}:/x", "busybox", "touch", "/x/made")
    assert (missing / "made").exists()

def test_volume_events_tell_its_life(engine):
    since = engine.out("info", "--format", "{{.SystemTime}}")
    engine.docker("run", "--rm", "-v", "told:/data:ro", "busybox", "true")
    engine.docker("volume", "rm", "told")
    until = engine.out("info", "--format", "{{.SystemTime}}")
    lines = engine.out("events", "--since", since, "--until", until, "--filter", "type=volume", "--format", "{{json .}}").splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["Action"] for event in events] == ["create", "mount", "unmount", "destroy"]
    assert all(event["Actor"]["ID"] == "told" for event in events)
    mount = events[1]["Actor"]["Attributes"]
    assert mount["destination"] == "/data" and mount["driver"] == "local" and mount["read/write"] == "false"
    assert len(mount["container"]) == 64 and "propagation" in mount


# -- subpaths ------------------------------------------------------------------------------------------------------


@pytest.fixture
def parted(engine):
    """A volume with a folder, a file, and links that lead in and out."""
    script = "mkdir -p /v/a/b; echo inner >/v/a/b/f; echo outer >/v/f; ln -s a/b /v/in; ln -s ../../../.. /v/out; ln -s /etc /v/etc"
    engine.docker("run", "--rm", "-v", "parted:/v", "busybox", "sh", "-c", script)
    yield "parted"
    for container in engine.out("ps", "-aq", "--filter", "volume=parted").split():
        engine.docker("rm", "-f", container)
    engine.docker("volume", "rm", "parted")


def part(subpath, target="/p", **more):
    options = "".join(f",{key}={value}" for key, value in more.items())
    return ["--mount", f"type=volume,source=parted,target={target},volume-subpath={subpath}{options}"]


def test_a_part_of_a_volume_is_all_that_a_container_sees(engine, parted):
    run = ["run", "--rm"]
    assert engine.out(*run, *part("a/b"), "busybox", "ls", "/p").split() == ["f"]
    assert engine.out(*run, *part("in"), "busybox", "cat", "/p/f") == "inner"
    assert engine.out(*run, *part("f", target="/file"), *part("a"), "busybox", "sh", "-c", "cat /file; ls /p") == "outer\nb"
    engine.docker(*run, *part("a/b"), "busybox", "sh", "-c", "echo more >/p/new")
    assert engine.out(*run, "-v", "parted:/v", "busybox", "cat", "/v/a/b/new") == "more"
    refused = engine.docker(*run, *part("a/b", readonly="true"), "busybox", "touch", "/p/x", check=False)
    assert "Read-only file system" in refused.stderr


def test_no_part_leads_out_of_its_volume(engine, parted):
    before = engine.mounts()
    for subpath, text in (
        ("out", "escapes the base directory"),
        ("etc/passwd", "escapes the base directory"),
        ("nosuch", "cannot access path"),
        ("../x", "subpath must be a relative path within the volume"),
        ("/a", "subpath must be a relative path within the volume"),
    ):
        done = engine.docker("run", "--rm", *part(subpath), "busybox", "true", check=False)
        assert done.returncode != 0 and text in done.stderr, (subpath, done.stderr)
    assert engine.mounts() == before


def test_a_part_is_there_after_a_restart_and_for_copies(engine, parted, tmp_path):
    engine.docker("run", "-d", "--name", "parts", *part("a/b"), "busybox", "sleep", "1000")
    spec = engine.inspect("parts")
    assert spec["HostConfig"]["Mounts"][0]["VolumeOptions"]["Subpath"] == "a/b"
    assert spec["Mounts"][0]["Name"] == "parted"
    engine.docker("cp", "parts:/p/f", tmp_path / "running")
    engine.docker("restart", "-t", "0", "parts")
    assert engine.out("exec", "parts", "cat", "/p/f") == "inner"
    engine.docker("stop", "-t", "0", "parts")
    engine.docker("cp", "parts:/p/f", tmp_path / "stopped")
    assert [(tmp_path / name).read_text() for name in ("running", "stopped")] == ["inner\n"] * 2
    engine.docker("rm", "parts")
    wait_until(lambda: not [mount for mount in engine.mounts() if "/parts/" in mount], what="no part mounted")


def test_a_kill_while_a_part_is_mounted_leaves_no_mount(fresh):
    engine = fresh()
    engine.docker("run", "--rm", "-v", "parted:/v", "busybox", "mkdir", "/v/a")
    engine.docker("create", "--name", "parts", *part("a"), "busybox", "sleep", "1000")
    identity = engine.inspect("parts")["Id"]
    place = engine.exec_root / "parts" / identity
    # As a gantryd leaves it that is killed in a start.
    (place / "0").mkdir(parents=True)
    run("mount", "--bind", engine.data / "volumes" / "parted" / "_data" / "a", place / "0")
    engine.restart()
    wait_until(lambda: not place.exists(), what="the part unmounted")
    engine.docker("start", "parts")
    assert engine.inspect("parts")["State"]["Running"]


# -- images --------------------------------------------------------------------------------------------------------


def test_an_image_is_mounted_read_only_and_held(engine, tmp_path):
    engine.docker("run", "--name", "maker", "busybox", "sh", "-c", "mkdir -p /data/in; echo kept >/data/in/f; ln -s /etc /data/out")
    engine.docker("commit", "maker", "content:1")
    engine.docker("rm", "maker")
    whole = ["--mount", "type=image,source=content:1,target=/i"]
    inner = ["--mount", "type=image,source=content:1,target=/i,image-subpath=data/in"]
    assert engine.out("run", "--rm", *whole, "busybox", "cat", "/i/data/in/f") == "kept"
    assert engine.out("run", "--rm", *inner, "busybox", "ls", "/i") == "f"
    refused = engine.docker("run", "--rm", *whole, "busybox", "touch", "/i/x", check=False)
    assert "Read-only file system" in refused.stderr
    out = ["--mount", "type=image,source=content:1,target=/i,image-subpath=data/out"]
    assert "escapes the base directory" in engine.docker("run", "--rm", *out, "busybox", "true", check=False).stderr
    engine.docker("run", "-d", "--name", "user", *inner, "busybox", "sleep", "1000")
    mount = engine.inspect("user")["Mounts"][0]
    assert (mount["Type"], mount["Name"], mount["RW"]) == ("image", "content:1", False)
    done = engine.docker("rmi", "content:1", check=False)
    assert done.returncode != 0 and "conflict" in done.stderr
    engine.restart()
    assert engine.docker("rmi", "content:1", check=False).returncode != 0, "it is held after a kill, too"
    # By force the name goes, and the image stays without one.
    assert engine.out("rmi", "-f", "content:1") == "Untagged: content:1"
    engine.docker("image", "prune", "-f")
    engine.docker("restart", "-t", "0", "user")
    assert engine.out("exec", "user", "cat", "/i/f") == "kept"
    engine.docker("stop", "-t", "0", "user")
    engine.docker("cp", "user:/i/f", tmp_path / "f")
    assert (tmp_path / "f").read_text() == "kept\n"
    engine.docker("rm", "-f", "user")
    assert "Deleted Images" in engine.out("image", "prune", "-f")
    wait_until(lambda: not [mount for mount in engine.mounts() if "/parts/" in mount], what="no image mounted")
    missing = engine.docker("run", "--rm", "--mount", "type=image,source=nosuch,target=/i", "busybox", "true", check=False)
    assert missing.returncode == 125 and "No such image: nosuch" in missing.stderr
    status, body = engine.api(
        "POST", "/v1.47/containers/create",
        {"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "image", "Source": "busybox", "Target": "/i"}]}},
    )  # fmt: skip
    assert (status, body["message"]) == (400, 'Mount type "Image" needs API v1.48 or newer')
