"""Images of several platforms: loaded, looked at, saved, pushed; whole, in part, and by platform."""

import io
import json
import tarfile
import urllib.parse

import pytest
from oci_layouts import ARCH, FOREIGN, HOST, Layout, platform_of, tar_of, two_platforms
from registries import Registry

EMPTY_AUTH = {"X-Registry-Auth": "e30="}


@pytest.fixture
def one(fresh):
    return fresh()


@pytest.fixture
def registry(one, tmp_path):
    registry = Registry(one.namespace, tmp_path / "registry")
    yield registry
    registry.close()


def load(engine, data, *flags, check=True):
    argv = ["load", *flags]
    return engine.docker(*argv, input=data.decode("latin-1"), encoding="latin-1", text=None, check=check)


def save(engine, *argv):
    return engine.docker("save", *argv, text=None).stdout


def files_of(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}


def blobs_in(data):
    return {f"sha256:{name[13:]}" for name in files_of(data) if name.startswith("blobs/sha256/")}


def as_query(platform):
    return urllib.parse.quote(json.dumps(platform_of(platform)))


def available(engine, name):
    manifests = engine.api("GET", f"/images/{name}/json?manifests=1")[1]["Manifests"]
    return {f"{one['ImageData']['Platform']['os']}/{one['ImageData']['Platform']['architecture']}" for one in manifests if one["Available"]}


def raw(registry, name):
    """The document that a name in the registry leads to."""
    return json.loads(registry.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.where}/{name}").stdout)


def test_an_index_is_saved_and_loaded_again_with_every_platform_and_its_id(one):
    layout, index, manifests = two_platforms()
    load(one, layout.tar())
    assert one.inspect("multi:1")["Id"] == index and available(one, "multi:1") == {HOST, FOREIGN}
    data = save(one, "multi:1", "busybox")
    assert set(layout.blobs) <= blobs_in(data)
    one.docker("rmi", "multi:1")
    out = load(one, data).stdout
    assert sorted(out.splitlines()) == ["Loaded image: busybox:latest", "Loaded image: multi:1"]
    assert one.inspect("multi:1")["Id"] == index and available(one, "multi:1") == {HOST, FOREIGN}


def test_one_platform_is_saved_without_what_only_the_others_need(one):
    layout, index, manifests = two_platforms()
    load(one, layout.tar())
    foreign = json.loads(layout.blobs[manifests[FOREIGN]["digest"]])
    common, own = (layer["digest"] for layer in foreign["layers"])
    data = save(one, "--platform", HOST, "multi:1")
    assert blobs_in(data) == set(layout.blobs) - {manifests[FOREIGN]["digest"], foreign["config"]["digest"], own}
    # Both lists of the archive lead to it.
    listed = json.loads(files_of(data)["manifest.json"])
    assert [image["RepoTags"] for image in listed] == [["multi:1"]] and f"blobs/sha256/{common[7:]}" in listed[0]["Layers"]
    one.docker("rmi", "multi:1")
    load(one, data)
    assert one.inspect("multi:1")["Id"] == index and available(one, "multi:1") == {HOST}
    refused = one.docker("save", "--platform", FOREIGN, "multi:1", check=False)
    assert refused.returncode == 1 and f"does not provide the specified platform ({FOREIGN})" in refused.stderr


def test_several_platforms_are_taken_from_1_52_on(one):
    load(one, two_platforms()[0].tar())
    both = f"platform={as_query(HOST)}&platform={as_query(FOREIGN)}"
    status, answer = one.api("GET", f"/v1.51/images/multi:1/get?{both}")
    assert status == 400 and "multiple platform" in answer["message"], answer


def test_load_takes_the_platform_that_is_asked_for_or_refuses(one):
    layout, index, _ = two_platforms()
    load(one, layout.tar(), "--platform", FOREIGN)
    assert one.inspect("multi:1")["Id"] == index
    one.docker("rmi", "multi:1")
    refused = load(one, layout.tar(), "--platform", "linux/riscv64", check=False)
    assert refused.returncode == 1 and "linux/riscv64" in refused.stdout + refused.stderr
    assert "multi" not in one.out("images")


