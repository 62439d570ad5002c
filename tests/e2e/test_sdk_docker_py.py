"""docker-py, unmodified, as a client that knows nothing of gantry: the flows of its own models."""

import io
import socket as sockets
import struct
import tarfile

import docker
import pytest
from harness import wait_until


@pytest.fixture(scope="module")
def client(engine):
    client = docker.DockerClient(base_url=engine.host, version="auto", timeout=60)
    yield client
    client.close()


@pytest.fixture
def sleeper(client):
    container = client.containers.run("busybox", "sleep 600", detach=True)
    yield container
    container.remove(force=True)


def test_the_version_is_negotiated_and_ping_is_true(client):
    assert client.ping() is True
    assert client.api.api_version == client.version()["ApiVersion"]
    assert client.info()["DockerRootDir"]


def test_run_returns_what_the_container_wrote_and_removes_it(client):
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"


def test_run_raises_the_exit_code_with_stderr(client):
    with pytest.raises(docker.errors.ContainerError) as failure:
        client.containers.run("busybox", ["sh", "-c", "echo oops >&2; exit 3"], remove=True)
    assert (failure.value.exit_status, failure.value.stderr) == (3, b"oops\n")


def test_an_image_that_is_not_there_is_image_not_found(client):
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("no-such-image")
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("no-such-container")


def test_a_name_that_is_taken_is_a_conflict(client):
    container = client.containers.create("busybox", "true", name="taken")
    try:
        with pytest.raises(docker.errors.APIError) as failure:
            client.containers.create("busybox", "true", name="taken")
        assert failure.value.status_code == 409
        assert 'The container name "/taken" is already in use' in failure.value.explanation
    finally:
        container.remove()


def test_list_filters_by_label_and_gives_whole_containers(client):
    container = client.containers.run("busybox", "sleep 600", detach=True, labels={"who": "me"})
    try:
        found = client.containers.list(filters={"label": "who=me"})
        assert [one.id for one in found] == [container.id]
        assert (found[0].status, found[0].labels, found[0].image.tags) == ("running", {"who": "me"}, ["busybox:latest"])
        container.kill()
        container.wait()
        assert client.containers.list(filters={"label": "who=me"}) == []
        assert len(client.containers.list(all=True, filters={"label": ["who=me"], "exited": 137})) == 1
    finally:
        container.remove(force=True)


def test_logs_come_whole_in_part_and_as_a_stream(client):
    container = client.containers.run("busybox", ["sh", "-c", "echo one; echo two >&2; echo three"], detach=True)
    try:
        assert container.wait() == {"StatusCode": 0}
        # Two pipes have no common order.
        assert sorted(container.logs().splitlines()) == [b"one", b"three", b"two"]
        assert container.logs(stderr=False) == b"one\nthree\n"
        assert len(container.logs(tail=1).splitlines()) == 1
        assert b"".join(container.logs(stream=True, follow=True, stderr=False)) == b"one\nthree\n"
        assert container.logs(timestamps=True, stdout=False).split(b" ", 1)[1] == b"two\n"
    finally:
        container.remove()


def test_exec_run_gives_code_and_output_also_apart(sleeper):
    assert sleeper.exec_run("echo hello") == (0, b"hello\n")
    code, (out, err) = sleeper.exec_run(["sh", "-c", "echo out; echo err >&2; exit 5"], demux=True)
    assert (code, out, err) == (5, b"out\n", b"err\n")
    assert b"".join(sleeper.exec_run("echo streamed", stream=True).output) == b"streamed\n"
    assert sleeper.exec_run(
        ["sh", "-c", "echo $WHO $(id -un) $(pwd)"], environment={"WHO": "me"}, user="user", workdir="/tmp"
    ).output == b"me user /tmp\n"
    assert sleeper.exec_run("no-such-program").exit_code == 127


def test_an_exec_socket_carries_input_and_framed_output(client, sleeper):
    exec_id = client.api.exec_create(sleeper.id, ["cat"], stdin=True)["Id"]
    raw = client.api.exec_start(exec_id, socket=True)._sock
    raw.sendall(b"round trip\n")
    raw.shutdown(sockets.SHUT_WR)
    assert frames(raw) == [(1, b"round trip\n")]
    assert client.api.exec_inspect(exec_id)["ExitCode"] == 0


def test_an_attach_socket_on_a_created_container_has_its_input_and_output(client):
    container = client.containers.create("busybox", ["sh", "-c", "read line; echo got $line"], stdin_open=True)
    try:
        raw = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})._sock
        container.start()
        raw.sendall(b"it\n")
        assert frames(raw) == [(1, b"got it\n")]
        assert container.wait()["StatusCode"] == 0
    finally:
        container.remove(force=True)


def frames(raw):
    """The frames of a multiplexed stream to its end, those of one stream in a row put together."""
    raw.settimeout(60)
    data = b""
    while chunk := raw.recv(65536):
        data += chunk
    found = []
    while data:
        stream, length = struct.unpack(">BxxxL", data[:8])
        body, data = data[8 : 8 + length], data[8 + length :]
        if found and found[-1][0] == stream:
            found[-1] = (stream, found[-1][1] + body)
        else:
            found.append((stream, body))
    return found


