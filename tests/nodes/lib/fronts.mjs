// Every way to three nodes of the chat: the balancer, its file, and who comes through it. A browser's
// windows take as long to open as all the rest, so not all ways have some.

import http from "node:http";

import { haproxy, nginx } from "../../chat/lib/balancer.mjs";
import { Persistent } from "../../chat/lib/persistent.mjs";
import { person } from "../../browser/lib/window.mjs";

const UPGRADED = ["polling", "websocket"];
const POLLING = ["polling"];
const WEBSOCKET = ["websocket"];

export const MODES = [
  { balancer: nginx, file: "ip-hash.conf", byAddress: true },
  { balancer: nginx, file: "cookie.conf" },
  { balancer: nginx, file: "round-robin.conf", forwards: true },
  { balancer: nginx, file: "websocket.conf", websocketOnly: true },
  { balancer: haproxy, file: "source.cfg", byAddress: true, windowless: true },
  { balancer: haproxy, file: "cookie.cfg" },
  { balancer: haproxy, file: "round-robin.cfg", forwards: true },
  { balancer: haproxy, file: "websocket.cfg", websocketOnly: true, windowless: true },
].map((mode) => ({ ...mode, name: `${mode.balancer.name} ${mode.file.split(".")[0]}` }));

let addresses = 0;

// The balancer of a mode, with its talkers connected through it and its windows open.
export class Front {
  static async start(t, mode, nodes) {
    const front = Object.assign(new Front(), mode, await mode.balancer(t, mode.file, nodes));
    const transports = mode.websocketOnly
      ? [WEBSOCKET, WEBSOCKET, WEBSOCKET]
      : [UPGRADED, UPGRADED, POLLING, POLLING, WEBSOCKET];
    const names = ["ann", "ben", "carl", "dora", "emma"];
    front.talkers = await Promise.all(
      transports.map((transports, i) =>
        Persistent.connect(t, front, front.nameOf(names[i]), {
          transports,
          withCredentials: true,
          ...(mode.byAddress && { agent: elsewhere() }),
        }),
      ),
    );
    front.transports = transports;
    return front;
  }

  nameOf(somebody) {
    return `${somebody}.${this.name.replace(" ", "-")}`;
  }

  // Two people in windows of a browser, each with an account of their own.
  async open(t) {
    this.windows = [];
    this.texts = [];
    if (this.windowless) return;
    for (const name of ["wilma", "xaver"])
      this.windows.push(await person(t, this.url, this.nameOf(name), this.windowsRoom));
  }

  get windowsRoom() {
    return `windows of ${this.name}`;
  }
}

// An address whose first three bytes are nobody else's.
function elsewhere() {
  addresses += 1;
  return new http.Agent({ keepAlive: true, localAddress: `127.0.${addresses}.1` });
}
