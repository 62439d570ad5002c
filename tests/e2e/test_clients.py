"""The calls of programs that drive an engine: each test is one program's whole sequence, in its order."""

import json
import os
import shutil
import socket
import struct
import subprocess
import time

from harness import run, wait_until


def test_docker_over_ssh(engine, tmp_path):
    """DOCKER_HOST=ssh://… runs `ssh HOST docker system dial-stdio` there; the ssh of this test runs it here."""
    ssh = tmp_path / "ssh"
    docker = shutil.which("docker")
    # docker -H with the far side's own socket, whatever the words before `docker` are.
    ssh.write_text(
        f'#!/bin/sh\nwhile [ "$1" != -- ] && [ "$1" != docker ]; do shift; [ $# -gt 0 ] || exit 9; done\n'
        f'[ "$1" = -- ] && shift 2\n[ "$1" = docker ] && shift\n'
        f'exec {docker} -H {engine.host} system dial-stdio\n'
    )
    ssh.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "DOCKER_HOST": "ssh://someone@far.example"}

    def far(*argv, **more):
        return run("docker", *argv, env=env, **more)

    assert far("version", "--format", "{{.Server.Os}}").stdout == "linux\n"
    assert far("run", "--rm", "-i", "busybox", "cat", input="through\n").stdout == "through\n"
    assert far("run", "--rm", "busybox", "sh", "-c", "seq 20000", timeout=30).stdout.count("\n") == 20000
    far("run", "-d", "--name", "far", "busybox", "sleep", "1000")
    assert far("exec", "far", "sh", "-c", "exit 7", check=False).returncode == 7
    (tmp_path / "file").write_text("copied")
    far("cp", str(tmp_path / "file"), "far:/tmp/file")
    assert far("exec", "far", "cat", "/tmp/file").stdout == "copied"
    far("rm", "-f", "far")


