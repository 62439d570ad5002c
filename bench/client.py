"""A client of Docker's API on a unix socket: as small as can be, so that the engine is what is measured."""

import http.client
import json
import socket


class Client:
    """One engine under measure; keeps what the cases need between each other (a running container, a fleet, a log)."""

    def __init__(self, name, path, namespace=None):
        self.name, self.path, self.namespace = name, str(path), namespace
        # Purpose -> (address, process).
        self.registries = {}
        self.running = None
        self.fleet = []
        self.logged = []

    def connection(self, timeout=300):
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        connection.sock.connect(self.path)
        return connection

    def raw(self, method, path, body=None, over=None, auth=False):
        """The answer's bytes; anything but a 2xx or 304 is an error. `over` is a connection that is kept; `auth` sends the
        empty credentials that a push wants."""
        connection = over or self.connection()
        try:
            headers = {"X-Registry-Auth": "e30="} if auth else {}
            if body is not None:
                headers["Content-Type"] = "application/json"
                if not isinstance(body, bytes):
                    body = json.dumps(body).encode()
            connection.request(method, "/v1.44" + path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            if over is None:
                connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:200]!r}")
        return data

    def json(self, method, path, body=None):
        data = self.raw(method, path, body)
        return json.loads(data) if data.strip() else None

    def create(self, command, host_config=None, **config):
        body = {"Image": "busybox:latest", "Cmd": command, "HostConfig": host_config or {}, **config}
        return self.json("POST", "/containers/create", body)["Id"]

    def start(self, container):
        self.raw("POST", f"/containers/{container}/start")

    def wait(self, container):
        return self.json("POST", f"/containers/{container}/wait")["StatusCode"]

    def remove(self, container):
        self.raw("DELETE", f"/containers/{container}?force=1&v=1")

    # -- what all cases share --------------------------------------------------------------------------------------

    def settle_in(self, fleet):
        """A running container, and `fleet` created ones to list."""
        self.running = self.create(["sleep", "100000"], {"NetworkMode": "bridge"})
        self.start(self.running)
        for number in range(fleet):
            labels = {"bench": str(number)}
            self.fleet.append(self.create(["true"], {"NetworkMode": "none"}, Labels=labels))

    def move_out(self):
        for container in [self.running, *self.fleet, *self.logged]:
            try:
                if container:
                    self.remove(container)
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                print(f"    {self.name}: {container[:12]} is left: {error}")
        for _, process in self.registries.values():
            process.kill()
            process.wait()
