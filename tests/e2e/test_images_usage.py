"""What images hold on the disk: `system df` and the list's sizes against what `du` says."""

import json
import os

import pytest
from harness import wait_until
from oci_layouts import HOST, Layout, tar_of


@pytest.fixture
def one(fresh):
    return fresh()


def load(engine, data):
    engine.docker("load", input=data.decode("latin-1"), encoding="latin-1", text=None)


def on_disk(engine):
    """Bytes of blobs and of the unpacked layers' files, as du counts them: each file once, by its blocks."""
    seen, total = set(), 0
    folders = [*(engine.data / "containerd").glob("**/blobs/sha256"), *(engine.data / "containerd").glob("**/snapshots/*/fs")]
    for folder in folders:
        for root, names, files in os.walk(folder):
            for name in (*names, *files, "."):
                stat = os.lstat(os.path.join(root, name))
                if (stat.st_dev, stat.st_ino) not in seen:
                    seen.add((stat.st_dev, stat.st_ino))
                    total += stat.st_blocks * 512
    return total


def sizes(engine):
    return {image["RepoTags"][0]: image for image in engine.api("GET", "/images/json?shared-size=1")[1]}


def test_df_is_what_du_says(one):
    def close():
        told, there = one.api("GET", "/system/df")[1]["LayersSize"], on_disk(one)
        return abs(told - there) <= there * 0.02 + 64 * 1024

    assert close()
    before = on_disk(one)
    layout = Layout()
    files = {f"f{number}": os.urandom(9_000) for number in range(500)}
    layout.index("docker.io/library/many:1", layout.image(HOST, files, {"large": os.urandom(8 << 20)}))
    load(one, layout.tar())
    # The snapshot that a layer was staged in goes with the collection.
    wait_until(close, 20, "df and du to be of one mind")
    assert on_disk(one) > before + (16 << 20)
    one.docker("rmi", "many:1")
    wait_until(close, 20, "df and du to be of one mind")
    wait_until(lambda: on_disk(one) < before + (1 << 20), 20, "the room")


def test_shared_sizes_are_those_of_layers_that_another_image_has(one):
    layout = Layout()
    common = tar_of({"common": os.urandom(1 << 20)})
    for name in ("a", "b"):
        layout.index(f"docker.io/library/{name}:1", layout.image(HOST, common, {name: os.urandom(1 << 18)}))
    load(one, layout.tar())
    both = sizes(one)
    assert both["a:1"]["SharedSize"] == both["b:1"]["SharedSize"] and 1 << 20 <= both["a:1"]["SharedSize"] < (1 << 20) + 65536
    assert both["busybox:latest"]["SharedSize"] == 0
    assert both["a:1"]["Size"] > 2 * ((1 << 20) + (1 << 18)), "blobs and files"
    told = json.loads(one.out("system", "df", "-v", "--format", "{{json .Images}}"))
    assert len(told) == 3
    one.docker("rmi", "b:1")
    assert sizes(one)["a:1"]["SharedSize"] == 0
