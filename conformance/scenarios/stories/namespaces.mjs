// Stories of one connection that is in several namespaces.

export default [
  {
    name: "four namespaces over one connection",
    async tell(stage) {
      const root = await stage.connected("anna", { reconnection: false });
      // One after the other: who is first among several is up to their middlewares.
      const chat = stage.add(root.beside("/chat"));
      await chat.connected();
      const admin = stage.add(root.beside("/admin", { token: "letmein" }));
      await admin.connected();
      const slow = stage.add(root.beside("/slow", { delay: 50, early: "before the end" }));
      await slow.connected();
      const nowhere = stage.add(root.beside("/nowhere"));
      await nowhere.sees("connect_error");
      const bert = await stage.connected("bert", { namespace: "/chat", mode: "websocket" });

      for (const one of [root, chat, admin]) await one.ask("join", "garden");
      await bert.ask("broadcast", { from: "socket", event: "news" }, "to the chat");
      await bert.ask("broadcast", { from: "server", to: ["garden"], event: "news" }, "to its garden");
      await chat.sees("news", 2);
      await admin.ask("broadcast", { from: "server", event: "news" }, "to administrators");

      chat.socket.disconnect();
      await stage.recorded(root, "disconnect");
      await bert.ask("broadcast", { from: "socket", event: "news" }, "she is out");
      await root.ask("echo", "the others go on");
      await chat.connect();
      await chat.ask("rooms");
      root.socket.io.engine.close();
      for (const one of [root, chat, admin, slow]) await one.sees("disconnect");
      await stage.recorded(root, "disconnect", 5);
      for (const one of [root, chat, admin, slow]) one.socket.disconnect();
    },
  },
  {
    name: "the server ends one namespace, then the connection",
    async tell(stage) {
      const root = await stage.connected("anna");
      const chat = stage.add(root.beside("/chat"));
      await chat.connected();
      chat.emit("disconnect-me", false, "only here");
      await chat.sees("disconnect");
      await root.ask("echo", "still in /");
      chat.socket.connect();
      await chat.connected();
      root.emit("disconnect-me", true, "all of it");
      await root.sees("disconnect");
      await chat.sees("disconnect", 2);
      await stage.recorded(root, "disconnect", 3);
      // Only who connects again is back.
      await chat.connect();
      await chat.ask("echo", "back");
      root.socket.disconnect();
    },
  },
];
