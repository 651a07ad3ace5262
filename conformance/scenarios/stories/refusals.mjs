// Stories of those who are not let in, or not heard.

import { until } from "../../lib/wait.mjs";

export default [
  {
    name: "refused late, then let in",
    async tell(stage) {
      const root = await stage.connected("anna");
      const auth = { delay: 20, early: "too early", room: "waiting", refuse: "come back later" };
      const slow = stage.add(root.beside("/slow", auth));
      await slow.sees("connect_error");
      delete slow.socket.auth.refuse;
      await slow.connect();
      await slow.ask("rooms");
      await root.ask("echo", "all the while here");
    },
  },
  {
    name: "gone while a middleware thinks",
    async tell(stage) {
      const root = await stage.connected("anna");
      const slow = stage.add(root.beside("/slow", { delay: 300, room: "waiting", early: "early" }));
      await until("the early event", () => root.tap.down.some((packet) => packet.includes("early")));
      await stage.cut(root);
      slow.socket.disconnect();
      await until("the server to be empty", async () => (await stage.server.stats()).rooms === 0);
      slow.socket.auth.delay = 0;
      await root.restore(2);
      await slow.connect();
      await slow.ask("rooms");
    },
  },
  {
    name: "left while a middleware thinks",
    async tell(stage) {
      const root = await stage.connected("anna", { reconnection: false });
      // Longer than the story: whether it goes on behind its connection is told above.
      const slow = stage.add(root.beside("/slow", { delay: 10_000 }));
      await stage.recorded(root, "middleware");
      root.socket.io.engine.close();
      await stage.recorded(root, "disconnect");
      slow.socket.disconnect();
    },
  },
  {
    name: "an event that is refused",
    async tell(stage) {
      const anna = await stage.connected("anna");
      await anna.ask("judge", "echo", "sentry", 0, null);
      await anna.ask("echo", "let through");
      await anna.ask("judge", "echo", "second sentry", 0, "not today");
      anna.emit("echo", "without an acknowledgement");
      await stage.recorded(anna, "error");
      await anna.askWithin(1_000, "echo", "with one");
      await stage.recorded(anna, "error", 2);
      await anna.ask("rooms");
    },
  },
  {
    name: "a handler that fails",
    async tell(stage) {
      const anna = await stage.connected("anna");
      anna.emit("throw", "on purpose");
      await anna.ask("echo", "unimpressed");
      await anna.ask("emit-named", "disconnect");
      await anna.ask("emit-named", "connection");
      await anna.ask("emit-named", "fine");
    },
  },
  {
    name: "refused at the door",
    modes: ["polling", "websocket"],
    options: { hooks: true },
    async tell(stage) {
      const anna = await stage.actor("anna", { query: { refuse: "closed" }, reconnection: false });
      anna.socket.connect();
      await anna.sees("connect_error");
      anna.socket.io.opts.query = { tag: "friend" };
      await anna.connect();
      await anna.ask("whoami");
    },
  },
];
