"""What users of dockerd rely on in small things: names that are words of the API, filters by port, networks that cannot
go together, the marks of a container, and the kernel's reasons in Go's words."""

import json
import tarfile

import pytest


@pytest.mark.parametrize("word", ["json", "create", "prune"])
def test_what_is_named_like_a_word_of_the_api_is_found_and_removed(engine, word):
    engine.docker("create", "--name", word, "busybox", "true")
    assert engine.out("container", "inspect", "-f", "{{.Name}}", word) == f"/{word}"
    assert engine.out("rm", "-f", word) == word
    engine.docker("tag", "busybox", word)
    assert f"Untagged: {word}:latest" in engine.out("rmi", word)
    if word != "json":
        for kind in ("volume", "network"):
            engine.docker(kind, "create", word)
            assert engine.out(kind, "inspect", "-f", "{{.Name}}", word) == word
            assert engine.out(kind, "rm", word) == word
    assert engine.api("GET", "/containers/json")[0] == 200


def test_ports_are_filtered_as_they_are_shown(engine):
    engine.docker("run", "-d", "--name", "ported", "-p", "12345:80", "--expose", "81", "busybox", "sleep", "100")
    engine.docker("create", "--name", "unstarted", "-p", "12346:80", "--expose", "81", "busybox", "true")
    found = lambda text: engine.out("ps", "-a", "-f", text, "--format", "{{.Names}}")  # noqa: E731
    assert found("publish=12345") == found("publish=12340-12350/tcp") == "ported"
    assert found("publish=80") == found("publish=12346") == found("publish=12345/udp") == ""
    assert found("expose=80") == found("expose=81") == found("expose=80-90/tcp") == "ported"
    assert found("expose=12345") == ""
    engine.docker("rm", "-f", "ported", "unstarted")


ALONE = "container sharing network namespace with another container or host cannot be connected to any other network"
HOST = "cannot connect container to host network - container must be created in host network mode"
NONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


@pytest.mark.parametrize(
    "first, second, told",
    [("bridge", "host", HOST), ("host", "bridge", ALONE), ("bridge", "none", NONE), ("none", "bridge", NONE)],
)
def test_networks_that_cannot_go_together_are_refused_at_the_start(engine, first, second, told):
    refused = engine.docker("run", "--name", "torn", "--network", first, "--network", second, "busybox", "true", check=False)
    assert refused.returncode == 125
    assert f"failed to set up container networking: {told}" in refused.stderr
    engine.docker("rm", "-f", "torn")


def test_a_container_bears_its_marks_and_they_are_no_change(engine, tmp_path):
    made = engine.docker("run", "--name", "marked", "busybox", "sh", "-c", "ls -l /.dockerenv && readlink /etc/mtab && cat /etc/mtab")
    lines = made.stdout.splitlines()
    assert lines[0].startswith("-rwxr-xr-x") and lines[0].split()[4] == "0"
    assert lines[1] == "/proc/mounts" and any(" /proc proc " in line for line in lines[2:])
    assert engine.out("diff", "marked") == ""
    engine.docker("rm", "marked")
    engine.docker("run", "--name", "marked", "busybox", "touch", "/mine")
    engine.docker("commit", "marked", "unmarked")
    archive = tmp_path / "unmarked.tar"
    engine.docker("save", "-o", archive, "unmarked")
    with tarfile.open(archive) as saved:
        layer = json.load(saved.extractfile("manifest.json"))[0]["Layers"][-1]
        with tarfile.open(fileobj=saved.extractfile(layer)) as files:
            assert [name.strip("./") for name in files.getnames() if name.strip("./")] == ["mine"]
    assert engine.out("run", "--rm", "busybox", "sh", "-c", "rm /.dockerenv /etc/mtab && ls -A / | grep -c dockerenv || true") == "0"
    engine.docker("rm", "marked")
    engine.docker("rmi", "unmarked")


def test_the_kernels_reasons_are_in_gos_words(engine):
    for argv in (
        ["--device", "/dev/nosuch"],
        ["--mount", "type=volume,src=parts,dst=/x,volume-subpath=nosuch"],
        ["--device-read-bps", "/dev/nosuch:1mb"],
    ):
        refused = engine.docker("run", "--rm", *argv, "busybox", "true", check=False)
        assert refused.returncode == 127 and "no such file or directory" in refused.stderr, refused.stderr
        assert "os error" not in refused.stderr
    engine.docker("volume", "rm", "-f", "parts")
