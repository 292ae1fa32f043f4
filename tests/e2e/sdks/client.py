# The PyPI package `websockets`: joins, takes a message from elsewhere, publishes, takes its own message back.

import sys

from websockets.sync.client import connect

with connect(f"ws://{sys.argv[1]}/ws/sdk-websockets") as socket:
    print("joined", flush=True)
    print("received", socket.recv(timeout=15), flush=True)
    socket.send("from websockets")
    print("received", socket.recv(timeout=15), flush=True)
    socket.send(["in ", "three ", "fragments"])
    print("received", socket.recv(timeout=15), flush=True)
    socket.ping().wait(15)
    print("ponged", flush=True)
print("closed", socket.protocol.close_code, flush=True)
