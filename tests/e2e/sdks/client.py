# The PyPI package `websockets`: python3 client.py '{"address": ADDRESS, "offers": BOOL}'; the last line is what it saw.

import base64
import json
import sys

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

arguments = json.loads(sys.argv[1])
address, compression = arguments["address"], "deflate" if arguments["offers"] else None
WAIT = 15


def open(path, **options):
    return connect(f"ws://{address}{path}", compression=compression, max_size=1 << 21, proxy=None, **options)


def noise(length):
    state, out = 1, bytearray()
    for _ in range(length):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        out.append(state >> 24)
    return bytes(out)


def ticks(length):
    return ('{"symbol":"ABC","price":12.5},' * (length // 30 + 1))[:length]


def echoes():
    letters = "\U0001f600" * 4000
    messages = {
        "no text": "",
        "text of 20 B": "twenty bytes of text",
        "text of 4 KiB": ticks(4096),
        "text of 1 MiB": ticks(1 << 20),
        "astral text": "\U0001f600\U0010ffff\u0800\u00e9 " * 500,
        "no bytes": b"",
        "bytes of 20 B": noise(20),
        "bytes of 4 KiB": ticks(4096).encode(),
        "bytes of 64 KiB": noise(64 << 10),
        "bytes of 1 MiB": noise(1 << 20),
    }
    with open("/echo") as socket:
        seen = {
            "extensions": socket.response.headers.get("Sec-WebSocket-Extensions", ""),
            "known": [extension.name for extension in socket.protocol.extensions],
            "lost": [],
        }
        for name, message in messages.items():
            socket.send(message)
            if socket.recv(WAIT) != message:
                seen["lost"].append(name)
        for message in messages.values():
            socket.send(message)
        for name, message in messages.items():
            if socket.recv(WAIT) != message:
                seen["lost"].append(f"{name} among others")
        socket.send(["in ", "three ", "fragments"])
        seen["fragments"] = socket.recv(WAIT)
        # Cut inside a character.
        parts = letters.encode()
        socket.send((parts[at : at + 1001] for at in range(0, len(parts), 1001)), text=True)
        seen["long_fragments"] = socket.recv(WAIT) == letters
        seen["ponged"] = [socket.ping(payload).wait(WAIT) for payload in (b"", b"ping", b"p" * 125)]
        socket.close(4001, "enough \U0001f600")
        seen["closed"] = f"{socket.close_code} {socket.close_reason}"
    return seen


def broken_text():
    with open("/echo") as socket:
        socket.send(b"a\xff", text=True)
        try:
            socket.recv(WAIT)
        except ConnectionClosed as closed:
            return {"code": closed.rcvd.code, "says": len(closed.rcvd.reason) > 0}


def channel():
    with (
        open("/ws/sdk-websockets-json", subprotocols=["other", "headwater.json"]) as reader,
        open("/ws/sdk-websockets-json") as writer,
    ):
        seen = {"protocol": reader.subprotocol, "read": []}
        for sender, message in (
            (writer, "plain words"),
            (reader, f"[{ticks(136 * 30)}1]"),
            (writer, noise(300)),
        ):
            sender.send(message)
            publication = json.loads(reader.recv(WAIT))
            del publication["id"]
            ((name, value),) = publication.items()
            restored = {
                "text": lambda: value,
                "data": lambda: json.dumps(value, separators=(",", ":")),
                "base64": lambda: base64.b64decode(value),
            }[name]()
            seen["read"].append(f"{name} {writer.recv(WAIT) == message == restored}")
    return seen


def refused(path, **options):
    try:
        with open(path, **options):
            return "opened"
    except InvalidStatus as refusal:
        return refusal.response.status_code


with open("/ws/sdk-websockets") as joined:
    print("JOINED", flush=True)
    seen = {"from_test": joined.recv(WAIT)}
    joined.send("from websockets")
    seen["own"] = joined.recv(WAIT)
    seen |= echoes()
    seen["broken_text"] = broken_text()
    seen["channel"] = channel()
    seen["refused"] = [
        refused("/ws/a", origin="http://elsewhere.example"),
        refused("/nothing"),
        refused("/ws/a", additional_headers={"Sec-WebSocket-Version": "8"}),
    ]
    print("WAITING", flush=True)
    try:
        joined.recv(WAIT)
    except ConnectionClosed as closed:
        seen["drained"] = closed.rcvd.code
print("RESULT", json.dumps(seen), flush=True)
