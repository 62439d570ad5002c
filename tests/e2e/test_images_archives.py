"""Images in and out by the docker CLI: save, load, import; skopeo is the judge of what we write."""

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import subprocess
import tarfile
import threading

import pytest
from harness import busybox_archive, run, wait_until
from leftovers import ctr
from test_auth import inside



@pytest.fixture
def one(fresh):
    return fresh()


def load(engine, data, *flags, check=True):
    """`docker load` of bytes on its standard input."""
    done = subprocess.run(
        engine.docker_argv("load", *flags), input=data, env=engine.docker_env(), capture_output=True, timeout=120
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done.stdout.decode(), done.stderr.decode()


def archive_of(entries):
    """A tar of (name, bytes)."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def entries_of(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(one.name, tar.extractfile(one).read()) for one in tar if one.isfile()]


def flip(data, at):
    """One bit is another."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def blobs(engine):
    return {path.name for path in (engine.data / "containerd").glob("**/blobs/sha256/*")}


def save(engine, *names):
    return engine.docker("save", *names, text=None).stdout


# -- save and load -----------------------------------------------------------------------------------------------------


def test_what_is_saved_loads_again_with_the_same_id(one, tmp_path):
    identity = one.inspect("busybox")["Id"]
    one.docker("save", "-o", tmp_path / "image.tar", "busybox")
    one.docker("rmi", "busybox")
    assert one.out("load", "-i", tmp_path / "image.tar") == "Loaded image: busybox:latest"
    assert one.inspect("busybox")["Id"] == identity
    assert one.out("run", "--rm", "busybox", "echo", "hello") == "hello"


def test_an_image_that_is_removed_while_it_is_saved_is_saved_whole(one):
    one.docker("import", "-", "large:1", input=archive_of([("random", os.urandom(48 << 20))]).decode("latin-1"), encoding="latin-1", text=None)
    identity = one.inspect("large:1")["Id"]
    connection = one.connection()
    connection.request("GET", "/images/large:1/get")
    answer = connection.getresponse()
    head = answer.read(1 << 20)
    assert one.docker("rmi", "large:1").stdout.splitlines()[-1] == f"Deleted: {identity}"
    one.docker("image", "prune", "-af")
    data = head + answer.read()
    connection.close()
    assert [hashlib.sha256(data).hexdigest() == name[13:] for name, data in entries_of(data) if name.startswith("blobs/sha256/")] == [True] * 3
    wait_until(lambda: ctr(one, "leases", "ls", "-q") == [], 10, "the end of the lease")
    wait_until(lambda: not blobs(one) & {identity[7:]}, 10, "the blobs' end")
    assert load(one, data)[0].strip() == "Loaded image: large:1"
    assert one.inspect("large:1")["Id"] == identity
    # One that nobody reads to its end holds nothing either.
    connection = one.connection()
    connection.request("GET", "/images/large:1/get")
    connection.getresponse().read(1000)
    connection.close()
    wait_until(lambda: ctr(one, "leases", "ls", "-q") == [], 10, "the end of the lease")


def test_several_names_make_one_archive_and_a_repository_means_all_its_tags(one):
    one.docker("tag", "busybox", "tools:1")
    one.docker("tag", "busybox", "tools:2")
    manifest = dict(entries_of(save(one, "tools", "busybox:latest")))["manifest.json"]
    tags = sorted(tag for image in json.loads(manifest) for tag in image["RepoTags"] or [])
    assert tags == ["busybox:latest", "tools:1", "tools:2"]
    data = save(one, "tools", "busybox:latest")
    one.docker("rmi", "tools:1", "tools:2", "busybox")
    out, _ = load(one, data)
    assert sorted(out.splitlines()) == ["Loaded image: busybox:latest", "Loaded image: tools:1", "Loaded image: tools:2"]
    assert "No such image" in one.docker("save", "nosuch", check=False).stderr


def test_an_image_saved_by_its_id_loads_without_a_name(one):
    identity = one.inspect("busybox")["Id"]
    data = save(one, identity)
    one.docker("rmi", "busybox")
    assert load(one, data)[0].strip() == f"Loaded image ID: {identity}"
    assert one.inspect(identity)["RepoTags"] == []


def test_skopeo_reads_what_is_saved_as_docker_archive_and_as_oci(one, tmp_path):
    path = tmp_path / "image.tar"
    one.docker("save", "-o", path, "busybox")
    for kind in (f"docker-archive:{path}:busybox:latest", f"oci-archive:{path}"):
        target = tmp_path / kind.split(":")[0]
        run("skopeo", "--insecure-policy", "copy", kind, f"dir:{target}")
        manifest = json.loads((target / "manifest.json").read_text())
        assert len(manifest["layers"]) == 1, kind
    raw = run("skopeo", "inspect", "--raw", f"oci-archive:{path}", text=None).stdout
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == one.inspect("busybox")["Id"]


def test_archives_of_skopeo_load_plain_and_compressed(one, tmp_path):
    source = f"docker-archive:{busybox_archive()}"
    run("skopeo", "--insecure-policy", "copy", source, f"oci-archive:{tmp_path / 'oci.tar'}:other:oci")
    run("skopeo", "--insecure-policy", "copy", source, f"docker-archive:{tmp_path / 'docker.tar'}:other:docker")
    assert "Loaded image" in one.out("load", "-i", tmp_path / "oci.tar")
    data = (tmp_path / "docker.tar").read_bytes()
    assert load(one, gzip.compress(data, 1))[0].strip() == "Loaded image: other:docker"
    for program in ("xz", "bzip2", "zstd"):
        try:
            packed = subprocess.run([program, "-1", "-c"], input=data, capture_output=True, check=True).stdout
        except FileNotFoundError:
            continue
        assert load(one, packed)[0].strip() == "Loaded image: other:docker", program
    assert one.out("run", "--rm", "other:docker", "echo", "hello") == "hello"


def test_an_archive_that_is_none_is_an_error_and_leaves_nothing(one):
    before, names = blobs(one), one.out("images", "-aq")
    good = busybox_archive().read_bytes()
    entries = entries_of(good)
    is_config = lambda name: name.endswith(".json") and name != "manifest.json"  # noqa: E731
    changed = [(name, data[:-1] + b"\0" if is_config(name) else data) for name, data in entries]
    flipped = [(name, flip(data, 1_000_000) if name.endswith("layer.tar") else data) for name, data in entries]
    no_layer = [entry for entry in entries if not entry[0].endswith("layer.tar")]
    for what, data in {
        "text": b"this is no archive\n" * 100,
        "nothing": b"",
        "an empty archive": archive_of([]),
        "no manifest": archive_of([entry for entry in entries if entry[0] != "manifest.json"]),
        "a manifest of something else": archive_of([("manifest.json", b"{}")]),
        "a config that is broken": archive_of(changed),
        "a layer that is another": archive_of(flipped),
        "a layer that is missing": archive_of(no_layer),
        "an end in the middle": good[: len(good) // 2],
        "gzip that ends early": gzip.compress(good, 1)[:-4000],
    }.items():
        status, body = one.api("POST", "/images/load?quiet=1", data, {"Content-Type": "application/x-tar"}, raw=True)
        assert status in (200, 400, 500), what
        assert b"errorDetail" in body or status >= 400, f"{what}: {body}"
        assert one.out("images", "-aq") == names, what
    extra = blobs(one) - before
    assert extra == set()
    assert one.out("run", "--rm", "busybox", "echo", "hello") == "hello"


def test_a_client_that_leaves_in_the_middle_of_a_load_leaves_no_image(one):
    data = busybox_archive().read_bytes()
    one.docker("rmi", "busybox")
    connection = one.connection()
    connection.putrequest("POST", "/images/load?quiet=1")
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    connection.send(data[: len(data) // 2])
    connection.close()
    assert one.out("images", "-aq") == ""
    # The same archive is welcome afterwards, whatever is left of the first.
    one.load_busybox()
    assert one.out("run", "--rm", "busybox", "echo", "hello") == "hello"


# -- import ------------------------------------------------------------------------------------------------------------


def test_import_takes_changes_message_and_platform(one, tmp_path):
    path = tmp_path / "root.tar"
    path.write_bytes(archive_of([("hello", b"hello\n")]))
    changes = [
        'CMD ["echo", "it is"]', "ENV A=1 B=two", "WORKDIR /work", "EXPOSE 80/tcp", "USER 12:34", "VOLUME /data",
        'LABEL who="some one"', "STOPSIGNAL SIGUSR1", 'ENTRYPOINT ["/bin/sh", "-c"]',
    ]  # fmt: skip
    flags = [flag for change in changes for flag in ("-c", change)]
    identity = one.out("import", *flags, "-m", "why not", "--platform", "linux/arm64", path, "arm:1")
    image = one.inspect("arm:1")
    assert image["Id"] == identity
    config = image["Config"]
    assert config["Cmd"] == ["echo", "it is"] and config["Entrypoint"] == ["/bin/sh", "-c"]
    assert config["Env"] == ["A=1", "B=two"] and config["WorkingDir"] == "/work" and config["User"] == "12:34"
    assert config["ExposedPorts"] == {"80/tcp": {}} and config["Volumes"] == {"/data": {}}
    assert config["Labels"] == {"who": "some one"} and config["StopSignal"] == "SIGUSR1"
    assert (image["Os"], image["Architecture"], image["Comment"]) == ("linux", "arm64", "why not")
    assert one.api("GET", "/images/arm:1/history")[1][0]["Comment"] == "why not"


def test_a_bad_import_makes_no_image(one):
    names = one.out("images", "-aq")
    good = archive_of([("hello", b"hello\n")])
    for flags, data in (
        (["-c", "RUN true"], good),
        (["-c", "NOSUCH x"], good),
        ([], b"this is no archive\n" * 100),
        ([], good[:700]),
    ):
        argv = one.docker_argv("import", *flags, "-", "bad:image")
        done = subprocess.run(argv, input=data, env=one.docker_env(), capture_output=True, timeout=60)
        assert done.returncode != 0, (flags, done.stdout)
        assert one.out("images", "-aq") == names
    done = one.docker("import", "-", "BAD", check=False, input="")
    assert "must be lowercase" in done.stderr


class Pages(http.server.BaseHTTPRequestHandler):
    """An archive, a redirect to it, one that breaks off in its middle, and nothing else."""

    archive = archive_of([("hello", b"hello\n" * 50_000)])

    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/root.tar")
            self.end_headers()
        elif self.path in ("/root.tar", "/cut.tar"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.archive)))
            self.end_headers()
            whole = self.path == "/root.tar"
            self.wfile.write(self.archive if whole else self.archive[:100_000])
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(engine, pages):
    """The URL of a web server next to the engine."""
    server = inside(engine.namespace, lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 0), pages))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_archive_is_imported_from_a_url(one):
    with served(one, Pages) as base:
        shown = one.out("import", f"{base}/moved", "from:url")
        assert f"Downloading from {base}/moved" in shown
        image = one.inspect("from:url")
        assert image["Id"] in shown and image["Comment"] == f"Imported from {base}/moved"
        names = one.out("images", "-aq")
        for path, text in (("nosuch", "with status 404 Not Found"), ("cut.tar", "EOF")):
            done = one.docker("import", f"{base}/{path}", "bad:url", check=False)
            assert done.returncode != 0 and text in done.stderr + done.stdout, (done.stdout, done.stderr)
        assert "unsupported protocol scheme" in one.api("POST", "/images/create?fromSrc=file:///etc/passwd")[1]["message"]
        assert one.out("images", "-aq") == names


def test_a_debian_is_imported_and_runs(fresh):
    engine = fresh(busybox=False)
    name = engine.import_debian()
    assert engine.inspect(name)["Comment"].startswith("Imported from")
    assert engine.out("run", "--rm", name, "cat", "/etc/debian_version").startswith("12")
    assert engine.out("run", "--rm", name, "dpkg", "-l", "bash").splitlines()[-1].startswith("ii  bash")
    assert engine.out("run", "--rm", name, "stat", "-c", "%a %u", "/tmp", "/usr/bin/passwd").split() == ["1777", "0", "4755", "0"]
