// Stories of how connections end, on either side or between.

/** Soon, and late enough for whoever lives to answer on a busy machine. */
const SOON = { pingInterval: 400, pingTimeout: 8_000 };

export default [
  {
    name: "a network that is cut",
    async tell(stage) {
      const anna = await stage.connected("anna");
      const chat = stage.add(anna.beside("/chat"));
      await chat.connected();
      const bert = await stage.connected("bert", { mode: "websocket" });
      await anna.ask("join", "garden");
      await stage.cut(anna);
      await stage.recorded(anna, "disconnect", 2);
      await bert.ask("broadcast", { from: "server", to: ["garden"], event: "news" }, "to nobody");
      await anna.restore(2);
      await chat.connected();
      await anna.ask("echo", "back");
      await chat.ask("echo", "back here, too");
    },
  },
  {
    name: "a network that has died silently",
    options: SOON,
    async tell(stage) {
      const anna = await stage.connected("anna");
      await anna.ask("join", "garden");
      anna.tap.swallow();
      anna.emit("echo", "into nothing");
      await anna.sees("disconnect");
      await stage.recorded(anna, "disconnect");
      await anna.restore(2);
      await anna.ask("rooms");
    },
  },
  {
    name: "gone while the server waits for an answer",
    async tell(stage) {
      const anna = await stage.connected("anna", { reconnection: false });
      const bert = await stage.connected("bert", { mode: "websocket" });
      anna.socket.emit("ask", "never answered", () => anna.see("the server was answered?"));
      await anna.sees("never answered (asked)");
      bert.answers("question", "bert is here");
      const spec = { from: "server", event: "question", timeout: 8_000 };
      const asked = bert.ask("broadcast", spec, "who is here?");
      await anna.sees("question (asked)");
      anna.socket.io.engine.close();
      await anna.sees("disconnect");
      await asked;
      anna.socket.disconnect();
      await stage.recorded(anna, "disconnect");
      await bert.ask("echo", "goes on");
    },
  },
  {
    name: "gone while the client waits for an answer",
    async tell(stage) {
      const anna = await stage.connected("anna");
      const waiting = anna.askWithin(15_000, "silence");
      await anna.ask("echo", "silence has begun");
      await stage.cut(anna);
      await waiting;
      await anna.restore(2);
      await anna.ask("echo", "back");
    },
  },
  {
    name: "events behind the server's goodbye are not handled",
    async tell(stage) {
      const anna = await stage.connected("anna");
      anna.emit("record", "before");
      anna.emit("disconnect-me", false);
      anna.emit("record", "behind");
      await anna.sees("disconnect");
      await stage.recorded(anna, "disconnect");
      await anna.connect();
      await anna.ask("echo", "again");
    },
  },
  {
    name: "the server is told to end, and another takes its place",
    own: true,
    async tell(stage) {
      const anna = await stage.connected("anna");
      const chat = stage.add(anna.beside("/chat"));
      await chat.connected();
      await anna.ask("join", "garden");
      await stage.settled(anna);
      await stage.server.stop();
      await anna.sees("disconnect");
      await chat.sees("disconnect");
      // In /chat: one of / leaves with the CONNECT to /chat, and Node answers it before that.
      chat.emit("echo", "kept for the next");
      await stage.server.start();
      await anna.sees("connect", 2);
      await anna.connected();
      await chat.connected();
      await chat.sees("echo");
      await chat.ask("rooms");
    },
  },
  {
    name: "the server dies, and another takes its place",
    own: true,
    async tell(stage) {
      const anna = await stage.connected("anna");
      await stage.server.kill();
      await anna.sees("disconnect");
      anna.emit("echo", "kept for the next");
      await stage.server.start();
      await anna.sees("connect", 2);
      await anna.connected();
      await anna.sees("echo");
    },
  },
];