def test_dial_stdio_passes_bytes_both_ways_and_ends(engine):
    dial = engine.docker_popen("system", "dial-stdio", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    dial.stdin.write(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
    dial.stdin.flush()
    assert dial.stdout.readline() == b"HTTP/1.1 200 OK\r\n"
    dial.stdin.write(b"GET /v1.44/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    dial.stdin.close()
    assert b'"ApiVersion"' in dial.stdout.read()
    assert dial.wait(10) == 0


def test_a_github_actions_job_container(engine, tmp_path):
    """What the runner of GitHub Actions does for `container:` and `services:`."""
    docker = engine.docker
    label, network = "b8e5fd", "github_network_5ad1"
    assert float(docker("version", "--format", "{{.Server.APIVersion}}").stdout) >= 1.35
    assert float(docker("version", "--format", "{{.Client.APIVersion}}").stdout) >= 1.35
    assert docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={label}").stdout == ""
    docker("network", "prune", "--force", "--filter", f"label={label}")
    docker("network", "create", "--label", label, network)
    work, temp = tmp_path / "work", tmp_path / "temp"
    (work / "repo").mkdir(parents=True)
    temp.mkdir()
    service = docker("create", "--name", "redis_1", "--label", label, "--network", network, "--network-alias", "redis",
                     "--health-cmd", "test -f /ready", "--health-interval", "1s", "-e", "GITHUB_ACTIONS=true", "-e", "CI=true",
                     "busybox", "sh", "-c", "touch /ready; nc -ll -p 6379 -e echo PONG").stdout.strip()  # fmt: skip
    docker("start", service)
    job = docker("create", "--name", "job_1", "--label", label, "--workdir", "/__w/repo/repo", "--network", network,
                 "-e", "HOME=/github/home", "-e", "GITHUB_ACTIONS=true", "-e", "CI=true",
                 "-v", f"{engine.socket}:/var/run/docker.sock", "-v", f"{work}:/__w", "-v", f"{temp}:/__w/_temp",
                 "-v", f"{tmp_path}:/__e:ro", "--entrypoint", "tail", "busybox", "-f", "/dev/null").stdout.strip()  # fmt: skip
    docker("start", job)
    done = docker("ps", "--all", "--filter", f"id={job}", "--filter", "status=running", "--no-trunc",
                  "--format", "{{.ID}} {{.Status}}")  # fmt: skip
    assert done.stdout.startswith(f"{job} Up ")
    done = docker("inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", job)
    assert "CI=true\n" in done.stdout and "PATH=" in done.stdout
    docker("inspect", "--format={{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}}", service)
    wait_until(
        lambda: docker("inspect", "--format={{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}}", service).stdout
        == "healthy\n",
        what="a healthy service",
    )
    assert docker("port", service).stdout == ""
    (temp / "step.sh").write_text('set -e\npwd\nnc redis 6379 </dev/null\nprintf "%s" "$STEP" > /__w/out\nexit 3\n')
    docker("exec", job, "sh", "-c", "cat /etc/*release || true")
    step = run(
        *engine.docker_argv("exec", "-i", "--workdir", "/__w/repo/repo", "-e", "STEP", job, "sh", "-e", "/__w/_temp/step.sh"),
        check=False, env={**engine.docker_env(), "STEP": "one"},
    )  # fmt: skip
    assert (step.returncode, step.stdout) == (3, "/__w/repo/repo\nPONG\n"), step.stderr
    assert (work / "out").read_text() == "one"
    docker("rm", "--force", job)
    assert "PONG" not in docker("logs", "--details", service).stdout
    docker("rm", "--force", service)
    docker("network", "rm", network)
    assert docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={label}").stdout == ""


class Hijacked:
    """An attach over an upgraded connection, as the Go client makes it."""

    def __init__(self, engine, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(engine.socket))
        self.socket.sendall(
            f"POST /v1.44{path} HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            "Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n".encode()
        )
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            self.rest += self.socket.recv(4096)
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101 "), head

    def read_all(self):
        while data := self.socket.recv(1 << 16):
            self.rest += data
        found = {1: b"", 2: b""}
        while self.rest:
            stream, size = struct.unpack(">BxxxI", self.rest[:8])
            found[stream] += self.rest[8 : 8 + size]
            self.rest = self.rest[8 + size :]
        return found[1].decode(), found[2].decode()


def test_a_gitlab_runner(engine):
    """GitLab's docker executor: a volume for the build, and for each stage a container whose shell reads its script."""
    call = engine.api
    assert call("GET", "/v1.44/info")[1]["OSType"] == "linux"
    assert call("GET", "/v1.44/images/busybox/json")[0] == 200
    name = "runner-abc-project-1-concurrent-0"
    volume = {"Name": f"{name}-cache-1", "Labels": {"com.gitlab.gitlab-runner.type": "cache"}}
    assert call("POST", "/v1.44/volumes/create", volume)[0] == 201

    def container(stage, script, **more):
        body = {
            "Image": "busybox", "Hostname": "runner", "Cmd": ["sh", "-c", "if [ -x /bin/bash ]; then exec /bin/bash; fi; exec /bin/sh"],
            "Labels": {"com.gitlab.gitlab-runner.job.id": "9"}, "Tty": False, "AttachStdin": True, "AttachStdout": True,
            "AttachStderr": True, "OpenStdin": True, "StdinOnce": True, "Entrypoint": None,
            "Env": ["CI_JOB_ID=9"], "HostConfig": {
                "Binds": [f"{name}-cache-1:/builds"], "NetworkMode": "default", "RestartPolicy": {"Name": "no"},
                "LogConfig": {"Type": "json-file"}, "Privileged": False, **more,
            },
        }  # fmt: skip
        # What a run that was cut off left under the name.
        call("DELETE", f"/v1.44/containers/{name}-{stage}?force=1&v=1")
        status, made = call("POST", f"/v1.44/containers/create?name={name}-{stage}", body)
        assert status == 201, made
        assert call("GET", f"/v1.44/containers/{made['Id']}/json")[1]["State"]["Status"] == "created"
        attached = Hijacked(engine, f"/containers/{made['Id']}/attach?stderr=1&stdin=1&stdout=1&stream=1")
        assert call("POST", f"/v1.44/containers/{made['Id']}/start")[0] == 204
        attached.socket.sendall(script.encode())
        attached.socket.shutdown(socket.SHUT_WR)
        status, ended = call("POST", f"/v1.44/containers/{made['Id']}/wait?condition=not-running")
        assert status == 200
        return made["Id"], ended["StatusCode"], attached.read_all()

    clone, code, (out, err) = container("predefined", "mkdir -p /builds/p && echo sources > /builds/p/file && echo cloned\n")
    assert (code, out, err) == (0, "cloned\n", "")
    build, code, (out, err) = container("build", "set -eo pipefail\ncat /builds/p/file\necho $CI_JOB_ID\necho bad >&2\nexit 5\n")
    assert (code, out, err) == (5, "sources\n9\n", "bad\n")
    for container_id in (clone, build):
        assert call("POST", f"/v1.44/containers/{container_id}/kill?signal=KILL")[0] == 409
        assert call("POST", "/v1.44/networks/bridge/disconnect", {"Container": container_id, "Force": True})[0] == 200
        assert call("DELETE", f"/v1.44/containers/{container_id}?force=1&v=1")[0] == 204
    assert call("DELETE", f"/v1.44/volumes/{name}-cache-1?force=1")[0] == 204


def test_a_dev_container_is_attached_to(engine, tmp_path):
    """The calls of the Dev Containers extension: find or run by label, a shell as a server, files through tar."""
    docker = engine.docker
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "main.txt").write_text("source")
    mine = f"label=devcontainer.local_folder={folder}"
    json.loads(docker("version", "--format", "{{json .}}").stdout)
    assert docker("ps", "-q", "-a", "--filter", mine).stdout == ""
    image = json.loads(docker("inspect", "--type", "image", "busybox").stdout)[0]
    assert image["Config"]["Cmd"]
    events = engine.docker_popen("events", "--format", "{{json .}}", "--filter", "event=start", stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)
    attached = engine.docker_popen(
        "run", "--sig-proxy=false", "-a", "STDOUT", "-a", "STDERR", "--mount",
        f"type=bind,source={folder},target=/workspaces/project", "-l", f"devcontainer.local_folder={folder}",
        "-l", 'devcontainer.metadata=[{"remoteUser":"root"}]', "--entrypoint", "/bin/sh", "busybox", "-c",
        'echo Container started\ntrap "exit 0" 15\n\nexec "$@"\nwhile sleep 1 & wait $!; do :; done', "-",
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert attached.stdout.readline() == "Container started\n"
    started = json.loads(events.stdout.readline())
    events.kill()
    events.wait()
    assert started["status"] == "start" and started["Actor"]["Attributes"]["devcontainer.local_folder"] == str(folder)
    container = docker("ps", "-q", "-a", "--filter", mine).stdout.strip()
    about = json.loads(docker("inspect", "--type", "container", container).stdout)[0]
    assert started["id"] == about["Id"] and about["Mounts"][0]["Destination"] == "/workspaces/project"
    assert about["State"]["Status"] == "running" and about["Created"] < about["State"]["StartedAt"]
    # The shell server: commands go in, a mark behind each answer comes out.
    shell = engine.docker_popen(
        "exec", "-i", "-u", "root", container, "/bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for command, answer in [("id -u", "0"), ("cat /workspaces/project/main.txt; echo", "source"), ("exit_code() { return 4; }; exit_code; echo $?", "4")]:
        shell.stdin.write(f"{command}; echo __mark__\n")
        shell.stdin.flush()
        lines = []
        while (line := shell.stdout.readline()) != "__mark__\n":
            assert line, (command, lines)
            lines.append(line)
        assert "".join(lines) == f"{answer}\n"
    shell.stdin.close()
    assert shell.wait(10) == 0
    # Its server is brought in as an archive through the input of an exec.
    archive = run("tar", "-C", folder, "-cf", "-", ".", text=False).stdout
    run(*engine.docker_argv("exec", "-i", container, "tar", "-xf", "-", "-C", "/tmp"), input=archive, text=False, env=engine.docker_env())
    assert docker("exec", container, "cat", "/tmp/main.txt").stdout == "source"
    done = docker("exec", "-i", "-e", "A=b", "-w", "/workspaces/project", container, "sh", "-c", "echo $A; pwd")
    assert done.stdout == "b\n/workspaces/project\n"
    # The window closes: the container is stopped, the run that watched it ends; the next window starts it again.
    docker("stop", container)
    assert attached.wait(10) == 0
    docker("start", container)
    assert docker("exec", container, "cat", "/workspaces/project/main.txt").stdout == "source"
    docker("rm", "-f", container)
