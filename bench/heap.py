#!/usr/bin/env python3
"""Heap of idle WebSocket connections, as each server's own allocator counts it (built with the
feature `count-heap`): the bytes that the program asked for, without what an allocator adds.

heap.py NAME=COMMAND... ; `cargo xtask bench heap` builds the servers and runs it."""
import os
import random
import socket
import subprocess
import sys
import time

CONNECTIONS = 1000
FIRST = 100  # bring what is allocated once
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
HELLO = bytes([0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58])  # RFC 6455 section 5.7
ANSWER = b"\x81\x05Hello"


def ask(port, path):
    stream = socket.create_connection(("127.0.0.1", port))
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    stream.sendall(head.encode() + KEY)
    return stream


def until(stream, end):
    got = b""
    while not got.endswith(end):
        chunk = stream.recv(4096)
        if not chunk:
            raise RuntimeError(f"the server ended the stream behind {got!r}")
        got += chunk


def connect(port):
    """A client that has had one message echoed, and is silent from then on."""
    stream = ask(port, "/")
    until(stream, b"\r\n\r\n")
    stream.sendall(HELLO)
    until(stream, ANSWER)
    return stream


def heap(port):
    answer = b""
    with ask(port, "/heap") as stream:
        while chunk := stream.recv(4096):
            answer += chunk
    return int(answer.split(b"\r\n\r\n")[1])


def settled(port):
    """The count, once it stays the same: the last connection's task may not be back in its wait."""
    last = None
    for _ in range(100):
        now = heap(port)
        if now == last:
            return now
        last = now
        time.sleep(0.02)
    raise RuntimeError("the heap does not come to rest")


def measure(name, command):
    port = random.randrange(15000, 32000)
    server = subprocess.Popen(command.split(), env=dict(os.environ, PORT=str(port)))
    try:
        for _ in range(200):
            try:
                heap(port)
                break
            except OSError:
                time.sleep(0.05)
        clients = [connect(port) for _ in range(FIRST)]
        before = settled(port)
        clients += [connect(port) for _ in range(CONNECTIONS)]
        each = (settled(port) - before) / CONNECTIONS
        print(f"| {name} | {each:,.0f} |", flush=True)
        for client in clients:
            client.close()
    finally:
        server.terminate()
        server.wait()


def main():
    print("| server | bytes of heap per idle connection |\n|---|---|")
    for argument in sys.argv[1:]:
        name, _, command = argument.partition("=")
        measure(name, command)


if __name__ == "__main__":
    main()
