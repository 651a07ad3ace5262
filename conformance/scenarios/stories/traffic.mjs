// Stories of what is sent: binary, much, and what may be dropped.

import assert from "node:assert/strict";
import { until } from "../../lib/wait.mjs";

const bytes = (length, seed) => Buffer.from(Array.from({ length }, (_, i) => (i * seed) & 0xff));

export default [
  {
    name: "binary among everything",
    async tell(stage) {
      const anna = await stage.connected("anna");
      const bert = await stage.connected("bert", { mode: "polling" });
      const carl = await stage.connected("carl", { mode: "websocket" });
      const file = { name: "cat.png", parts: [bytes(3, 7), { last: bytes(1_000, 3) }], empty: bytes(0, 0) };
      await anna.ask("echo", file, "text", null, bytes(5, 11));
      anna.emit("twice", bytes(4, 5), "between", { deep: [[bytes(2, 9)]] });
      await anna.sees("twice", 2);
      anna.answers("confirm", bytes(6, 13), { and: bytes(1, 1) });
      await anna.ask("ask", "confirm", bytes(8, 17));
      await anna.ask("broadcast", { from: "socket", event: "file" }, file, "after it");
      for (const one of [bert, carl]) await one.sees("file");
      anna.emit("echo", "before");
      anna.emit("echo", bytes(9, 19));
      anna.emit("echo", "behind");
      await anna.sees("echo", 3);
      await anna.ask("watch", "in", "watcher", false);
      await anna.ask("echo", [bytes(2, 3)]);
      await anna.sees("saw");
    },
  },
  {
    name: "every kind of value",
    async tell(stage) {
      const anna = await stage.connected("anna");
      const values = [null, true, false, 0, -1, 1.5, 1e21, "", "\u2028 \u{1f600} \" \\ \x1e \0", [], {},
        [[1], { a: [{}] }], { "": 0, "ä": "ö", _placeholder: false, num: 3 }];
      await anna.ask("echo", ...values);
      anna.emit("echo");
      await anna.sees("echo");
      anna.emit("emit-number", 42, "a number's event");
      await anna.sees("42");
      anna.emit("send", "a message", 2);
      await anna.sees("message");
      anna.emit(7, "seven");
      await anna.sees("seven");
      anna.emit("an event that nobody knows", 1);
      await anna.ask("data-set", "colour", { red: 1 });
      await anna.ask("data-get", "colour");
      await anna.ask("data-get", "none");
    },
  },
  {
    name: "much, to a slow reader, in order",
    async tell(stage) {
      const anna = await stage.actor("anna");
      let next = 0;
      anna.socket.offAny();
      anna.socket.on("part", (number, fill) => {
        assert.equal(number, next);
        assert.equal(fill.length, 1_000);
        next += 1;
        // A slow reader: the network stands still at every hundredth.
        if (number % 100 === 0) {
          anna.tap.pause();
          setTimeout(() => anna.tap.resume(), 10);
        }
      });
      await anna.connect();
      await anna.ask("stream", "part", 1_000, 1_000);
      await until("all parts", () => next === 1_000);
      anna.see(`${next} parts in order`);
      summarize(anna.tap, '42["part"');
    },
  },
  {
    name: "volatile under pressure",
    modes: ["websocket", "upgraded"],
    async tell(stage) {
      const anna = await stage.connected("anna");
      let parts = 0;
      anna.socket.offAny();
      anna.socket.on("part", () => (parts += 1));
      for (const event of ["volatile", "volatile-end", "echo"]) {
        anna.socket.on(event, (...args) => anna.see(`${event}: ${JSON.stringify(args)}`));
      }
      // Nothing waits: the first is taken, the rest of its turn is dropped.
      anna.emit("volatile", 5);
      await anna.sees("volatile-end");
      // More waits than a network takes: all are dropped, and nothing else is.
      anna.tap.pause();
      anna.emit("stream", "part", 90, 40_000);
      anna.emit("record", "streamed");
      await stage.recorded(anna, "record");
      anna.emit("volatile", 5);
      anna.emit("echo", "behind");
      anna.emit("record", "sent");
      await stage.recorded(anna, "record", 2);
      anna.tap.resume();
      await anna.sees("echo");
      await until("all parts", () => parts === 90);
      anna.see("all parts");
      anna.emit("volatile", 5);
      await anna.sees("volatile-end", 3);
      summarize(anna.tap, '42["part"');
    },
  },
];

/** One line in place of many that are alike. */
function summarize(tap, beginning) {
  const rest = tap.down.filter((packet) => !packet.startsWith(beginning));
  tap.down = [...rest, `${tap.down.length - rest.length} × ${beginning}…`];
}
