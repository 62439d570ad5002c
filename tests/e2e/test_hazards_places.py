"""Hazards T21, T22 and T26: working folders, mount points and devices that an image or a neighbour has put elsewhere."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from harness import BIN, run, wait_until
from hostile import image, mounted_at
from test_copy import put, tar_of

# As seen from the host and from the container's own root: both ways out are tried.
UP = "../" * 24
# What a container prints of the host when its working folder is one of the host's.
LOOK = "cat secret ../secret ../../secret {up}{out}/secret {out}/secret 2>/dev/null; ls -di {up}. / | awk '{{print $1}}' | uniq | wc -l"


def attempt(engine, *argv):
    """Code and all output of a run that may be refused."""
    done = engine.docker(*argv, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def look(outside):
    return ("sh", "-c", LOOK.format(up=UP, out=outside))


def assert_inside(code, text):
    """Either refused, or the working folder leads to the container's own root."""
    assert "of the host" not in text
    assert code != 0 or text.split()[-1] == "1", text


@pytest.mark.parametrize("form", ["{out}", UP + "{out}", "/proc/1/root{out}", "/proc/self/root{out}"])
def test_t21_a_working_folder_through_a_link_of_the_image_is_none_of_the_hosts(engine, outside, form):
    name = image(engine, ("way", "l", form.format(out=outside)), changes=["WORKDIR /way/made"])
    for options in ((), ("-w", "/way"), ("-w", "/way/made/deeper"), ("-w", "/way/../way/x")):
        assert_inside(*attempt(engine, "run", "--rm", *options, name, *look(outside)))
        assert os.listdir(outside) == ["secret"]
    engine.docker("run", "-d", "--name", "way", "-w", "/", name, "sleep", "600")
    try:
        for folder in ("/way", "/way/made", "/way/.."):
            assert_inside(*attempt(engine, "exec", "-w", folder, "way", *look(outside)))
    finally:
        engine.docker("rm", "-f", "way")
        engine.docker("rmi", name)


def test_t21_a_working_folder_among_descriptors_is_none_of_the_hosts(engine, outside):
    """CVE-2024-21626: one of runc's own descriptors, seven or eight, led to the host's cgroups."""
    engine.docker("run", "-d", "--name", "box", "busybox", "sleep", "600")
    try:
        for number in range(3, 13):
            folder = f"/proc/self/fd/{number}"
            assert_inside(*attempt(engine, "exec", "-w", folder, "box", *look(outside)))
            if 6 <= number <= 9:
                assert_inside(*attempt(engine, "run", "--rm", "-w", folder, "busybox", *look(outside)))
                # By a link of the container's own, which no check of the text finds.
                engine.docker("exec", "box", "ln", "-sfn", folder, "/way")
                assert_inside(*attempt(engine, "exec", "-w", "/way", "box", *look(outside)))
    finally:
        engine.docker("rm", "-f", "box")


def test_t21_a_line_feed_in_home_or_user_makes_no_account(engine):
    """CVE-2022-4318: HOME was written to the container's passwd."""
    line = "/x\nevil::0:0::/:/bin/sh"
    show = ("busybox", "sh", "-c", "cat /etc/passwd /etc/group; echo; id -u")
    plain = engine.out("run", "--rm", "-u", "1000", *show)
    for options in (("-e", f"HOME={line}"), ("-e", f"USER={line}"), ("-w", f"/tmp/{line}")):
        assert engine.out("run", "--rm", "-u", "1000", *options, *show) == plain
    for user in ("root\n", "0\n", "\nroot", "1000\n0", "user\nroot:x:0"):
        code, text = attempt(engine, "run", "--rm", "-u", user, "busybox", "id", "-u")
        assert code == 125 and text.splitlines()[-1] != "0", (user, code, text)


def test_t22_a_link_that_a_copy_puts_at_dev_keeps_the_container_from_starting(engine, outside):
    """Also for the next gantryd, which has not seen the copy."""
    id = engine.out("create", "busybox", "true")
    engine.docker("run", "--rm", "busybox", "true")
    assert put(engine, id, "/", tar_of(("dev", "l", str(outside))))[0] == 200
    for restart in (False, True):
        if restart:
            engine.restart()
        code, text = attempt(engine, "start", id)
        assert code == 1 and "the container's /dev is a symbolic link" in text, text
        assert os.listdir(outside) == ["secret"]
    engine.docker("rm", id)


