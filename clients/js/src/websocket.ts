/** A WebSocket as a transport. */

import type { WebSocketClass } from "./env.js";
import { addressOf, type Transport, type TransportEvents } from "./transport.js";
import type { Frame } from "./types.js";

const OPEN = 1;

function parsed(data: unknown): Frame | undefined {
  try {
    const frame = JSON.parse(data as string);
    return typeof frame?.type === "string" ? frame : undefined;
  } catch {
    return undefined; // no server of ours
  }
}

/** Opens it. The token goes into the subprotocol pair, which no log shows; without a token there is none. */
export function openWebSocket(
  WebSocket: WebSocketClass,
  url: string,
  bearer: string | undefined,
  query: Record<string, string | undefined>,
  on: TransportEvents,
): Transport {
  const { href } = addressOf(`${url.replace(/^http/, "ws")}/ws/subscribe`, query);
  const socket = new WebSocket(href, bearer ? ["headgate.v1", `bearer.${bearer}`] : ["headgate.v1"]);
  socket.onmessage = ({ data }) => {
    const frame = parsed(data);
    if (!frame) return on.onClosed(1006);
    on.onFrame(frame, data.length);
    if (frame.type === "welcome") on.onReady();
  };
  socket.onerror = () => {}; // onclose follows and says all that a page may know
  socket.onclose = ({ code }) => on.onClosed(code);
  return {
    silent: true,
    send: (frame) => {
      if (socket.readyState === OPEN) socket.send(JSON.stringify(frame));
    },
    close: () => {
      socket.onmessage = socket.onclose = null;
      socket.close(); // onerror stays: the package `ws` raises what nobody listens to
    },
  };
}
