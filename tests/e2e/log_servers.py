"""A server that logs are sent to, for a process of its own in an engine's network namespace.

`python log_servers.py KIND WHERE FILE [CERTIFICATE KEY]` writes each message it gets as a line of JSON to FILE.
KIND: udp, tcp (lines), gelf-tcp (zeros), tls (RFC 5425), unixgram, fluentd, fluentd-ack.
"""

import json
import os
import socket
import ssl
import sys


def put(message):
    text = message.decode("latin-1") if isinstance(message, bytes) else message
    out.write(json.dumps(text) + "\n")
    out.flush()


def datagrams(sock):
    while True:
        put(sock.recv(1 << 17))


def listening():
    sock = socket.create_server(("127.0.0.1", int(where)))
    print("ready", flush=True)
    return sock


def chunks(connection):
    while data := connection.recv(1 << 16):
        yield data


def ended_by(end, connection):
    rest = b""
    for data in chunks(connection):
        *whole, rest = (rest + data).split(end)
        for message in whole:
            put(message)


def counted(connection):
    """RFC 5425: the length in front of each message."""
    rest = b""
    for data in chunks(connection):
        rest += data
        while b" " in rest:
            length, after = rest.split(b" ", 1)
            if len(after) < int(length):
                break
            put(after[: int(length)])
            rest = after[int(length) :]


def forward(connection, ack):
    import msgpack

    unpacker = msgpack.Unpacker(raw=False, timestamp=0, strict_map_key=False)
    for data in chunks(connection):
        unpacker.feed(data)
        for message in unpacker:
            if isinstance(message[1], list):
                for time, record in message[1]:
                    put([message[0], plain(time), record])
                if ack:
                    connection.sendall(msgpack.packb({"ack": message[2]["chunk"]}))
            else:
                put([message[0], plain(message[1]), message[2]])


def plain(time):
    return time if isinstance(time, int) else int.from_bytes(time.data[:4], "big")


def main():
    if kind == "udp":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", int(where)))
        print("ready", flush=True)
        datagrams(sock)
    if kind == "unixgram":
        if os.path.exists(where):
            os.unlink(where)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(where)
        print("ready", flush=True)
        datagrams(sock)
    server = listening()
    if kind == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[4:6])
        server = context.wrap_socket(server, server_side=True)
    serve = {
        "tcp": lambda connection: ended_by(b"\n", connection),
        "gelf-tcp": lambda connection: ended_by(b"\0", connection),
        "tls": counted,
        "fluentd": lambda connection: forward(connection, False),
        "fluentd-ack": lambda connection: forward(connection, True),
    }[kind]
    while True:
        try:
            connection, _ = server.accept()
            serve(connection)
        except (OSError, ssl.SSLError):
            pass


if __name__ == "__main__":
    kind, where = sys.argv[1:3]
    with open(sys.argv[3], "a") as out:
        main()
