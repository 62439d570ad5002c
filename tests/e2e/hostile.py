"""Images whose places are not what they seem: a busybox with members of a test's own, and what must not change."""

import io
import itertools
import pathlib
import tarfile
import urllib.parse

from harness import busybox_archive

_numbers = itertools.count()


def image(engine, *members, changes=()):
    """Imports busybox with these (name, kind, data or target) members in the place of its own; returns the name."""
    from test_copy import tar_of

    name = f"hostile{next(_numbers)}:test"
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=tarfile.PAX_FORMAT) as made:
        with tarfile.open(busybox_archive()) as outer:
            layer = next(member for member in outer if member.name.endswith("layer.tar"))
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                for member in inner:
                    if not any(member.name == name or member.name.startswith(f"{name}/") for name, _, _ in members):
                        made.addfile(member, inner.extractfile(member) if member.isfile() else None)
        with tarfile.open(fileobj=io.BytesIO(tar_of(*members))) as more:
            for member in more:
                made.addfile(member, more.extractfile(member) if member.isfile() else None)
    query = [("fromSrc", "-"), ("repo", name), *[("changes", change) for change in ("CMD [\"sh\"]", *changes)]]
    status, answer = engine.api("POST", "/images/create?" + urllib.parse.urlencode(query), body.getvalue(), raw=True)
    assert status == 200 and b"errorDetail" not in answer, (status, answer)
    return name


def mounted_at(folder):
    """Mount points of the host at or below a folder."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(str(folder))]
