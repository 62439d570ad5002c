"""Archives made to harm, through the ways by which images come: load, import and pull (T05 to T08)."""

import gzip
import io
import lzma
import os
import pathlib
import tarfile

import pytest
from leftovers import ctr
from oci_layouts import HOST, Layout, digest
from test_copy import tar_of
from test_registry_hazards import LAYER, Liar, Words  # noqa: F401
from test_registry_ways import serving


def tricks(folder):
    out, up = str(folder), "../" * 20 + str(folder).lstrip("/")
    return [
        tar_of(("l", "l", out), ("l/evil", "f", b"x"), ("l", "d", None), mode=0o777),
        tar_of(("l", "l", up), ("l/evil", "f", b"x"), ("l/secret", "f", b"x")),
        tar_of(("a", "l", "b"), ("b", "l", out), ("a/evil", "f", b"x")),
        tar_of(("h", "h", out + "/secret"), ("h", "f", b"x")),
        tar_of(("h", "h", up + "/secret")),
        tar_of(("s", "l", out + "/secret"), ("h", "h", "s"), ("h", "f", b"x")),
        tar_of((up + "/evil", "f", b"x")),
        tar_of(("x/../../../.." + out + "/evil", "f", b"x")),
        tar_of((out + "/evil", "f", b"x")),
        tar_of(("l", "l", out), ("l/.wh.secret", "f", b""), ("l/.wh..wh..opq", "f", b"")),
    ]


def come(engine, way, layer, name, liar=None):
    """Lets a layer in; whether it was taken. A refusal may come before all of it was sent."""
    try:
        return came(engine, way, layer, name, liar)
    except (BrokenPipeError, ConnectionResetError):
        return False


def came(engine, way, layer, name, liar):
    if way == "import":
        status, body = engine.api("POST", f"/images/create?fromSrc=-&repo={name}&tag=1", layer, raw=True)
    elif way == "load":
        layout = Layout()
        layout.index(f"docker.io/library/{name}:1", layout.image(HOST, layer))
        status, body = engine.api("POST", "/images/load?quiet=1", layout.tar(), raw=True)
    else:
        liar.image("1", config={"rootfs": {"type": "layers", "diff_ids": [digest(layer)]}}, layers=[liar.blob(LAYER + "+gzip", gzip.compress(layer, 1))])
        status, body = engine.api("POST", f"/images/create?fromImage={liar.where}/{name}&tag=1", raw=True)
    assert status in (200, 400, 500), body
    return status == 200 and b"errorDetail" not in body


@pytest.fixture
def liar(engine):
    with serving(engine.namespace, lambda: Liar(("127.0.0.1", 0))) as server:
        yield server


@pytest.mark.parametrize("way", ["import", "load", "pull"])
def test_t05_t06_link_tricks_reach_nothing_of_the_host(engine, outside, liar, way):  # noqa: F811
    for number, layer in enumerate(tricks(outside)):
        come(engine, way, layer, f"trick-{way}-{number}", liar)
        assert os.listdir(outside) == ["secret"]
    assert engine.out("run", "--rm", "busybox", "echo", "lives") == "lives"


def resident(engine, kind):
    text = pathlib.Path(f"/proc/{engine.process.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(kind)).split()[1]) << 10


def heavy(kind):
    """Little when packed: what a reader may be made to keep in mind until the end."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(4000):
            if kind == "attributes":
                info = tarfile.TarInfo(f"d{number}")
                info.type, info.pax_headers = tarfile.DIRTYPE, {"SCHILY.xattr.user.x": "y" * 60_000}
            elif kind == "links":
                info = tarfile.TarInfo(f"l{number}")
                info.type, info.linkname = tarfile.LNKTYPE, f"{number}/" + "x/" * 2000
            else:
                info = tarfile.TarInfo("/".join(["n" * 200] * 19) + f"/{number}")
                info.type = tarfile.DIRTYPE
            tar.addfile(info)
            if out.tell() > 150 << 20:
                break
    return out.getvalue()


@pytest.mark.parametrize("kind", ["attributes", "links"])
def test_t08_headers_that_weigh_much_cost_gantryd_little(engine, liar, kind):
    layer = heavy(kind)
    before = resident(engine, "VmRSS")
    for way in ("pull", "import"):
        taken = come(engine, way, layer, f"heavy-{kind}-{way}", liar)
        assert not (taken and kind == "attributes"), "150 MB to keep in mind are refused"
    most = resident(engine, "VmHWM")
    assert most < before + (200 << 20), f"{before >> 20} MiB before, {most >> 20} MiB at most"
    assert [lease for lease in ctr(engine, "leases", "ls", "-q") if not lease.startswith("resume.")] == []


def test_t08_a_cut_or_endless_packing_ends_soon(engine):
    plain = tar_of(("f", "f", os.urandom(300_000)))
    xz = lzma.compress(plain)
    for data in (xz[: len(xz) // 2], xz[:-4], gzip.compress(plain)[:-8], b"\x28\xb5\x2f\xfd" + b"\xff" * 1000):
        for path in ("/images/load?quiet=1", "/images/create?fromSrc=-&repo=cut"):
            status, body = engine.api("POST", path, data, raw=True, timeout=30)
            assert status >= 400 or b"errorDetail" in body, body
    assert "cut" not in engine.out("images")
