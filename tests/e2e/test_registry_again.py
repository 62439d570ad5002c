"""Pulls and pushes when a registry is busy, broken for a moment, or not alone: what is asked again, what each line says, who holds what."""

import json
import os
import re
import subprocess
import threading
import time

import pytest
from harness import wait_until
from leftovers import ctr
from oci_layouts import HOST, Layout, tar_of
from registries import Registry, trouble
from test_registry_hazards import MANIFEST, Liar
from test_registry_ways import serving


@pytest.fixture(scope="module")
def registry(engine, tmp_path_factory):
    registry = Registry(engine.namespace, tmp_path_factory.mktemp("registry"))
    yield registry
    registry.close()


@pytest.fixture
def proxy(engine, registry):
    server = trouble(engine.namespace, registry)
    yield server
    server.shutdown()
    server.server_close()


def refusals(proxy, *plans):
    """Each (pattern of a request, status, …) answers as many requests that fit; what is left over."""
    left = [[re.compile(pattern), list(answers)] for pattern, *answers in plans]

    def refuse(method, path):
        for pattern, answers in left:
            if answers and pattern.fullmatch(f"{method} {path}"):
                answer = answers.pop(0)
                return answer if isinstance(answer, tuple) else (answer, {})
        return None

    proxy.refuse = refuse
    return lambda: [(pattern.pattern, answers) for pattern, answers in left if answers]


BUSY = (429, {"Retry-After": "1"})


