"""python-socketio's client, unchanged, over long-polling, WebSocket and the upgrade."""

import asyncio
import contextlib
import unittest

import socketio
from server import PATIENCE, Server

MODES = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": None}


class Client:
    """A client, and all that it hears."""

    def __init__(self, **options):
        options = {"reconnection": False} | options
        self.sio = socketio.AsyncClient(**options)
        self.heard = asyncio.Queue()
        self.answers = {}
        for namespace in ["/", "/chat", "/admin", "/nowhere"]:
            for event in ["connect", "connect_error", "disconnect"]:
                self.sio.on(event, self._hear(event, namespace), namespace=namespace)
            self.sio.on("*", self._hear_any(namespace), namespace=namespace)

    def _hear(self, event, namespace):
        async def handler(*args):
            await self.heard.put((namespace, event, *args))

        return handler

    def _hear_any(self, namespace):
        async def handler(event, *args):
            await self.heard.put((namespace, event, *args))
            return self.answers.get(event)

        return handler

    async def connect(self, server, mode, **options):
        options = {"namespaces": ["/"], "wait_timeout": PATIENCE} | options
        options["transports"] = MODES[mode]
        await self.sio.connect(server.url, **options)
        return self

    async def next(self, event):
        """The next event of this name in any namespace, and its arguments."""
        async with asyncio.timeout(PATIENCE):
            while True:
                namespace, name, *args = await self.heard.get()
                if name == event:
                    return (namespace, *args)

    async def call(self, event, *args, namespace="/"):
        return await self.sio.call(event, args, namespace=namespace, timeout=PATIENCE)