def test_accounts_that_a_copy_brings_are_that_containers_and_nobody_elses(fresh):
    """A created container's passwd is read where a copy has written, and never taken for the image's."""
    engine = fresh()
    account = tar_of(("etc/passwd", "f", b"root:x:0:0:root:/root:/bin/sh\nann:x:4321:4321::/:/bin/sh\nuser:x:0:0::/:/bin/sh\n"))
    for restart in (False, True):
        own = engine.out("create", "-u", "ann", "busybox", "id", "-u")
        assert put(engine, own, "/", account)[0] == 200
        if restart:
            engine.restart()
        assert engine.out("start", "-a", own) == "4321"
        assert engine.out("run", "--rm", "-u", "user", "busybox", "id", "-u") == "1000"
        assert engine.docker("run", "--rm", "-u", "ann", "busybox", "id", "-u", check=False).returncode != 0
        engine.docker("rm", own)


PLACES = ("dev", "proc", "sys", "etc/resolv.conf", "etc/hosts", "etc/hostname", "dev/shm", "etc")


@pytest.mark.parametrize("place", PLACES)
def test_t22_a_link_in_the_place_of_a_mount_leads_nowhere(engine, outside, place):
    """CVE-2026-41579: the runtime mounts at /dev and its like, and makes what is missing there: by the host's root."""
    for target in (str(outside), str(outside / "secret"), "/" + UP + str(outside), UP + str(outside).lstrip("/"), "/proc/1/root" + str(outside)):
        name = image(engine, (place, "l", target))
        id = engine.out("create", "-v", "/etc/made", name, "sh", "-c", f"cat /{place}/secret /{place} /etc/hosts; touch /{place}/x; sleep 600")
        code, text = attempt(engine, "start", id)
        assert mounted_at(outside) == []
        if code == 0:
            text = engine.docker("exec", id, "cat", f"/{place}", f"/{place}/secret", check=False).stdout
            assert "of the host" not in text + engine.docker("logs", id).stdout
        assert os.listdir(outside) == ["secret"]
        engine.docker("rm", "-fv", id)
        engine.docker("rmi", name)
    assert engine.out("run", "--rm", "busybox", "echo", "goes on") == "goes on"


@pytest.mark.parametrize("device", ["null", "console", "ptmx", "zero"])
def test_t26_a_device_that_the_image_has_as_a_link_is_a_device(engine, outside, device):
    """CVE-2025-31133, CVE-2025-52565: masked paths are covered by /dev/null, a terminal by /dev/console."""
    target = str(outside / "secret")
    name = image(engine, (f"dev/{device}", "l", target), (f"dev/pts/{device}", "l", target))
    script = "stat -c %F /dev/null /dev/zero; exec 2>/dev/null; cat /proc/kcore /proc/keys | wc -c; echo x > /proc/sysrq-trigger || echo kept"
    for options in ((), ("-t",), ("--privileged",)):
        asked = script if "--privileged" not in options else "stat -c %F /dev/null /dev/zero"
        text = engine.out("run", "--rm", *options, name, "sh", "-c", asked).replace("\r", "").splitlines()
        assert text[:2] == ["character special file"] * 2, text
        assert options == ("--privileged",) or (text[2] == "0" and text[-1] == "kept"), text
    engine.docker("rmi", name)


# A neighbour swaps the folder, below which another container has a mount, with a link that leads out.
SWAP = "mkdir -p /v/dir/x /v/aside; ln -sfn OUT /v/out; cd /v; touch ready; while :; do mv -T dir aside/d; mv -T out dir; mv -T dir out; mv -T aside/d dir; done"


