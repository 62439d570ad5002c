"""Pull and push by the docker CLI against Debian's docker-registry; skopeo is the judge of what is there."""

import concurrent.futures
import hashlib
import http.server
import itertools
import json
import os
import subprocess
import threading
import time

import pytest
from harness import run, wait_until
from leftovers import ctr
from registries import Registry, auth_header, trouble
from test_auth import inside


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


@pytest.fixture(scope="module")
def large(engine, registry, tmp_path_factory):
    """An image with a layer of 24 MiB that does not compress, in the registry as `large`; the layer's digest."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "random").write_bytes(os.urandom(24 << 20))
    run("tar", "-C", folder, "-cf", folder / "large.tar", "random")
    engine.docker("import", folder / "large.tar", f"{registry.where}/large:1")
    engine.docker("push", f"{registry.where}/large:1")
    engine.docker("rmi", f"{registry.where}/large:1")
    manifest = json.loads(registry.skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{registry.where}/large:1").stdout)
    return manifest["layers"][0]["digest"]


def in_registry(registry, name):
    return json.loads(registry.skopeo("inspect", "--tls-verify=false", f"docker://{registry.where}/{name}").stdout)


def forget(engine, name):
    engine.docker("rmi", name, check=False)
    wait_until(lambda: name not in engine.out("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines())


def test_what_is_pushed_is_pulled_again_with_the_same_id(engine, registry):
    name = f"{registry.where}/first/busybox:1.0"
    engine.docker("tag", "busybox", name)
    pushed = engine.docker("push", name).stdout
    image_id = engine.out("inspect", "-f", "{{.Id}}", name)
    assert f"The push refers to repository [{registry.where}/first/busybox]" in pushed
    assert ": Pushed" in pushed and f"1.0: digest: {image_id} size: " in pushed
    judged = in_registry(registry, "first/busybox:1.0")
    assert judged["Digest"] == image_id
    again = engine.docker("push", name).stdout
    assert ": Layer already exists" in again and ": Pushed" not in again
    engine.docker("rmi", name)
    pulled = engine.docker("pull", name).stdout.splitlines()
    assert pulled[0] == "1.0: Pulling from first/busybox"
    assert pulled[-3:] == [f"Digest: {image_id}", f"Status: Downloaded newer image for {name}", name], pulled
    assert engine.out("inspect", "-f", "{{.Id}}", name) == image_id
    assert engine.docker("pull", name).stdout.splitlines()[-2] == f"Status: Image is up to date for {name}"
    assert engine.out("run", "--rm", name, "echo", "ran") == "ran"
    quiet = engine.out("pull", "-q", name)
    assert quiet == name


def test_run_pulls_what_is_missing(engine, registry, large):
    name = f"{registry.where}/run-pulls:latest"
    engine.docker("tag", "busybox", name)
    engine.docker("push", "-q", name)
    forget(engine, name)
    done = engine.docker("run", "--rm", name, "echo", "ran")
    assert done.stdout == "ran\n"
    assert f"Unable to find image '{name}' locally" in done.stderr and "Pulling from run-pulls" in done.stderr


def test_a_digest_brings_back_exactly_that_image(engine, registry):
    name = f"{registry.where}/by-digest"
    engine.docker("tag", "busybox", f"{name}:t")
    engine.docker("push", f"{name}:t")
    digest = engine.out("inspect", "-f", "{{.Id}}", f"{name}:t")
    forget(engine, f"{name}:t")
    pulled = engine.docker("pull", f"{name}@{digest}").stdout
    assert f"{digest}: Pulling from by-digest" in pulled.replace(f"{name}@", "")
    assert engine.out("inspect", "-f", "{{.Id}} {{.RepoDigests}}", f"{name}@{digest}").startswith(digest)
    engine.docker("rmi", f"{name}@{digest}")


def test_all_tags_go_and_come(engine, registry):
    name = f"{registry.where}/many"
    for tag in ("a", "b", "c"):
        engine.docker("tag", "busybox", f"{name}:{tag}")
    engine.docker("push", "-a", name)
    assert sorted(in_registry(registry, "many:a")["RepoTags"]) == ["a", "b", "c"]
    for tag in ("a", "b", "c"):
        engine.docker("rmi", f"{name}:{tag}")
    pulled = engine.docker("pull", "-a", name).stdout
    assert pulled.count("Digest: sha256:") == 3
    assert all(f"Status: Downloaded newer image for {name}:{tag}\n" in pulled for tag in ("a", "b", "c")) or "Image is up to date" in pulled, pulled
    tags = engine.out("images", name, "--format", "{{.Tag}}").split()
    assert sorted(tags) == ["a", "b", "c"]


def test_a_blob_next_door_is_mounted_and_not_sent(engine, registry, large):
    engine.docker("pull", f"{registry.where}/large:1")
    engine.docker("tag", f"{registry.where}/large:1", f"{registry.where}/neighbour:1")
    pushed = engine.docker("push", f"{registry.where}/neighbour:1").stdout
    assert "Mounted from large" in pushed, pushed
    forget(engine, f"{registry.where}/neighbour:1")
    forget(engine, f"{registry.where}/large:1")


def test_missing_things_are_named_in_dockers_words(engine, registry):
    where = registry.where
    for name, text in (
        (f"{where}/nope:1", f"manifest for {where}/nope:1 not found: manifest unknown: manifest unknown"),
        ("127.0.0.1:1/x:1", 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'),
        ("scratch", "'scratch' is a reserved name"),
        (f"{where}/UPPER", "must be lowercase"),
    ):
        done = engine.docker("pull", name, check=False)
        assert done.returncode == 1 and text in done.stderr, (name, done.stderr)
    done = engine.docker("push", f"{where}/never:tagged", check=False)
    assert done.returncode == 1 and f"tag does not exist: {where}/never:tagged" in done.stderr, done.stderr
    status, answer = engine.api("POST", f"/images/create?fromImage={where}/nope&tag=1")
    assert (status, answer["message"].endswith("manifest unknown")) == (404, True)


def test_an_index_gives_the_platform_that_is_asked_for(engine, registry, tmp_path):
    """An index of two platforms made by hand; each half is the busybox under another architecture."""
    host = "amd64" if os.uname().machine == "x86_64" else "arm64"
    other = "s390x"
    name = f"{registry.where}/multi"
    layout = tmp_path / "layout"
    engine.docker("tag", "busybox", f"{name}:src")
    engine.docker("push", f"{name}:src")
    registry.skopeo("copy", "--src-tls-verify=false", f"docker://{name}:src", f"oci:{layout}:x")
    blobs = layout / "blobs/sha256"

    def add(document):
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    entries = []
    for arch in (other, host):
        manifest["config"] = {"mediaType": manifest["config"]["mediaType"], **add({**config, "architecture": arch})}
        entries.append({"mediaType": "application/vnd.oci.image.manifest.v1+json", **add(manifest), "platform": {"os": "linux", "architecture": arch}})
    whole = add({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries})
    index["manifests"] = [{"mediaType": "application/vnd.oci.image.index.v1+json", **whole, "annotations": {"org.opencontainers.image.ref.name": "x"}}]
    (layout / "index.json").write_text(json.dumps(index))
    registry.skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{layout}:x", f"docker://{name}:1")
    # skopeo writes the index in its own way.
    whole = {"digest": json.loads(registry.skopeo("inspect", "--tls-verify=false", f"docker://{name}:1").stdout)["Digest"]}
    engine.docker("rmi", f"{name}:src")

    engine.docker("pull", f"{name}:1")
    assert engine.out("inspect", "-f", "{{.Id}} {{.Architecture}}", f"{name}:1") == f"{whole['digest']} {host}"
    assert engine.out("run", "--rm", f"{name}:1", "echo", "ran") == "ran"
    engine.docker("pull", "--platform", f"linux/{other}", f"{name}:1")
    status, found = engine.api("GET", f"/images/{name}:1/json?manifests=1")
    here = {one["ImageData"]["Platform"]["architecture"] for one in found["Manifests"] if one["Available"]}
    assert here == {host, other}
    done = engine.docker("pull", "--platform", "linux/riscv64", f"{name}:1", check=False)
    assert done.returncode == 1 and "no matching manifest for linux/riscv64 in the manifest list entries" in done.stderr
    # The CLI asks the registry itself.
    told = json.loads(engine.namespace.exec("docker", "manifest", "inspect", "--insecure", f"{name}:1", env=engine.docker_env()).stdout)
    assert [one["platform"]["architecture"] for one in told["manifests"]] == [other, host]
    status, found = engine.api("GET", f"/distribution/{name}:1/json")
    assert status == 200 and found["Descriptor"]["digest"] == whole["digest"]
    assert [one["architecture"] for one in found["Platforms"]] == [other, host]


def test_a_pull_that_is_cut_goes_on_from_the_bytes_it_has(engine, registry, proxy, large):
    cuts = iter([5 << 20, 7 << 20])
    proxy.plan = lambda path, _: next(cuts, None) if large in path else None
    name = f"{proxy.where}/large:1"
    pulled = engine.docker("pull", name).stdout
    ranges = [entry[2] for entry in proxy.seen if large in entry[1]]
    assert ranges[0] is None and len(ranges) == 3 and all(one.startswith("bytes=") for one in ranges[1:]), ranges
    first, second = (int(one[6:-1]) for one in ranges[1:])
    assert 0 < first <= 5 << 20 and first < second <= 12 << 20
    assert "Retrying in 1 second" in pulled
    assert engine.out("create", "--name", "from-large", name, "x")
    engine.docker("rm", "from-large")
    forget(engine, name)


def test_a_client_that_hangs_up_and_a_killed_gantryd_leave_bytes_to_go_on_from(engine, registry, proxy, large):
    name = f"{proxy.where}/large:1"
    for end in ("client", "gantryd"):
        go = threading.Event()
        proxy.plan = lambda path, _: ("stall", go) if large in path else None
        proxy.plan = lambda path, rng, held=[8 << 20]: held.pop() if large in path and held else (("stall", go) if large in path else None)
        proxy.seen.clear()
        client = engine.docker_popen("pull", name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        # The first connection is cut after 8 MiB, the second stalls after its first piece.
        wait_until(lambda: len([1 for entry in proxy.seen if large in entry[1]]) >= 2, 60, "the second connection")
        if end == "gantryd":
            engine.kill()
        else:
            client.kill()
        client.wait()
        client.stdout.close()
        go.set()
        if end == "gantryd":
            engine.start()
        proxy.plan = lambda *_: None
        proxy.seen.clear()
        assert name not in engine.out("images", "--format", "{{.Repository}}:{{.Tag}}")
        engine.docker("pull", name)
        ranges = [entry[2] for entry in proxy.seen if large in entry[1]]
        assert len(ranges) == 1 and int(ranges[0][6:-1]) >= 7 << 20, (end, ranges)
        forget(engine, name)
        # Nothing of the image stays, or the second round would find its layer.
        wait_until(lambda: engine.api("GET", "/system/df")[1]["LayersSize"] < 24 << 20, 30, "the layer's end")


def test_wrong_bytes_are_never_kept(engine, registry, proxy, large):
    name = f"{proxy.where}/large:1"
    wrong = iter([("flip", 1000)])
    proxy.plan = lambda path, _: next(wrong, None) if large in path else None
    engine.docker("pull", name)
    ranges = [entry[2] for entry in proxy.seen if large in entry[1]]
    assert ranges == [None, None], "all of it is asked for again"
    forget(engine, name)
    proxy.plan = lambda path, _: ("flip", 3) if "/manifests/" in path else None
    leases = ctr(engine, "leases", "ls", "-q")
    done = engine.docker("pull", name, check=False)
    assert done.returncode == 1 and name not in engine.out("images", "--format", "{{.Repository}}:{{.Tag}}"), done.stderr
    assert ctr(engine, "leases", "ls", "-q") == leases, "there is nothing to go on from"


def test_ten_pulls_of_one_image_do_the_work_once(engine, registry, proxy, large):
    name = f"{proxy.where}/large:1"
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        done = list(pool.map(lambda _: engine.docker("pull", name, timeout=180).returncode, range(10)))
    assert done == [0] * 10
    assert len([1 for entry in proxy.seen if f"blobs/{large}" in entry[1] and entry[0] == "GET"]) == 1
    forget(engine, name)


def test_events_name_the_reference(engine, registry):
    name = f"{registry.where}/events:1"
    engine.docker("tag", "busybox", name)
    since = engine.out("info", "-f", "{{.SystemTime}}")
    engine.docker("push", name)
    engine.docker("pull", name)
    until = engine.out("info", "-f", "{{.SystemTime}}")
    events = engine.out("events", "--since", since, "--until", until, "--format", "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}}")
    short = name.rsplit(":", 1)[0]
    assert events.splitlines() == [f"push {name} {short}", f"pull {name} {short}"]


class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        results = [
            {"name": "tools/one", "description": "first", "star_count": 7, "is_official": True, "is_automated": False},
            {"name": "tools/two", "description": "second", "star_count": 2, "is_official": False, "is_automated": False},
        ]
        self.server.seen.append(self.path)
        data = json.dumps({"results": results}).encode() if "/search" in self.path else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def test_search_asks_the_index_and_filters(engine):
    server = inside(engine.namespace, lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index))
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        term = f"127.0.0.1:{server.server_port}/tools"
        form = ["--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}}"]
        assert engine.out("search", *form, "--limit", "5", term).splitlines() == ["tools/one 7 [OK]", "tools/two 2 "[:-1]]
        assert any("q=tools&n=5" in path for path in server.seen)
        assert engine.out("search", *form, "-f", "stars=3", term).startswith("tools/one")
        assert engine.out("search", *form, "-f", "is-official=false", term).startswith("tools/two")
        done = engine.docker("search", "--limit", "101", term, check=False)
        assert "limit 101 is outside the range of [1, 100]" in done.stderr
    finally:
        server.shutdown()
        server.server_close()


def test_credentials_open_a_registry_by_password(engine, tmp_path):
    line = run("python3", "-c", "import crypt; print('ann:' + crypt.crypt('s3cret', crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))", check=False)
    if line.returncode or "$2" not in line.stdout:
        pytest.skip("no bcrypt in this Python's crypt")
    registry = Registry(engine.namespace, tmp_path / "private", htpasswd=line.stdout)
    try:
        name = f"{registry.where}/private:1"
        engine.docker("tag", "busybox", name)
        done = engine.docker("push", name, check=False)
        assert done.returncode == 1 and "no basic auth credentials" in done.stderr, done.stderr
        engine.docker("login", "-u", "ann", "--password-stdin", registry.where, input="s3cret")
        engine.docker("push", name)
        forget(engine, name)
        engine.docker("pull", name)
        engine.docker("logout", registry.where)
        done = engine.docker("pull", name, check=False)
        assert done.returncode == 1 and "no basic auth credentials" in done.stderr, done.stderr
        status, answer = engine.api("GET", f"/distribution/{name}/json")
        assert status == 401, answer
        wrong = auth_header(username="ann", password="no", serveraddress=registry.where)
        status, answer = engine.api("GET", f"/distribution/{name}/json", headers=wrong)
        assert status == 401 and "unauthorized" in answer["message"], answer
    finally:
        registry.close()


def test_prune_gives_up_what_a_cut_pull_has_left_and_counts_it(engine, registry, proxy, large):
    name = f"{proxy.where}/large:1"
    go = threading.Event()
    proxy.plan = lambda path, _, held=[8 << 20]: held.pop() if large in path and held else (("stall", go) if large in path else None)
    client = engine.docker_popen("pull", name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    halves = lambda: [line for line in ctr(engine, "content", "active")[1:] if "gantry-blob-" in line]  # noqa: E731
    wait_until(lambda: len([1 for entry in proxy.seen if large in entry[1]]) >= 2, 60, "the second connection")
    assert engine.api("POST", "/images/prune")[0] == 200
    assert halves(), "a pull that runs keeps what it has"
    client.kill()
    client.wait()
    client.stdout.close()
    go.set()
    status, pruned = engine.api("POST", "/images/prune")
    # The pull may need a moment to see that its client has gone.
    wait_until(lambda: pruned["SpaceReclaimed"] > 0 or pruned.update(engine.api("POST", "/images/prune")[1]), 30, "the bytes")
    assert status == 200 and pruned["SpaceReclaimed"] >= 7 << 20, pruned
    assert halves() == []
    proxy.plan = lambda *_: None
    proxy.seen.clear()
    engine.docker("pull", name)
    assert [entry[2] for entry in proxy.seen if large in entry[1]] == [None], "from the beginning"
    forget(engine, name)


def test_a_network_that_goes_dead_is_noticed_and_the_pull_goes_on(engine, registry, proxy, large):
    go = threading.Event()
    dead = [("stall", go)]
    proxy.plan = lambda path, _: dead.pop() if large in path and dead else None
    name = f"{proxy.where}/large:1"
    began = time.monotonic()
    pulled = engine.docker("pull", name).stdout
    go.set()
    assert time.monotonic() - began >= 20, "it is given time"
    ranges = [entry[2] for entry in proxy.seen if large in entry[1]]
    assert ranges[0] is None and len(ranges) <= 2 and "Retrying in 1 second" in pulled, ranges
    forget(engine, name)


def test_an_upload_that_is_cut_is_made_again_and_arrives_whole(engine, registry, proxy, large):
    """Debian's registry keeps nothing of a request that was cut, and says so: the blob is sent from its beginning."""
    engine.docker("pull", f"{registry.where}/large:1")
    # A registry under another name knows nothing to mount from.
    name = f"{proxy.where}/cut:1"
    engine.docker("tag", f"{registry.where}/large:1", name)
    cuts = [5 << 20, 1 << 20]
    proxy.cut = lambda method, path, length: cuts.pop() if method == "PATCH" and length > 8 << 20 and cuts else None
    pushed = engine.docker("push", name).stdout
    assert cuts == [] and "Retrying in" in pushed and ": Pushed" in pushed, pushed
    manifest = json.loads(registry.skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{registry.where}/cut:1").stdout)
    assert manifest["layers"][0]["digest"] == large
    registry.skopeo("copy", "--src-tls-verify=false", f"docker://{registry.where}/cut:1", f"dir:{registry.folder / 'judged'}")
    forget(engine, name)
    forget(engine, f"{registry.where}/large:1")


class Sink(http.server.BaseHTTPRequestHandler):
    """A registry that keeps what it has got of an upload, tells how much that is, and hangs up once in the middle."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(404)

    def do_GET(self):
        server = self.server
        if "/uploads/" in self.path:
            return self.answer(204, {"Location": self.path, "Range": f"0-{len(server.data[self.path]) - 1}"})
        self.answer(200)

    def do_POST(self):
        self.server.data[path := f"/v2/x/blobs/uploads/{next(self.server.numbers)}"] = b""
        self.answer(202, {"Location": path})

    def do_PATCH(self):
        server, left = self.server, int(self.headers["Content-Length"])
        server.ranges.append((self.headers.get("Content-Range"), left))
        if server.cut and left > server.cut:
            server.data[self.path] += self.rfile.read(server.cut)
            server.cut = 0
            self.close_connection = True
            return self.connection.shutdown(2)
        server.data[self.path] += self.rfile.read(left)
        self.answer(202, {"Location": self.path})

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "/manifests/" not in self.path:
            self.server.blobs.add(hashlib.sha256(self.server.data[self.path.split("?")[0]]).hexdigest())
        self.answer(201)
        del body

    def answer(self, status, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_an_upload_goes_on_where_the_registry_says(engine, registry, large):
    server = inside(engine.namespace, lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink))
    server.daemon_threads, server.numbers = True, itertools.count()
    server.data, server.ranges, server.blobs, server.cut = {}, [], set(), 9 << 20
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        engine.docker("pull", f"{registry.where}/large:1")
        name = f"127.0.0.1:{server.server_port}/x:1"
        engine.docker("tag", f"{registry.where}/large:1", name)
        engine.docker("push", name)
        whole = next(length for content_range, length in server.ranges if length > 9 << 20)
        again = [content_range for content_range, _ in server.ranges if content_range]
        assert again == [f"{9 << 20}-{whole - 1}"], server.ranges
        assert large.removeprefix("sha256:") in server.blobs
    finally:
        server.shutdown()
        server.server_close()
        forget(engine, name)
        forget(engine, f"{registry.where}/large:1")
