#!/usr/bin/env python3
"""What a published message costs Redis, by how many nodes hear it and how many are published at once.

Starts a redis-server, lets sockets subscribe and read, publishes, and prints Redis' CPU time in µs for
each message (medians) as a table: `PUBLISH`, and `XADD` with an `XREAD` that waits at each node.
"""
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time

PAYLOAD = b"x" * 150
COUNT = 8_000
ROUNDS = 5


def command(*words):
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def cpu_ns(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total


def hear(port, stream, stop):
    """A node: subscribes and reads, or reads the stream on and on."""
    s = socket.create_connection(("127.0.0.1", port))
    s.settimeout(0.2)
    s.sendall(command("XREAD", "COUNT", 100, "BLOCK", 5000, "STREAMS", "stream", "$") if stream else command("SUBSCRIBE", "channel"))
    last, data = b"0", b""
    while not stop.is_set():
        try:
            data += s.recv(1 << 16)
        except TimeoutError:
            continue
        if not stream:
            data = b""
        elif data.endswith(PAYLOAD + b"\r\n"):
            # The ids are the bulk strings with a dash; the last one is where to go on.
            last = next(line for line in reversed(data.split(b"\r\n")) if b"-" in line)
            data = b""
            s.sendall(command("XREAD", "COUNT", 100, "BLOCK", 5000, "STREAMS", "stream", last))
    s.close()


def measure(port, pid, nodes, batch, stream):
    stop = threading.Event()
    threads = [threading.Thread(target=hear, args=(port, stream, stop)) for _ in range(nodes)]
    for t in threads:
        t.start()
    time.sleep(0.3)
    publish = command("XADD", "stream", "MAXLEN", "~", 10000, "*", "data", PAYLOAD) if stream else command("PUBLISH", "channel", PAYLOAD)
    s = socket.create_connection(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = s.makefile("rb")
    before = cpu_ns(pid)
    count = COUNT if batch > 1 else COUNT // 4
    for _ in range(count // batch):
        s.sendall(publish * batch)
        for _ in range(batch):
            if reader.readline().startswith(b"$"):
                reader.readline()
    used = cpu_ns(pid) - before
    stop.set()
    for t in threads:
        t.join()
    s.close()
    return used / (count // batch * batch) / 1000


def main():
    port = random.randrange(15000, 32000)
    redis = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
                             stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            time.sleep(0.05)
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                pass
        else:
            sys.exit("redis-server does not listen")
        print("| nodes | PUBLISH, one | PUBLISH, 64 at once | XADD, one | XADD, 64 at once |\n|---|---|---|---|---|")
        for nodes in (0, 1, 2, 4, 8, 16):
            figures = [statistics.median(measure(port, redis.pid, nodes, batch, stream) for _ in range(ROUNDS))
                       for stream in (False, True) for batch in (1, 64)]
            print(f"| {nodes} | " + " | ".join(f"{f:.1f}" for f in figures) + " |", flush=True)
    finally:
        redis.terminate()
        redis.wait()


if __name__ == "__main__":
    main()