@pytest.mark.parametrize("rounds", [15, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])], ids=["tenth", "full"])
def test_t26_a_neighbour_that_swaps_mount_points_gets_nothing_of_the_host(engine, tmp_path, rounds):
    """CVE-2021-30465, CVE-2024-45310. By the latter a runc before 1.1.14 may be brought to make the place of the mount, an
    empty folder, where the link leads; such a runc is named in the warnings."""
    host, given = tmp_path / "host", tmp_path / "given"
    for folder, name, text in ((host, "secret", "of the host"), (given, "mark", "given\n")):
        folder.mkdir()
        (folder / name).write_text(text)
    engine.docker("run", "-d", "--name", "swaps", "-v", "shared:/v", "busybox", "sh", "-c", SWAP.replace("OUT", str(host)))
    seen = set()
    try:
        wait_until(lambda: engine.docker("exec", "swaps", "test", "-e", "/v/ready", check=False).returncode == 0)
        for _ in range(rounds):
            code, text = attempt(
                engine, "run", "--rm", "-v", "shared:/v", "-v", f"{given}:/v/dir/x", "busybox",
                "sh", "-c", "cat /v/dir/secret /v/out/secret /v/dir/x/mark; sleep 0.05",
            )  # fmt: skip
            seen.add(code)
            assert "of the host" not in text, text
            assert mounted_at(host) == []
            if made := sorted(set(os.listdir(host)) - {"secret"}):
                assert made == ["x"] and runc_makes_places_anywhere(), made
                assert "runc" in engine.out("info", "-f", "{{.Warnings}}")
                (host / "x").rmdir()
    finally:
        engine.docker("rm", "-f", "swaps")
        engine.docker("volume", "rm", "shared")
    assert seen and (host / "secret").read_text() == "of the host"


def runc_makes_places_anywhere():
    version = run("runc", "--version").stdout.split()[2]
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < (1, 1, 14)


@pytest.mark.parametrize("place", ["/proc", "/proc/self", "/proc/sys/kernel", "/proc/1/attr"])
def test_t26_a_volume_over_proc_is_refused_and_leaves_nothing(engine, place):
    """CVE-2019-16884, CVE-2019-19921, CVE-2023-28642: what the runtime writes to /proc would go to the volume."""
    volumes = engine.out("volume", "ls", "-q")
    code, text = attempt(engine, "run", "--rm", "-v", f"over:{place}", "busybox", "true")
    assert code == 125 and "proc" in text, (code, text)
    engine.docker("volume", "rm", "over")
    # By a link of the image the same.
    name = image(engine, ("way", "l", place))
    code, text = attempt(engine, "run", "--rm", "-v", "over:/way", name, "sh", "-c", "stat -f -c %T /proc; cat /proc/self/attr/current >/dev/null 2>&1; ls /proc/1 | wc -l")
    assert code == 125 or (text.split()[0] == "proc" and int(text.split()[-1]) > 20), (code, text)
    engine.docker("volume", "rm", "over")
    engine.docker("rmi", name)
    assert engine.out("volume", "ls", "-q") == volumes


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


# Opens whatever program another process of the container runs, for writing, as often as it can.
GRAB = "touch /tmp/ready; while :; do for p in /proc/[0-9]*/exe; do (exec 9>>$p) 2>/dev/null && echo grabbed $(readlink $p); done; done"


def test_t26_no_program_of_the_host_is_written_from_a_container(engine):
    """CVE-2019-5736: runc's binary by /proc/<its process>/exe, and ours at /sbin/docker-init."""
    programs = [shutil.which("runc"), *BIN.glob("gantry-init"), *([shutil.which("tini")] if shutil.which("tini") else [])]
    before = {program: digest(program) for program in programs}
    trap = image(engine, ("trap", "f", b"#!/proc/self/exe\n"), ("bin/trap", "l", "/proc/self/exe"))
    engine.docker("run", "-d", "--init", "--name", "grabs", trap, "sh", "-c", GRAB)
    try:
        wait_until(lambda: engine.docker("exec", "grabs", "test", "-e", "/tmp/ready", check=False).returncode == 0)
        for argv in (["/trap"], ["/bin/trap"], ["true"], ["sh", "-c", "exec 9>>/proc/self/exe"]) * 3:
            engine.docker("exec", "grabs", "chmod", "755", "/trap", check=False)
            subprocess.run(engine.docker_argv("exec", "grabs", *argv), env=engine.docker_env(), capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        for script in ("echo x >> /sbin/docker-init", "rm /sbin/docker-init", "mv /sbin/docker-init /x", "umount /sbin/docker-init"):
            assert engine.docker("exec", "grabs", "sh", "-c", script, check=False).returncode != 0, script
        grabbed = [line for line in engine.docker("logs", "grabs").stdout.splitlines() if "busybox" not in line]
        assert grabbed == [], grabbed
    finally:
        engine.docker("rm", "-f", "grabs")
        engine.docker("rmi", trap)
    assert {program: digest(program) for program in programs} == before
