"""A plugin of networks and addresses in a process of its own: `python network_plugin.py SOCKET FOLDER [KIND ...]`.

Its networks are bridges, its endpoints veth pairs at them, in the network namespace that it is started in. FOLDER/ledger
is what it has given and not got back, FOLDER/calls has a line of JSON for each call. FOLDER/faults, JSON of a method's
name and `die`, `die after`, `hang`, `refuse: TEXT` (with status 200) or a text (with status 500), makes that call so.
FOLDER/traits is JSON that is added to the answers of GetCapabilities.
"""

import http.server
import ipaddress
import json
import os
import pathlib
import signal
import socketserver
import subprocess
import sys
import threading
import time

lock = threading.RLock()


def ip(*argv):
    subprocess.run(["ip", *argv], check=True, capture_output=True, text=True)


class Refused(Exception):
    pass


class Ledger(dict):
    """networks, endpoints, joined, published, pools, addresses: of each what is given."""

    def __init__(self):
        super().__init__(networks={}, endpoints={}, joined={}, published={}, pools={}, addresses={})
        if (folder / "ledger").exists():
            self.update(json.loads((folder / "ledger").read_text()))

    def write(self):
        part = folder / "ledger.part"
        part.write_text(json.dumps(self))
        part.rename(folder / "ledger")

    def give(self, kind, key, value):
        self[kind][key] = value
        self.write()

    def take(self, kind, key):
        if key not in self[kind]:
            raise Refused(f"nothing of {kind} is called {key}")
        value = self[kind].pop(key)
        self.write()
        return value


class NetworkDriver:
    def capabilities(self, _):
        return {"Scope": "local", "ConnectivityScope": "local"}

    def createnetwork(self, asked):
        bridge = "np" + asked["NetworkID"][:10]
        ip("link", "add", bridge, "type", "bridge")
        for pool in asked["IPv4Data"] + asked["IPv6Data"]:
            if "Gateway" in pool:
                ip("addr", "add", pool["Gateway"], "dev", bridge)
        ip("link", "set", bridge, "up")
        ledger.give("networks", asked["NetworkID"], asked)

    def deletenetwork(self, asked):
        ledger.take("networks", asked["NetworkID"])
        ip("link", "del", "np" + asked["NetworkID"][:10])

    def ends(self, endpoint):
        return "nh" + endpoint[:10], "ng" + endpoint[:10]

    def createendpoint(self, asked):
        near, far = self.ends(asked["EndpointID"])
        ip("link", "add", near, "type", "veth", "peer", "name", far)
        ip("link", "set", near, "master", "np" + asked["NetworkID"][:10], "up")
        ledger.give("endpoints", asked["EndpointID"], asked)
        chosen = {}
        if not asked["Interface"]["MacAddress"]:
            chosen["MacAddress"] = "02:ee:" + ":".join(asked["EndpointID"][at : at + 2] for at in range(0, 8, 2))
        if not asked["Interface"]["Address"]:
            chosen["Address"] = f"10.250.0.{10 + len(ledger['endpoints'])}/24"
        return {"Interface": chosen}

    def deleteendpoint(self, asked):
        ledger.take("endpoints", asked["EndpointID"])
        subprocess.run(["ip", "link", "del", self.ends(asked["EndpointID"])[0]], capture_output=True)

    def endpointoperinfo(self, _):
        return {"Value": {}}

    def join(self, asked):
        if not os.path.exists(asked["SandboxKey"]):
            raise Refused(f"no sandbox {asked['SandboxKey']}")
        ledger.give("joined", asked["EndpointID"], asked)
        answer = {
            "InterfaceName": {"SrcName": self.ends(asked["EndpointID"])[1], "DstPrefix": "eth"},
            "StaticRoutes": [{"Destination": "198.51.100.0/24", "RouteType": 1, "NextHop": ""}],
        }
        pools = ledger["networks"][asked["NetworkID"]]["IPv4Data"]
        if pools and "Gateway" in pools[0]:
            answer["Gateway"] = pools[0]["Gateway"].split("/")[0]
        return answer

    def leave(self, asked):
        ledger.take("joined", asked["EndpointID"])
        # It is where it was put.
        far = self.ends(asked["EndpointID"])[1]
        here = subprocess.run(["ip", "link", "show", far], capture_output=True).returncode == 0
        with open(folder / "left", "a") as left:
            left.write(json.dumps([far, here]) + "\n")

    def programexternalconnectivity(self, asked):
        ledger.give("published", asked["EndpointID"], asked)

    def revokeexternalconnectivity(self, asked):
        ledger.take("published", asked["EndpointID"])