def test_a_registry_that_is_busy_or_broken_for_a_moment_is_asked_again(engine, registry, proxy):
    name = f"{proxy.where}/again:1"
    engine.docker("tag", "busybox", name)
    left = refusals(
        proxy,
        ("GET /v2/", 502, 503),
        ("HEAD /v2/again/manifests/.*", 503),
        ("HEAD /v2/again/blobs/.*", BUSY),
        ("POST .*", BUSY),
        ("PATCH .*", BUSY),
        ("PUT /v2/again/manifests/1", 500, BUSY),
    )
    engine.docker("push", name)
    assert left() == []
    manifest = json.loads(registry.skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{registry.where}/again:1").stdout)
    engine.docker("rmi", name, "busybox")
    left = refusals(
        proxy,
        ("GET /v2/", 504, 503),
        ("GET /v2/again/manifests/1", 500, BUSY, 408),
        (f"GET /v2/again/blobs/{manifest['config']['digest']}", 503, BUSY),
        (f"GET /v2/again/blobs/{manifest['layers'][0]['digest']}", BUSY, 500),
    )
    engine.docker("pull", name)
    assert left() == []
    assert engine.out("run", "--rm", name, "echo", "ran") == "ran"
    engine.docker("tag", name, "busybox")
    engine.docker("rmi", name)


def test_a_registry_that_wants_us_away_for_long_is_told_of_at_once(engine, proxy):
    name = f"{proxy.where}/away:1"
    proxy.refuse = lambda method, path: (429, {"Retry-After": "3600"}) if "/manifests/" in path else None
    began = time.monotonic()
    done = engine.docker("pull", name, check=False)
    assert done.returncode == 1 and "toomanyrequests" in done.stderr and time.monotonic() - began < 20, done.stderr
    proxy.refuse = lambda *_: (503, {})
    proxy.seen.clear()
    done = engine.docker("pull", name, check=False, timeout=60)
    assert done.returncode == 1 and "503" in done.stderr and len(proxy.seen) <= 5, (done.stderr, proxy.seen)


def test_a_document_that_is_cut_is_asked_for_again(engine, registry, proxy):
    engine.docker("tag", "busybox", f"{registry.where}/cut:1")
    engine.docker("push", f"{registry.where}/cut:1")
    engine.docker("rmi", f"{registry.where}/cut:1", "busybox")
    cuts = {"/manifests/": [10], "/blobs/": [20]}

    def plan(path, _):
        return next((left.pop() for part, left in cuts.items() if part in path and left), None)

    proxy.plan = plan
    name = f"{proxy.where}/cut:1"
    engine.docker("pull", name)
    assert not any(cuts.values())
    engine.docker("tag", name, "busybox")
    engine.docker("rmi", name)


def test_a_blob_that_somebody_else_brings_meanwhile_is_held_by_the_pull_too(engine, registry, proxy):
    """`ctr` writes the very blob, under the very name that gantryd writes it by, and ends before it; then the collection runs."""
    layout = Layout()
    first, second = tar_of({"first": os.urandom(3000)}), tar_of({"second": os.urandom(300_000)})
    name = f"{proxy.where}/both:1"
    layout.index(name, layout.image(HOST, first, second))
    engine.docker("load", input=layout.tar().decode("latin-1"), encoding="latin-1", text=None)
    engine.docker("push", name)
    engine.docker("rmi", name)
    digests = {data: next(digest for digest, blob in layout.blobs.items() if blob == data) for data in (first, second)}
    wait_until(lambda: digests[first] not in ctr(engine, "content", "ls", "-q"), 30, "the layer's end")
    go = threading.Event()
    proxy.seen.clear()
    proxy.plan = lambda path, _: ("stall", go) if digests[second] in path else None
    socket = engine.exec_root / "containerd" / "containerd.sock"
    ingest = ["content", "ingest", "--expected-digest", digests[first], "--expected-size", str(len(first)), f"gantry-blob-{digests[first]}"]
    other = subprocess.Popen(["ctr", "-a", socket, "-n", "gantry", *ingest], stdin=subprocess.PIPE)
    told = engine.root / "pull.out"
    try:
        other.stdin.write(first[:1000])
        other.stdin.flush()
        wait_until(lambda: any(digests[first] in line for line in ctr(engine, "content", "active")), 30, "the other writer")
        with open(told, "wb") as out:
            pull = engine.docker_popen("pull", name, stdout=out, stderr=subprocess.STDOUT)
        wait_until(lambda: any(digests[second] in entry[1] for entry in proxy.seen), 30, "the request for the other layer")
        other.stdin.write(first[1000:])
        other.stdin.close()
        assert other.wait(30) == 0
        wait_until(lambda: f"{digests[first][7:19]}: Download complete" in told.read_text(), 30, told.read_text)
        ctr(engine, "leases", "create", "--id", "collect")
        ctr(engine, "leases", "delete", "--sync", "collect")
        assert digests[first] in ctr(engine, "content", "ls", "-q")
        assert not [entry for entry in proxy.seen if digests[first] in entry[1]], "nobody fetched it"
    finally:
        go.set()
        other.kill()
        other.wait()
    assert pull.wait(60) == 0, told.read_text()
    engine.docker("rmi", name)


def test_of_all_tags_those_that_are_none_are_left_out_and_each_has_its_line(engine):
    with serving(engine.namespace, lambda: Liar(("127.0.0.1", 0))) as liar:
        for tag in ("one", "two"):
            liar.image(tag, config={"author": tag})
        none = ["a b", "-x", "x@sha256:" + "0" * 64, "", "y" * 129, "../../x"]
        liar.blobs["list"] = json.dumps({"name": "tags", "tags": [none[0], "one", *none[1:], "two"]}).encode()
        name = f"{liar.where}/tags"
        pulled = engine.docker("pull", "-a", name).stdout.splitlines()
        for tag in ("one", "two"):
            at = pulled.index(f"{tag}: Pulling from tags")
            assert f"Status: Downloaded newer image for {name}:{tag}" in pulled[at:], pulled
        assert sorted(engine.out("images", name, "--format", "{{.Tag}}").split()) == ["one", "two"]
        assert "won't pull" in engine.log.read_text(errors="replace")
        again = engine.docker("pull", "-a", name).stdout
        assert again.count("Status: Image is up to date for ") == 2, again
        # What goes wrong with one names it, and what is here by then stays.
        liar.document(MANIFEST, b"{}", "two")
        done = engine.docker("pull", "-a", name, check=False)
        assert done.returncode == 1 and f"error pulling {name}:two: " in done.stderr, done.stderr
        engine.docker("rmi", f"{name}:one", f"{name}:two")


def test_a_layer_tells_how_long_it_is_extracted_as_dockerd_does(engine, registry):
    name = f"{registry.where}/lines:1"
    layout = Layout()
    layout.index(name, layout.image(HOST, tar_of({"own": os.urandom(200_000)})))
    engine.docker("load", input=layout.tar().decode("latin-1"), encoding="latin-1", text=None)
    engine.docker("push", name)
    engine.docker("rmi", name)
    status, body = engine.api("POST", f"/images/create?fromImage={registry.where}/lines&tag=1", raw=True)
    lines = [json.loads(line) for line in body.splitlines()]
    steps = [line["status"] for line in lines if line.get("id") != "1" and "id" in line]
    assert status == 200 and steps[0] == "Pulling fs layer" and steps[-3:] == ["Download complete", "Extracting", "Pull complete"], steps
    extracting = next(line for line in lines if line["status"] == "Extracting")
    assert extracting["progressDetail"] == {"current": 1, "units": "s"} and extracting["progress"] == "1 s"
    engine.docker("rmi", name)


def test_an_id_is_in_no_registry(engine):
    for name in ("a" * 64, "sha256:" + "a" * 64):
        assert engine.api("GET", f"/distribution/{name}/json") == (500, {"message": "no manifest found for full image ID"})