def test_attach_replays_logs(client):
    container = client.containers.run("busybox", "echo before", detach=True)
    try:
        container.wait()
        # docker-py drops what arrives in one read with the answer's head.
        wait_until(lambda: container.attach(logs=True, stream=False, stdout=True, stderr=True) == b"before\n", what="the log")
    finally:
        container.remove()


def test_wait_of_a_removed_container_and_of_the_next_exit(client):
    container = client.containers.run("busybox", ["sh", "-c", "sleep 1; exit 9"], detach=True, auto_remove=True)
    assert container.wait(condition="removed")["StatusCode"] == 9
    with pytest.raises(docker.errors.NotFound):
        container.reload()


def test_the_states_of_a_container(client):
    container = client.containers.create("busybox", "sleep 600", name="states")
    try:
        container.start()
        container.pause()
        container.reload()
        assert container.status == "paused"
        container.unpause()
        container.rename("renamed")
        container.restart(timeout=1)
        container.reload()
        assert (container.name, container.status) == ("renamed", "running")
        # runc answers a start a moment before its init has become the program.
        wait_until(lambda: "sleep 600" in str(container.top()["Processes"]))
        container.stop(timeout=1)
        container.reload()
        assert container.status == "exited"
    finally:
        container.remove(force=True)


def test_what_is_inspected_is_what_was_asked(client):
    container = client.containers.create(
        "busybox", "true", environment=["A=1"], labels={"l": "v"}, mem_limit="64m", ports={"80/tcp": ("127.0.0.1", None)},
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 3}, hostname="inside", working_dir="/tmp",
    )  # fmt: skip
    try:
        attrs = client.containers.get(container.id).attrs
        assert attrs["HostConfig"]["Memory"] == 64 << 20
        assert attrs["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
        assert attrs["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
        config = attrs["Config"]
        assert (config["Hostname"], config["WorkingDir"], config["Labels"]) == ("inside", "/tmp", {"l": "v"})
        assert "A=1" in config["Env"]
    finally:
        container.remove()


def test_events_are_decoded_as_they_come(client):
    events = client.events(decode=True, filters={"type": "container", "label": "watched"})
    container = client.containers.run("busybox", "true", detach=True, labels=["watched"])
    container.wait()
    container.remove()
    seen = []
    for event in events:
        seen.append(event["Action"])
        if event["Action"] == "destroy":
            break
    events.close()
    assert seen == ["create", "start", "die", "destroy"]


def test_an_image_is_tagged_saved_removed_and_loaded(client):
    image = client.images.get("busybox")
    assert image.id.startswith("sha256:")
    assert image.tag("copy", tag="one")
    archive = b"".join(client.images.get("copy:one").save(named="copy:one"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert {"manifest.json", "index.json", "oci-layout"} <= set(tar.getnames())
    client.images.remove("copy:one")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("copy:one")
    assert client.images.load(archive)[0].tags == ["busybox:latest", "copy:one"]
    assert [one.id for one in client.images.list(name="copy")] == [image.id]
    assert image.history()
    client.images.remove("copy:one")


def test_volumes_keep_what_is_written(client):
    volume = client.volumes.create("kept", labels={"a": "b"})
    try:
        write = ["sh", "-c", "echo kept > /data/file"]
        client.containers.run("busybox", write, volumes={"kept": {"bind": "/data", "mode": "rw"}}, remove=True)
        read = client.containers.run("busybox", "cat /v/file", volumes=["kept:/v:ro"], remove=True)
        assert read == b"kept\n"
        assert [one.name for one in client.volumes.list(filters={"label": "a=b"})] == ["kept"]
        assert client.volumes.get("kept").attrs["Labels"] == {"a": "b"}
    finally:
        volume.remove()
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get("kept")


def test_the_networks_are_listed_with_their_containers(client, sleeper):
    networks = {network.name: network for network in client.networks.list(greedy=True)}
    assert {"bridge", "host", "none"} <= set(networks)
    assert sleeper.id in networks["bridge"].attrs["Containers"]


def test_a_published_port_is_shown(client):
    container = client.containers.run("busybox", "sleep 600", detach=True, ports={"80/tcp": None})
    try:
        container.reload()
        assert int(container.ports["80/tcp"][0]["HostPort"]) > 0
    finally:
        container.remove(force=True)


def test_disk_usage_and_prunes_have_their_keys(client):
    client.containers.create("busybox", "true", labels={"to": "prune"})
    assert {"LayersSize", "Images", "Containers", "Volumes"} <= set(client.df())
    pruned = client.containers.prune(filters={"label": "to=prune"})
    assert len(pruned["ContainersDeleted"]) == 1
    assert "SpaceReclaimed" in client.volumes.prune()


def test_what_is_not_built_says_501(client):
    with pytest.raises(docker.errors.APIError) as failure:
        client.images.build(fileobj=io.BytesIO(b"FROM busybox"))
    assert failure.value.status_code == 501


def test_a_container_without_network_has_a_loopback_alone(client):
    output = client.containers.run("busybox", ["ls", "/sys/class/net"], network_disabled=True, remove=True)
    assert output.decode().split() == ["lo"]
