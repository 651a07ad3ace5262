// Stories of people who come, talk in rooms, lose their connection and come back.

export default [
  {
    name: "a member's day",
    async tell(stage) {
      const eve = await stage.actor("eve", {
        namespace: "/admin",
        auth: { token: "wrong" },
        // Whether a connection that is refused has been upgraded is a matter of time.
        mode: stage.mode === "polling" ? "polling" : "websocket",
      });
      eve.socket.connect();
      await eve.sees("connect_error");
      eve.socket.auth.token = "letmein";
      await eve.connect();
      eve.socket.disconnect();
      const anna = await stage.connected("anna", { namespace: "/admin", auth: { token: "letmein" } });
      const bert = await stage.connected("bert", {
        namespace: "/admin",
        auth: { token: "letmein", welcome: "hello" },
        mode: "websocket",
      });
      await bert.sees("welcome");
      await anna.ask("join", ["garden", "house"]);
      await bert.ask("join", "garden");
      bert.answers("question", "in the garden");
      const spec = { from: "socket", to: ["garden"], event: "question", timeout: 15_000 };
      await anna.ask("broadcast", spec, "where are you?");
      await anna.ask("whoami");

      await stage.cut(anna);
      await stage.recorded(anna, "disconnect");
      await bert.ask("broadcast", { from: "server", to: ["garden"], event: "news" }, "she is gone");
      for (const number of [1, 2, 3]) anna.emit("record", number);
      await anna.restore(2);
      await stage.recorded(anna, "record", 3);
      await anna.ask("rooms");
      anna.socket.disconnect();
      await stage.recorded(anna, "disconnect", 2);
    },
  },
  {
    name: "two windows of one user",
    async tell(stage) {
      const first = await stage.connected("first");
      const second = await stage.connected("second", { mode: "websocket" });
      const other = await stage.connected("other", { mode: "polling" });
      for (const window of [first, second]) await window.ask("join", "user 1");
      await other.ask("broadcast", { from: "socket", to: ["user 1"], event: "note" }, "to both");
      await first.ask("broadcast", { from: "socket", to: ["user 1"], event: "note" }, "to my other");
      await first.ask("broadcast", { from: "server", except: ["user 1"], event: "note" }, "to others");
      await second.sees("note", 2);
      await other.sees("note");
      await second.ask("leave", "user 1");
      await other.ask("broadcast", { from: "socket", to: ["user 1"], event: "note" }, "to one");
      await first.sees("note", 2);
      first.socket.disconnect();
      await stage.recorded(first, "disconnect");
      await other.ask("broadcast", { from: "socket", to: ["user 1"], event: "note" }, "to nobody");
      await second.ask("echo", "nothing came");
    },
  },
  {
    name: "a client that sends again until it is answered",
    async tell(stage) {
      const anna = await stage.actor("anna", { retries: 2, ackTimeout: 400 });
      const sent = (event) => new Promise((resolve) => {
        anna.socket.emit(event, "once more", (error, ...answers) => {
          anna.see(`${event}: ${error?.message ?? JSON.stringify(answers)}`);
          resolve();
        });
      });
      await anna.connect();
      await sent("echo");
      await sent("silence");
      await sent("echo");
    },
  },
  {
    name: "answers that come too late",
    async tell(stage) {
      const anna = await stage.connected("anna");
      await anna.askWithin(50, "later", 400, "late");
      await anna.ask("later", 600, "in time");
      // The server asks, too.
      anna.answers("confirm", "yes", 1);
      await anna.ask("ask", "confirm", "sure?");
      await anna.ask("ask-timeout", 15_000, "confirm", "sure?");
      await anna.ask("ask-timeout", 100, "nobody answers this");
    },
  },
];
