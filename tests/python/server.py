"""Starts and stops the server under test (conformance/README.md says what it does).

SERVER_CMD is its command.
"""

import asyncio
import contextlib
import json
import os
import random
import shlex
import socket
import subprocess
import time
import urllib.parse
import urllib.request

PATIENCE = 20


class Server:
    """The server as a process, on a port of its own."""

    def __init__(self, **options):
        self.options = options
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        """Also starts it again, on the same port."""
        environment = {"PORT": str(self.port), "SERVER_OPTIONS": json.dumps(self.options)}
        self.process = subprocess.Popen(
            shlex.split(os.environ["SERVER_CMD"]),
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith("listening"), f"the server said {line!r}"

    def stop(self):
        """Asks it to end, as an operator would."""
        self.process.terminate()
        code = self.process.wait(PATIENCE)
        self.process.stdout.close()
        assert code == 0, f"the server ended with {code}"

    def kill(self):
        """Ends it without a word to anybody."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def stats(self):
        return self._json("/stats")

    def log(self, mark):
        return self._json(f"/log?mark={urllib.parse.quote(mark)}")

    async def recorded(self, mark, event):
        """Waits until the server has recorded an event of whom has this mark."""

        async def look():
            records = await asyncio.to_thread(self.log, mark)
            return next((record for record in records if record["event"] == event), None)

        return await until(f"{event} of {mark}", look)

    async def empty(self):
        """Waits until nobody is left."""

        async def look():
            stats = await asyncio.to_thread(self.stats)
            return stats["sessions"] == stats["sockets"] == stats["rooms"] == 0

        await until("the server to be empty", look)

    def _json(self, path):
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
            return json.load(answer)


async def until(what, look):
    """Waits until there is something, and returns it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := await look()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.01)
    return found


def free_port():
    """As `tests/lib/ports.mjs`: a port that is this process's own, also while nobody listens."""
    while True:
        port = random.randrange(10_000, 32_000)
        with (
            contextlib.suppress(OSError),
            socket.socket() as probe,
            socket.socket(type=socket.SOCK_DGRAM) as claim,
        ):
            claim.bind(("127.0.0.1", port))
            probe.bind(("127.0.0.1", port))
            # Open until the process ends.
            claim.detach()
            return port