def test_inspect_and_history_tell_of_the_platform_that_is_asked_for(one):
    layout = Layout()
    made = {one_: layout.image(one_, {"own": one_.encode()}, history=[{"created_by": f"made for {one_}"}]) for one_ in (HOST, FOREIGN)}
    index = layout.index("docker.io/library/multi:1", *made.values())
    load(one, layout.tar())
    assert one.inspect("multi:1")["Architecture"] == ARCH
    for platform in (HOST, FOREIGN):
        status, image = one.api("GET", f"/images/multi:1/json?platform={as_query(platform)}")
        assert (status, image["Architecture"]) == (200, platform.split("/")[1])
        assert image["Id"] == image["Descriptor"]["digest"] == made[platform]["digest"], "that platform's manifest"
        assert image["RepoDigests"] == [f"multi@{index}"]
        manifest = json.loads(layout.blobs[made[platform]["digest"]])
        packed = made[platform]["size"] + manifest["config"]["size"] + sum(layer["size"] for layer in manifest["layers"])
        assert image["Size"] == packed + len(layout.blobs[index]), "bytes of the blobs"
        lines = one.api("GET", f"/images/multi:1/history?platform={as_query(platform)}")[1]
        assert [line["CreatedBy"] for line in lines] == [f"made for {platform}"]
    absent = as_query("linux/riscv64")
    for path in (f"json?platform={absent}", f"history?platform={absent}"):
        status, answer = one.api("GET", f"/images/multi:1/{path}")
        assert status == 404 and "(linux/riscv64)" in answer["message"], answer
    assert one.api("GET", f"/images/multi:1/json?manifests=1&platform={as_query(HOST)}")[0] == 400
    assert index == one.inspect("multi:1")["Id"]


def test_a_whole_index_is_pushed_whole_and_a_platform_alone(one, registry):
    layout, index, manifests = two_platforms(f"{registry.where}/multi:1")
    load(one, layout.tar())
    name = f"{registry.where}/multi:1"
    pushed = one.docker("push", name).stdout
    assert f"1: digest: {index} size: " in pushed and "only the available" not in pushed
    assert [entry["digest"] for entry in raw(registry, "multi:1")["manifests"]] == [manifests[HOST]["digest"], manifests[FOREIGN]["digest"]]
    one.docker("tag", name, f"{registry.where}/multi:foreign")
    status, body = one.api("POST", f"/images/{registry.where}/multi/push?tag=foreign&platform={as_query(FOREIGN)}", headers=EMPTY_AUTH, raw=True)
    lines = [json.loads(line) for line in body.splitlines()]
    assert status == 200 and not any("manifestPushedInsteadOfIndex" in line.get("aux", {}) for line in lines), "it was asked for"
    assert raw(registry, "multi:foreign") == json.loads(layout.blobs[manifests[FOREIGN]["digest"]])
    refused = one.docker("push", "--platform", "linux/riscv64", name, check=False)
    assert refused.returncode == 1 and "does not provide the specified platform (linux/riscv64)" in refused.stderr


def test_of_an_index_that_is_here_in_part_the_part_is_pushed_and_the_client_is_told(one, registry):
    layout, index, manifests = two_platforms(f"{registry.where}/part:1")
    foreign = json.loads(layout.blobs[manifests[FOREIGN]["digest"]])
    gone = {manifests[FOREIGN]["digest"], foreign["config"]["digest"], foreign["layers"][1]["digest"]}
    load(one, layout.tar(without=gone))
    status, body = one.api("POST", f"/images/{registry.where}/part/push?tag=1", headers=EMPTY_AUTH, raw=True)
    aux = [json.loads(line)["aux"] for line in body.splitlines() if b'"aux"' in line]
    assert aux[0]["manifestPushedInsteadOfIndex"] is True
    assert aux[0]["originalIndex"]["digest"] == index and aux[0]["selectedManifest"]["digest"] == manifests[HOST]["digest"]
    assert raw(registry, "part:1") == json.loads(layout.blobs[manifests[HOST]["digest"]])
    # What is not here at all is told too.
    one.api("DELETE", f"/images/{registry.where}/part:1?force=1&platforms={as_query(HOST)}")
    status, body = one.api("POST", f"/images/{registry.where}/part/push?tag=1", headers=EMPTY_AUTH, raw=True)
    lines = [json.loads(line) for line in body.splitlines()]
    missing = next(line["aux"] for line in lines if "aux" in line)
    assert missing["contentMissing"] is True and missing["desc"]["digest"] == index
    assert "errorDetail" in lines[-1]


def test_attestations_go_with_the_whole_and_are_no_image(one, registry):
    layout = Layout()
    image = layout.image(HOST, tar_of({"own": b"own"}))
    attestation = layout.attestation(image)
    index = layout.index(f"{registry.where}/signed:1", image, attestation)
    load(one, layout.tar())
    assert attestation["digest"] in blobs_in(save(one, f"{registry.where}/signed:1"))
    one.docker("push", f"{registry.where}/signed:1")
    assert [entry["digest"] for entry in raw(registry, "signed:1")["manifests"]] == [image["digest"], attestation["digest"]]
    one.docker("rmi", f"{registry.where}/signed:1")
    one.docker("pull", f"{registry.where}/signed:1")
    assert one.inspect(f"{registry.where}/signed:1")["Id"] == index


