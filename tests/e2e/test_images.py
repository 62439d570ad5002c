"""Images by the docker CLI: list, inspect, names, history, removal and its conflicts, prune."""

import hashlib
import io
import json
import tarfile
import time
import urllib.parse

import pytest
from oci_layouts import FOREIGN, HOST, platform_of, two_platforms


def layer(**files):
    """A tar of these files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return data.getvalue()


def imported(engine, name, *flags, **files):
    """An image of one layer; its id."""
    argv = ["import", *flags, "-", *([name] if name else [])]
    done = engine.docker(*argv, input=layer(**(files or {"file": name})).decode("latin-1"), encoding="latin-1", text=None)
    return done.stdout.strip()


def names(engine, *flags):
    return engine.out("images", "--format", "{{.Repository}}:{{.Tag}}", *flags).splitlines()


@pytest.fixture
def one(fresh):
    return fresh()


def test_the_list_shows_names_ids_and_digests_and_takes_filters(one):
    first = imported(one, "a/first:1", "-c", "LABEL kind=old", f="1")
    time.sleep(1.1)  # creation has a resolution of a second for the filters
    imported(one, "a/second:2", f="2")
    dangling = imported(one, "", f="3")
    assert names(one, "-f", "reference=a/*") == ["a/second:2", "a/first:1"]
    assert names(one, "-f", "reference=a/first") == names(one, "a/first") == ["a/first:1"]
    assert names(one, "-f", "label=kind=old") == ["a/first:1"]
    assert names(one, "-f", "since=a/first:1", "-f", "dangling=false") == ["a/second:2"]
    assert set(names(one, "-f", "before=a/second:2")) == {"a/first:1", "busybox:latest"}
    assert one.out("images", "-q", "--no-trunc", "-f", "dangling=true") == dangling
    assert "<none>:<none>" in names(one)
    row = one.out("images", "--digests", "--no-trunc", "a/first").splitlines()[1].split()
    assert row[:4] == ["a/first", "1", first, first], "the id is the manifest's digest"
    assert one.docker("images", "-f", "nosuch=1", check=False).stderr.strip().endswith("invalid filter 'nosuch'")


def test_inspect_has_the_fields_of_docker_28_and_no_more(one):
    one.docker("tag", "busybox", "reg.example:5000/bb:x")
    image = one.inspect("busybox")
    assert set(image) == {
        "Id", "RepoTags", "RepoDigests", "Parent", "Comment", "Created", "DockerVersion", "Author", "Config",
        "Architecture", "Os", "Size", "GraphDriver", "RootFS", "Metadata", "Descriptor",
    }  # fmt: skip
    assert set(image["Config"]) == {"Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir"}
    assert image["Config"]["Entrypoint"] is None and image["Config"]["Volumes"] is None
    assert image["RepoTags"] == ["busybox:latest", "reg.example:5000/bb:x"]
    assert image["RepoDigests"] == [f"busybox@{image['Id']}", f"reg.example:5000/bb@{image['Id']}"]
    assert image["Descriptor"]["digest"] == image["Id"]
    assert image["RootFS"]["Type"] == "layers" and len(image["RootFS"]["Layers"]) == 1
    hexadecimal = image["Id"].removeprefix("sha256:")
    for way in (hexadecimal, hexadecimal[:12], image["Id"], f"busybox@{image['Id']}", "docker.io/library/busybox"):
        assert one.inspect(way)["Id"] == image["Id"], way
    dangling = one.inspect(imported(one, "", f="x"))
    assert dangling["RepoTags"] == [] and dangling["RepoDigests"] == []
    old = one.api("GET", "/v1.43/images/busybox/json")[1]
    assert old["VirtualSize"] == old["Size"] and "Container" in old and old["Config"]["Tty"] is False
    status, answer = one.api("GET", "/images/nosuch/json")
    assert (status, answer["message"]) == (404, "No such image: nosuch:latest")


def test_a_tag_moves_and_bad_names_are_refused_in_dockers_words(one):
    other = imported(one, "other", f="x")
    one.docker("tag", "busybox", "here:1")
    one.docker("tag", "other", "here:1")
    assert one.inspect("here:1")["Id"] == other
    for target, text in (
        ("UPPER", "must be lowercase"),
        ("a//b", "invalid reference format"),
        ("sha256:abc", "refusing to create an ambiguous tag using digest algorithm as name"),
    ):
        assert text in one.docker("tag", "busybox", target, check=False).stderr
    assert "No such image: nosuch:latest" in one.docker("tag", "nosuch", "a:b", check=False).stderr


def test_history_tells_each_step_newest_first(one):
    one.docker("tag", "busybox", "second:name")
    identity = one.inspect("busybox")["Id"]
    lines = one.api("GET", "/images/busybox/history")[1]
    assert [line["CreatedBy"] for line in lines] == ["busybox-static"]
    assert lines[0]["Id"] == identity and sorted(lines[0]["Tags"]) == ["busybox:latest", "second:name"]
    assert lines[0]["Size"] > 0
    assert one.out("history", "--format", "{{.ID}} {{.CreatedBy}}", "busybox") == f"{identity[7:19]} busybox-static"


def test_removal_by_name_untags_until_the_last_name_goes(one):
    identity = one.inspect("busybox")["Id"]
    one.docker("tag", "busybox", "second:name")
    assert one.out("rmi", "second:name") == "Untagged: second:name"
    assert one.out("rmi", "busybox").splitlines() == ["Untagged: busybox:latest", f"Deleted: {identity}"]
    assert "No such image: busybox:latest" in one.docker("rmi", "busybox", check=False).stderr
    assert one.out("images", "-aq") == ""


def test_removal_by_id_wants_force_where_several_tags_have_it(one):
    identity = one.inspect("busybox")["Id"]
    short = identity[7:19]
    one.docker("tag", "busybox", "busybox:two")
    refused = one.docker("rmi", short, check=False).stderr
    text = f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    assert text in refused, "two tags of one repository are two"
    one.docker("tag", "busybox", "second:name")
    assert text in one.docker("rmi", short, check=False).stderr
    assert len(names(one)) == 3
    lines = one.out("rmi", "-f", short).splitlines()
    assert sorted(lines[:-1]) == ["Untagged: busybox:latest", "Untagged: busybox:two", "Untagged: second:name"]
    assert lines[-1] == f"Deleted: {identity}"


def test_a_name_with_digest_stands_for_the_tags_of_its_repository(one):
    identity = one.inspect("busybox")["Id"]
    for name in ("busybox:two", "second:name"):
        one.docker("tag", "busybox", name)
    lines = one.out("rmi", f"busybox@{identity}").splitlines()
    assert sorted(lines) == ["Untagged: busybox:latest", "Untagged: busybox:two"]
    assert names(one) == ["second:name"]
    assert one.out("rmi", f"second@{identity}").splitlines() == ["Untagged: second:name", f"Deleted: {identity}"]


def test_an_image_in_use_stays_and_the_conflict_names_who_uses_it(one):
    identity = one.inspect("busybox")["Id"][7:19]
    stopped = one.out("create", "busybox", "true")[:12]
    by_name = one.docker("rmi", "busybox", check=False).stderr
    text = f"unable to delete busybox:latest (must be forced) - container {stopped} is using its referenced image {identity}"
    assert f"conflict: {text}" in by_name
    by_id = one.docker("rmi", identity, check=False).stderr
    text = f"unable to delete {identity} (must be forced) - image is being used by stopped container {stopped}"
    assert f"conflict: {text}" in by_id
    running = one.out("run", "-d", "busybox", "sleep", "600")[:12]
    by_name = one.docker("rmi", "busybox", check=False)
    assert by_name.returncode == 1 and "conflict: unable to delete busybox:latest (must be forced) - container" in by_name.stderr
    refused = one.docker("rmi", "-f", identity, check=False)
    text = f"unable to delete {identity} (cannot be forced) - image is being used by running container {running}"
    assert refused.returncode == 1 and f"conflict: {text}" in refused.stderr
    # One of two names is not the image.
    one.docker("tag", "busybox", "spare:name")
    assert one.out("rmi", "spare:name") == "Untagged: spare:name"
    status, answer = one.api("DELETE", "/images/busybox")
    assert status == 409 and answer["message"].startswith("conflict: ")


def test_the_last_name_of_an_image_in_use_can_be_forced_away_and_the_image_stays_nameless(one):
    identity = one.inspect("busybox")["Id"]
    running = one.out("run", "-d", "busybox", "sleep", "600")
    assert one.out("rmi", "-f", "busybox") == "Untagged: busybox:latest"
    assert names(one) == ["<none>:<none>"] and one.inspect(identity)["RepoTags"] == []
    assert one.out("exec", running, "echo", "runs on") == "runs on"
    assert one.out("image", "prune", "-f") == "Total reclaimed space: 0B", "it is in use"
    one.docker("tag", identity, "busybox")
    assert names(one) == ["busybox:latest"]
    one.docker("rmi", "-f", "busybox")
    one.docker("rm", "-f", running)
    assert f"deleted: {identity}" in one.out("image", "prune", "-f")
    assert names(one) == []


def test_a_stopped_container_still_starts_when_its_image_was_forced_away(one):
    name = one.out("create", "busybox", "echo", "still here")
    one.docker("rmi", "-f", one.inspect("busybox")["Id"])
    assert names(one) == []
    assert one.out("start", "-a", name) == "still here"
    one.restart()
    assert one.out("start", "-a", name) == "still here"
    one.docker("rm", name)
    one.load_busybox()
    assert one.out("run", "--rm", "busybox", "echo", "again") == "again"


def test_one_platform_can_be_removed_by_force_and_what_it_shares_stays(one):
    layout, index, manifests = two_platforms()
    one.docker("load", input=layout.tar().decode("latin-1"), encoding="latin-1", text=None)
    blobs = lambda: {f"sha256:{path.name}" for path in (one.data / "containerd").glob("**/blobs/sha256/*")}  # noqa: E731
    assert set(layout.blobs) <= blobs()
    wanted = "/images/multi:1?platforms=" + urllib.parse.quote(json.dumps(platform_of(FOREIGN)))
    status, answer = one.api("DELETE", wanted)
    text = "Content will be removed from all images referencing this variant. Use \u2014-force to force delete."
    assert (status, answer["message"]) == (400, text)
    status, answer = one.api("DELETE", wanted + "&force=1")
    assert (status, answer) == (200, [{"Deleted": manifests[FOREIGN]["digest"]}])
    foreign = json.loads(layout.blobs[manifests[FOREIGN]["digest"]])
    common, own = (layer["digest"] for layer in foreign["layers"])
    gone = set(layout.blobs) - blobs()
    assert gone == {manifests[FOREIGN]["digest"], foreign["config"]["digest"], own}, "the common layer stays"
    assert one.inspect("multi:1")["Id"] == index
    status, answer = one.api("DELETE", wanted + "&force=1")
    assert status == 404 and "does not provide the specified platform (linux/s390x)" in answer["message"]
    # Older clients do not know the parameter.
    assert one.api("DELETE", "/v1.49" + wanted)[1] == [{"Untagged": "multi:1"}, {"Deleted": index}]
    # An image of one platform alone goes as a whole.
    wanted = "/images/busybox?force=1&platforms=" + urllib.parse.quote(json.dumps(platform_of(HOST)))
    assert [list(line) for line in one.api("DELETE", wanted)[1]] == [["Untagged"], ["Deleted"]]


def test_prune_takes_dangling_images_and_with_all_the_unused_ones(one):
    used = one.out("create", "busybox", "true")
    dangling = imported(one, "", f="1" * 4096)
    imported(one, "unused:1", f="2" * 4096)
    imported(one, "kept:1", "-c", "LABEL keep=yes", f="3")
    done = one.out("image", "prune", "-f")
    assert f"deleted: {dangling}" in done and "Total reclaimed space: 0B" not in done
    assert set(names(one)) == {"busybox:latest", "unused:1", "kept:1"}
    assert one.api("POST", "/images/prune")[1] == {"ImagesDeleted": None, "SpaceReclaimed": 0}
    done = one.out("image", "prune", "-af", "--filter", "label!=keep")
    assert "untagged: unused:1" in done
    assert set(names(one)) == {"busybox:latest", "kept:1"}
    one.docker("rm", used)
    one.docker("image", "prune", "-af")
    assert names(one) == []


def test_a_removed_image_leaves_no_blob_and_no_snapshot(one):
    content = one.data / "containerd"
    blobs = lambda: {path.name for path in content.glob("**/blobs/sha256/*")}  # noqa: E731
    before = blobs()
    for number in range(3):
        imported(one, f"big:{number}", f=f"{number}" * 100_000)
    assert len(blobs()) == len(before) + 9
    began = time.monotonic()
    one.docker("rmi", "big:0", "big:1", "big:2")
    assert time.monotonic() - began < 5
    assert blobs() == before


def test_events_tell_what_became_of_an_image(one):
    since = one.out("info", "--format", "{{.SystemTime}}")
    one.docker("tag", "busybox", "second:name")
    one.docker("rmi", "second:name", "busybox")
    one.load_busybox()
    until = str(int(time.time()) + 1)
    lines = one.out("events", "--since", since, "--until", until, "-f", "type=image", "--format", "{{json .}}").splitlines()
    actions = [json.loads(line)["Action"] for line in lines]
    assert [action for action in actions if action != "import"][-5:] == ["tag", "untag", "untag", "delete", "load"]


def test_list_and_removal_are_quick_with_many_images(one):
    for number in range(30):
        imported(one, f"many:{number}", f=str(number))
    one.out("images", "-q")
    began = time.monotonic()
    for _ in range(5):
        assert len(one.api("GET", "/images/json")[1]) == 31
    assert (time.monotonic() - began) / 5 < 1.0
    began = time.monotonic()
    one.docker("rmi", *(f"many:{number}" for number in range(30)))
    assert (time.monotonic() - began) / 30 < 0.5


def test_the_id_is_the_digest_of_the_manifest(one):
    archive = one.docker("save", "busybox", text=None).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        index = json.load(tar.extractfile("index.json"))
        digest = index["manifests"][0]["digest"]
        manifest = tar.extractfile(f"blobs/sha256/{digest.removeprefix('sha256:')}").read()
    assert "sha256:" + hashlib.sha256(manifest).hexdigest() == digest == one.inspect("busybox")["Id"]


def test_each_unwanted_label_counts_on_its_own(one):
    imported(one, "labels:a", "-c", "LABEL a=1", f="a")
    imported(one, "labels:b", "-c", "LABEL b=1", f="b")
    imported(one, "labels:none", f="c")
    filters = urllib.parse.quote(json.dumps({"label!": ["a", "b=1"], "reference": ["labels"]}))
    assert [image["RepoTags"] for image in one.api("GET", f"/images/json?filters={filters}")[1]] == [["labels:none"]]
    one.docker("image", "prune", "-af", "--filter", "label!=a", "--filter", "label!=b")
    assert set(names(one)) == {"labels:a", "labels:b"}


def test_until_is_about_when_an_image_came_and_not_when_it_was_made(one):
    layout, *_ = two_platforms("docker.io/library/old:1", created="2001-01-01T00:00:00Z")
    before = one.out("info", "--format", "{{.SystemTime}}")
    time.sleep(1.1)
    one.docker("load", input=layout.tar().decode("latin-1"), encoding="latin-1", text=None)
    assert names(one, "-f", f"until={before}", "old") == []
    assert one.out("image", "prune", "-af", "--filter", f"until={before}").count("old:1") == 0
    assert names(one, "old") == ["old:1"]
    time.sleep(1.1)
    now = one.out("info", "--format", "{{.SystemTime}}")
    # The same again is no news.
    one.docker("load", input=layout.tar().decode("latin-1"), encoding="latin-1", text=None)
    assert names(one, "-f", f"until={now}", "old") == ["old:1"]
    assert "untagged: old:1" in one.out("image", "prune", "-af", "--filter", f"until={now}")


def test_events_of_an_image_bear_its_labels(one):
    imported(one, "labelled:1", "-c", "LABEL kind=some", f="x")
    since = one.out("info", "--format", "{{.SystemTime}}")
    one.docker("tag", "labelled:1", "labelled:2")
    data = one.docker("save", "labelled:1", text=None).stdout
    one.docker("rmi", "labelled:2", "labelled:1")
    one.docker("load", input=data.decode("latin-1"), encoding="latin-1", text=None)
    until = str(int(time.time()) + 1)
    lines = one.out("events", "--since", since, "--until", until, "-f", "type=image", "--format", "{{json .}}").splitlines()
    kinds = [(event["Action"], event["Actor"]["Attributes"].get("kind")) for event in map(json.loads, lines)]
    assert kinds == [("tag", "some"), ("save", "some"), ("untag", None), ("untag", None), ("delete", None), ("load", "some")]