class ClientTest(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)

    async def connected(self, mode, server=None, auth=None, client_options=None, **options):
        client = Client(**client_options or {})
        self.addAsyncCleanup(client.sio.disconnect)
        return await client.connect(server or self.server, mode, auth=auth or {}, **options)

    @contextlib.contextmanager
    def own_server(self, **options):
        server = Server(**options)
        try:
            yield server
        finally:
            server.kill()

    async def test_the_transport_is_the_one_that_was_asked_for(self):
        for mode, transport in [
            ("polling", "polling"),
            ("websocket", "websocket"),
            ("upgrade", "websocket"),
        ]:
            with self.subTest(mode):
                client = await self.connected(mode)
                self.assertEqual(client.sio.transport(), transport)
                who = await client.call("whoami")
                self.assertEqual(who["transport"], transport)
                self.assertEqual(who["id"], client.sio.get_sid())
                self.assertEqual(who["rooms"], [client.sio.get_sid()])

    async def test_events_and_acknowledgements_both_ways(self):
        values = ("text", 1, -1.5, True, None, ["a", {}], {"deep": {"ä": "\u2028"}})
        for mode in MODES:
            with self.subTest(mode):
                client = await self.connected(mode)
                self.assertEqual(await client.call("echo", *values), values)
                await client.sio.emit("echo", values)
                self.assertEqual(await client.next("echo"), ("/", *values))
                client.answers["question"] = ("yes", 2)
                self.assertEqual(await client.call("ask", "question", "sure?"), ("yes", 2))
                self.assertEqual(await client.next("question"), ("/", "sure?"))

    async def test_binary_at_any_depth(self):
        values = (b"", b"\x00\xff", {"file": {"parts": [b"one", "text", b"two"]}}, "end")
        for mode in MODES:
            with self.subTest(mode):
                client = await self.connected(mode)
                self.assertEqual(await client.call("echo", *values), values)
                await client.sio.emit("twice", values)
                for _ in range(2):
                    self.assertEqual(await client.next("twice"), ("/", *values))
                client.answers["question"] = (b"an answer", {"of": b"two"})
                answer = await client.call("ask", "question", b"\x01")
                self.assertEqual(answer, (b"an answer", {"of": b"two"}))

    async def test_many_and_large_messages_in_order(self):
        for mode in MODES:
            with self.subTest(mode):
                client = await self.connected(mode)
                # The client writes each as six characters.
                text = "é" * 100_000
                self.assertEqual(await client.call("echo", text), text)
                # It gives up a session whose payload has more than sixteen packets.
                count = 10 if mode == "polling" else 500
                await client.call("stream", "part", count, 1_000)
                for number in range(count):
                    self.assertEqual(await client.next("part"), ("/", number, "x" * 1_000))

    async def test_namespaces_over_one_connection(self):
        for mode in MODES:
            with self.subTest(mode):
                client = await self.connected(mode, namespaces=["/", "/chat"])
                ids = [client.sio.get_sid(name) for name in ["/", "/chat"]]
                self.assertNotEqual(*ids)
                self.assertEqual(await client.call("echo", "here", namespace="/chat"), "here")
                who = await client.call("whoami", namespace="/chat")
                self.assertEqual((who["namespace"], who["id"]), ("/chat", ids[1]))
                spec = {"from": "server", "event": "news"}
                await client.call("broadcast", spec, "to the chat", namespace="/chat")
                self.assertEqual(await client.next("news"), ("/chat", "to the chat"))

    async def test_rooms(self):
        for mode in MODES:
            with self.subTest(mode):
                garden = f"garden {mode}"
                anna = await self.connected(mode)
                bert = await self.connected("websocket")
                self.assertIn(garden, await anna.call("join", garden))
                await bert.call("join", [garden, "house"])
                bert.answers["where?"] = "in the garden"
                asked = {"from": "socket", "to": [garden], "event": "where?", "timeout": 15_000}
                answers = await anna.call("broadcast", asked, "you")
                self.assertEqual(answers, ("ok", ["in the garden"]))
                await anna.call("leave", garden)
                for room in [garden, "house"]:
                    spec = {"from": "server", "to": [room], "event": "news"}
                    await bert.call("broadcast", spec, room)
                    self.assertEqual(await bert.next("news"), ("/", room))
                # What was sent to anna before this has come before it.
                await anna.call("echo")
                heard = [anna.heard.get_nowait()[1] for _ in range(anna.heard.qsize())]
                self.assertNotIn("news", heard)

    async def test_who_is_refused_is_told_why(self):
        refused = {"message": "not authorized", "data": {"code": "E_TOKEN", "given": "wrong"}}
        for mode in MODES:
            with self.subTest(mode):
                client = Client()
                with self.assertRaises(socketio.exceptions.ConnectionError):
                    auth = {"token": "wrong"}
                    await client.connect(self.server, mode, namespaces=["/admin"], auth=auth)
                self.assertEqual(await client.next("connect_error"), ("/admin", refused))
                client = Client()
                with self.assertRaises(socketio.exceptions.ConnectionError):
                    await client.connect(self.server, mode, namespaces=["/nowhere"])
                invalid = {"message": "Invalid namespace"}
                self.assertEqual(await client.next("connect_error"), ("/nowhere", invalid))
                auth = {"token": "letmein"}
                admin = await self.connected(mode, namespaces=["/admin"], auth=auth)
                who = await admin.call("whoami", namespace="/admin")
                self.assertEqual(who["data"], {"user": "admin"})
                self.assertEqual(who["auth"], auth)

    async def test_either_side_says_goodbye(self):
        for mode in MODES:
            with self.subTest(mode):
                mark = f"goodbye {mode}"
                client = await self.connected(mode, auth={"mark": mark})
                await client.sio.disconnect()
                reason = client.sio.reason.CLIENT_DISCONNECT
                self.assertEqual(await client.next("disconnect"), ("/", reason))
                record = await self.server.recorded(mark, "disconnect")
                # It does not wait until its word for the namespace has left.
                reasons = ["client namespace disconnect", "transport close"]
                self.assertIn(record["reason"], reasons)

                client = await self.connected(mode, auth={"mark": f"{mark}, server"})
                await client.sio.emit("disconnect-me", (True, "last words"))
                self.assertEqual(await client.next("bye"), ("/", "last words"))
                reason = client.sio.reason.SERVER_DISCONNECT
                self.assertEqual(await client.next("disconnect"), ("/", reason))
                record = await self.server.recorded(f"{mark}, server", "disconnect")
                self.assertEqual(record["reason"], "server namespace disconnect")

    async def test_a_server_that_dies_is_found_again(self):
        for mode in MODES:
            with self.subTest(mode), self.own_server() as server:
                options = {"reconnection": True, "reconnection_delay": 0.05}
                options |= {"reconnection_delay_max": 0.2, "randomization_factor": 0}
                client = await self.connected(mode, server, client_options=options)
                await client.next("connect")
                before = client.sio.get_sid()
                server.kill()
                await client.next("disconnect")
                server.start()
                await client.next("connect")
                self.assertNotEqual(client.sio.get_sid(), before)
                self.assertEqual(await client.call("echo", "again"), "again")
                await client.sio.disconnect()

    async def test_the_heartbeat_keeps_a_client(self):
        for mode in MODES:
            with self.subTest(mode), self.own_server(pingInterval=300, pingTimeout=5_000) as server:
                client = await self.connected(mode, server)
                # Longer than a client is kept that answers no ping.
                self.assertEqual(await client.call("later", 6_000, "still here"), "still here")
                await client.sio.disconnect()

    async def test_nothing_is_left_of_those_who_have_gone(self):
        with self.own_server() as server:
            for mode in MODES:
                client = await self.connected(mode, server, namespaces=["/", "/chat"])
                await client.call("join", "garden", namespace="/chat")
                stats = await asyncio.to_thread(server.stats)
                self.assertEqual((stats["sessions"], stats["sockets"]), (1, 2))
                await client.sio.disconnect()
                await server.empty()

    async def test_the_client_without_asyncio(self):
        def speak(transports):
            client = socketio.Client(reconnection=False)
            client.connect(self.server.url, transports=transports, wait_timeout=PATIENCE)
            answer = client.call("echo", ("text", b"\x00\xff"), timeout=PATIENCE)
            transport = client.transport()
            client.disconnect()
            return transport, answer

        for mode, transports in MODES.items():
            with self.subTest(mode):
                transport, answer = await asyncio.to_thread(speak, transports)
                self.assertEqual(transport, "polling" if mode == "polling" else "websocket")
                self.assertEqual(answer, ("text", b"\x00\xff"))


if __name__ == "__main__":
    unittest.main()
