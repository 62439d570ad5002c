"""A volume plugin in a process of its own: `python volume_plugin.py SOCKET FOLDER`.

Its volumes are folders below FOLDER, and so they may be made without Docker. FOLDER/scope is its scope; where there is
FOLDER/shy, the place of a volume is told by `Path` alone. An address of digits is a port on loopback. FOLDER/calls has a line of JSON for each call. FOLDER/faults, JSON of a method's name
and `die`, `hang` or a text, makes that call kill the plugin, never end, or fail with the text.
"""

import http.server
import json
import os
import pathlib
import shutil
import signal
import socketserver
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "local"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = json.loads(body) if body else {}
        method = self.path.rsplit(".", 1)[-1]
        with open(folder / "calls", "a") as calls:
            calls.write(json.dumps([method, asked]) + "\n")
        try:
            fault = json.loads((folder / "faults").read_text()).get(method)
        except FileNotFoundError:
            fault = None
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            time.sleep(1000)
        answer = {"Err": fault} if fault else getattr(self, f"on_{method.lower()}")(asked)
        data = json.dumps(answer).encode()
        self.send_response(500 if fault else 200)
        self.send_header("Content-Type", "application/vnd.docker.plugins.v1.2+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def place(self, asked):
        return folder / "volumes" / asked["Name"]

    def on_activate(self, _):
        return {"Implements": ["VolumeDriver"]}

    def on_capabilities(self, _):
        scope = folder / "scope"
        return {"Capabilities": {"Scope": scope.read_text() if scope.exists() else "local"}}

    def on_create(self, asked):
        self.place(asked).mkdir(parents=True)
        (self.place(asked) / "options").write_text(json.dumps(asked.get("Opts")))
        return {"Err": ""}

    def on_get(self, asked):
        if not self.place(asked).exists():
            return {"Err": "no such volume here"}
        return {"Volume": self.told(self.place(asked)), "Err": ""}

    def told(self, place):
        shy = (folder / "shy").exists()
        return {"Name": place.name, "Mountpoint": "" if shy else str(place), "CreatedAt": "2020-02-03T04:05:06Z", "Status": {"kept": ["here"]}}

    def on_path(self, asked):
        return {"Mountpoint": str(self.place(asked)), "Err": ""}

    def on_list(self, _):
        (folder / "volumes").mkdir(exist_ok=True)
        return {"Volumes": [self.told(place) for place in sorted((folder / "volumes").iterdir())], "Err": ""}

    def on_mount(self, asked):
        return {"Mountpoint": str(self.place(asked)), "Err": ""}

    def on_unmount(self, _):
        return {"Err": ""}

    def on_remove(self, asked):
        if not self.place(asked).exists():
            return {"Err": "no such volume here"}
        shutil.rmtree(self.place(asked))
        return {"Err": ""}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if __name__ == "__main__":
    path, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    if path.isdigit():
        server = http.server.ThreadingHTTPServer(("127.0.0.1", int(path)), Handler)
    else:
        if os.path.exists(path):
            os.unlink(path)
        server = Server(path, Handler)
    print("ready", flush=True)
    server.serve_forever()
