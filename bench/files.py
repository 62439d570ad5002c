"""Files that a run of the bench makes once, and its clock."""

import contextlib
import os
import pathlib
import tempfile
import time

MIB = 1 << 20
_folder = None


class Clock:
    seconds = 0.0


@contextlib.contextmanager
def timed():
    clock, start = Clock(), time.perf_counter()
    yield clock
    clock.seconds = time.perf_counter() - start


def folder():
    """A folder of this run; `forget_files` takes it away."""
    global _folder
    if _folder is None:
        _folder = tempfile.TemporaryDirectory(prefix="gantry-bench-")
        os.chmod(_folder.name, 0o755)
    return pathlib.Path(_folder.name)


def forget_files():
    if _folder is not None:
        _folder.cleanup()
