"""gantryd as its administrator meets it: started with flags of one's own, seen until it leaves."""

import json
import os
import subprocess
import time

from harness import BIN, Engine, run


class Variant(Engine):
    """An engine whose command line is made by a function from the usual one."""

    def __init__(self, *flags, change, **more):
        super().__init__(*flags, **more)
        self.change = change

    def argv(self):
        return self.change(self, [str(word) for word in super().argv()])


def refused(folder, *flags, config=None, env=None, timeout=60):
    """What gantryd says when it does not start with these flags; nothing may be left of the attempt."""
    file = folder / "daemon.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config or {}))
    before = set(folder.iterdir())
    started = time.monotonic()
    done = run(
        BIN / "gantryd", "--config-file", file, "--data-root", folder / "data", "--exec-root", folder / "run",
        "--pidfile", folder / "gantryd.pid", *flags,
        check=False, timeout=timeout, env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert set(folder.iterdir()) == before, "a refused start made something"
    assert time.monotonic() - started < 10
    return done.stderr.strip()


def validate(folder, config, *flags):
    """(exit code, stdout, stderr) of `gantryd --validate`."""
    file = folder / "daemon.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    done = run(BIN / "gantryd", "--validate", "--config-file", file, *flags, check=False)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def leave(engine, timeout=40):
    """Waits for an engine that was started with `wait=False` to leave; (exit code, seconds, log)."""
    started = time.monotonic()
    code = engine.process.wait(timeout)
    return code, time.monotonic() - started, engine.tail()


def listening(launcher, *argv, socket, **more):
    """Starts a program as systemd does for a socket unit: descriptor 3 listens, LISTEN_PID is the program's own."""
    script = 'exec 3<&"$0"; [ "$0" = 3 ] || eval "exec $0<&-"; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
    number = socket.fileno()
    return subprocess.Popen(["bash", "-c", script, str(number), *launcher, *map(str, argv)], pass_fds=(number,), **more)