class IpamDriver:
    def capabilities(self, _):
        return {"RequiresMACAddress": False}

    def getdefaultaddressspaces(self, _):
        return {"LocalDefaultAddressSpace": "near", "GlobalDefaultAddressSpace": "everywhere"}

    def requestpool(self, asked):
        taken = {pool["Pool"] for pool in ledger["pools"].values()}
        choice = "fd77:{}::/64" if asked["V6"] else "10.77.{}.0/24"
        net = asked["Pool"] or next(choice.format(n) for n in range(1, 250) if choice.format(n) not in taken)
        # The same pool has the same name, and is given as often as it was asked for.
        ledger.give("pools", f"pool-{net}", {**asked, "Pool": net, "times": ledger["pools"].get(f"pool-{net}", {}).get("times", 0) + 1})
        return {"PoolID": f"pool-{net}", "Pool": net, "Data": {}}

    def releasepool(self, asked):
        pool = ledger.take("pools", asked["PoolID"])
        if pool["times"] > 1:
            ledger.give("pools", asked["PoolID"], {**pool, "times": pool["times"] - 1})

    def requestaddress(self, asked):
        if asked["PoolID"] not in ledger["pools"]:
            raise Refused(f"no pool {asked['PoolID']}")
        net = ipaddress.ip_network(ledger["pools"][asked["PoolID"]]["Pool"])
        key = lambda address: f"{asked['PoolID']} {address}"  # noqa: E731
        address = asked["Address"]
        if not address:
            address = next(str(host) for host in net.hosts() if key(host) not in ledger["addresses"])
        elif key(address) in ledger["addresses"]:
            raise Refused("Address already in use")
        ledger.give("addresses", key(address), asked)
        return {"Address": f"{address}/{net.prefixlen}", "Data": {}}

    def releaseaddress(self, asked):
        ledger.take("addresses", f"{asked['PoolID']} {asked['Address']}")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "local"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = json.loads(body) if body else {}
        kind, method = self.path.strip("/").split(".")
        with open(folder / "calls", "a") as calls:
            calls.write(json.dumps([method, asked]) + "\n")
        try:
            fault = json.loads((folder / "faults").read_text()).get(method, "")
        except FileNotFoundError:
            fault = ""
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            time.sleep(1000)
        status, answer = self.answer(kind, method, asked, fault)
        if fault == "die after":
            os.kill(os.getpid(), signal.SIGKILL)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.docker.plugins.v1.2+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, kind, method, asked, fault):
        error = "Error" if kind == "IpamDriver" else "Err"
        if fault.startswith("refuse: "):
            return 200, {error: fault.removeprefix("refuse: ")}
        if fault and fault != "die after":
            return 500, {"Err": fault}
        if method == "Activate":
            return 200, {"Implements": kinds}
        driver = {"NetworkDriver": NetworkDriver, "IpamDriver": IpamDriver}.get(kind)
        call = getattr(driver(), method.lower().removeprefix("get" if method == "GetCapabilities" else ""), None) if driver else None
        if call is None:
            return 404, {"Err": f"no such method {method}"}
        with lock:
            try:
                answer = call(asked) or {}
            except Refused as refused:
                return 200, {error: str(refused)}
            except subprocess.CalledProcessError as failed:
                return 500, {"Err": failed.stderr.strip()}
        if method == "GetCapabilities" and (folder / "traits").exists():
            answer.update(json.loads((folder / "traits").read_text()))
        return 200, answer


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if __name__ == "__main__":
    path, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    kinds = sys.argv[3:] or ["NetworkDriver", "IpamDriver"]
    ledger = Ledger()
    if os.path.exists(path):
        os.unlink(path)
    server = Server(path, Handler)
    print("ready", flush=True)
    server.serve_forever()
