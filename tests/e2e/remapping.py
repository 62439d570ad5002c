"""Engines with user namespaces: their users and subordinate ids are in an `/etc` of their own, in a mount namespace that
a process holds, so that nothing of this host changes and engines of other tests see nothing of it."""

import pathlib
import shutil
import subprocess

from harness import Engine

USER = "mapped"
UIDS, GIDS = (700_000, 65_536), (800_000, 65_536)


class RemappedEngine(Engine):
    """gantryd with `--userns-remap`; `subuid` and `subgid` are lines of those files."""

    def __init__(self, *flags, remap=USER, subuid=None, subgid=None, root=None):
        super().__init__(*flags, *(["--userns-remap", remap] if remap else []), root=root)
        # Root of the containers has to come through to its files.
        self.root.chmod(0o711)
        self.etc = self.root / "etc"
        shutil.copytree("/etc", self.etc, symlinks=True)
        self.append("passwd", f"{USER}:x:4711:4711::/:/bin/false\n")
        self.append("group", f"{USER}:x:4711:\n")
        self.append("subuid", subuid if subuid is not None else f"{USER}:{UIDS[0]}:{UIDS[1]}\n")
        self.append("subgid", subgid if subgid is not None else f"{USER}:{GIDS[0]}:{GIDS[1]}\n")
        script = f"mount --bind {self.etc} /etc && echo ready && exec sleep infinity"
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert self.holder.stdout.readline() == "ready\n"

    def append(self, file, text):
        with open(self.etc / file, "a") as out:
            out.write(text)

    def argv(self):
        return ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--", *super().argv()]

    def inside(self):
        """The path by which this host sees the engine's mounts."""
        return pathlib.Path(f"/proc/{self.holder.pid}/root")

    def close(self):
        super().close()
        self.holder.kill()
        self.holder.wait()