def test_statements_about_an_image_are_told_by_platform_and_type(one, registry):
    layout = Layout()
    image, other = layout.image(HOST, tar_of({"own": b"own"})), layout.image(FOREIGN, tar_of({"own": b"other"}))
    slsa, spdx = "https://slsa.dev/provenance/v1", "https://spdx.dev/Document"
    index = layout.index("docker.io/library/stated:1", image, other, layout.attestation(image, slsa, spdx))
    load(one, layout.tar())

    def told(query="", name="stated:1", version=""):
        status, found = one.api("GET", f"{version}/images/{name}/attestations{query}")
        assert status == 200, found
        return found

    both = told()
    assert [entry["PredicateType"] for entry in both] == [slsa, spdx] and all("Statement" not in entry for entry in both)
    assert both == told(name=index) == told(version="/v1.44") == told(f"?platform={as_query(HOST)}")
    for entry in told("?statement=1"):
        descriptor = entry["Descriptor"]
        assert descriptor["mediaType"] == "application/vnd.in-toto+json" and descriptor["size"] == len(layout.blobs[descriptor["digest"]])
        assert entry["Statement"] == json.loads(layout.blobs[descriptor["digest"]])
    kind = urllib.parse.quote(spdx, safe="")
    assert [entry["PredicateType"] for entry in told(f"?type={kind}&type=nosuch")] == [spdx]
    assert told("?type=nosuch") == told(f"?platform={as_query(FOREIGN)}") == []
    status, body = one.api("GET", "/images/stated:1/attestations?statement=1", raw=True)
    assert layout.blobs[both[0]["Descriptor"]["digest"]] in body, "verbatim"
    assert told(name="busybox") == [], "nothing stands beside a lone manifest"
    assert one.api("GET", f"/images/stated:1/attestations?platform={as_query('linux/riscv64')}")[0] == 404
    status, answer = one.api("GET", f"/images/stated:1/attestations?platform={as_query(HOST)}&platform={as_query(FOREIGN)}")
    assert (status, answer["message"]) == (400, "only one platform value is currently supported")
    assert one.api("GET", "/images/nosuch/attestations")[0] == 404
    # Of an image that was pulled the statements stay in the registry.
    one.docker("tag", "stated:1", f"{registry.where}/stated:1")
    one.docker("push", f"{registry.where}/stated:1")
    one.docker("rmi", f"{registry.where}/stated:1", "stated:1")
    one.docker("pull", f"{registry.where}/stated:1")
    status, answer = one.api("GET", f"/images/{registry.where}/stated:1/attestations?statement=1")
    assert status == 404, answer


def test_every_manifest_of_an_index_is_told_of_here_or_not(one):
    layout = Layout()
    images = {platform: layout.image(platform, {"own": platform.encode() * 999}) for platform in (HOST, FOREIGN)}
    attestation = layout.attestation(images[HOST])
    layout.index("docker.io/library/tree:1", *images.values(), attestation)
    gone = json.loads(layout.blobs[images[FOREIGN]["digest"]])
    load(one, layout.tar(without={images[FOREIGN]["digest"], gone["config"]["digest"], gone["layers"][0]["digest"]}))
    container = one.out("create", "tree:1", "x")
    told = one.api("GET", "/images/tree:1/json?manifests=1")[1]["Manifests"]
    listed = one.api("GET", "/images/json?manifests=1&filters=" + urllib.parse.quote('{"reference":["tree"]}'))[1][0]["Manifests"]
    assert told == listed
    here, absent, proof = told
    assert [entry["ID"] for entry in told] == [images[HOST]["digest"], images[FOREIGN]["digest"], attestation["digest"]]
    assert [entry["Kind"] for entry in told] == ["image", "image", "attestation"]
    assert [entry["Available"] for entry in told] == [True, False, True]
    assert here["ImageData"]["Containers"] == [container] and here["ImageData"]["Size"]["Unpacked"] > 0
    assert here["Size"]["Total"] == here["Size"]["Content"] + here["ImageData"]["Size"]["Unpacked"]
    assert absent["ImageData"]["Platform"] == platform_of(FOREIGN) and absent["Size"] == {"Content": 0, "Total": 0}
    assert proof["AttestationData"] == {"For": images[HOST]["digest"]} and "ImageData" not in proof
    assert proof["Descriptor"]["annotations"]["vnd.docker.reference.type"] == "attestation-manifest"
    tree = one.out("image", "ls", "--tree", "tree:1")
    assert HOST in tree and FOREIGN in tree
    one.docker("rm", container)
