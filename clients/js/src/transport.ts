/** What a connection is carried by: a WebSocket, or event streams that speak the same frames. */

import { given } from "./env.js";
import type { Frame } from "./types.js";

export interface Transport {
  /** Whether nothing is heard for long when nothing happens, so that the client has to ask. */
  readonly silent: boolean;
  send(frame: Frame): void;
  /** Ends it. No event comes afterwards. */
  close(): void;
}

export interface TransportEvents {
  /** Topics may be asked for. */
  onReady(): void;
  /** `bytes` is the length of the frame's text in characters. */
  onFrame(frame: Frame, bytes: number): void;
  /** It ended by itself. */
  onClosed(code: number): void;
}

/** Returns an address with a query; members that are undefined are left out. */
export function addressOf(url: string, query: Record<string, string | number | boolean | undefined>): URL {
  const address = new URL(url);
  for (const [name, value] of Object.entries(given(query))) address.searchParams.set(name, String(value));
  return address;
}
