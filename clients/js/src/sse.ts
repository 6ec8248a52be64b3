/** Event streams as a transport, where WebSockets are blocked: one request a topic, read with `fetch`. */

import { verdictOf } from "./backoff.js";
import type { Env } from "./env.js";
import { EventParser, type StreamEvent } from "./event_parser.js";
import { problemOf } from "./http.js";
import { addressOf, type Transport, type TransportEvents } from "./transport.js";
import type { Frame, From } from "./types.js";

/** The server sends a comment every 15 s. */
const DEAD_MS = 45_000;

interface Stream {
  id: unknown;
  abort: AbortController;
  live: boolean;
  ended: boolean; // the server ended the subscription
}

/** Opens no stream yet: each `subscribe` frame does. Answers in frames, as a WebSocket would. */
export function openStreams(
  env: Env,
  url: string,
  who: () => Promise<{ bearer: string | undefined; query: Record<string, string> }>,
  on: TransportEvents,
): Transport {
  const streams = new Map<string, Stream>();
  let closed = false;
  let welcomed = false;
  const tell = (frame: Frame, bytes = 0) => {
    if (closed || (frame.type === "welcome" && welcomed)) return;
    welcomed ||= frame.type === "welcome";
    on.onFrame(frame, bytes);
  };
  const end = (code: number) => {
    if (closed) return;
    close();
    on.onClosed(code);
  };
  const close = () => {
    closed = true;
    for (const { abort } of streams.values()) abort.abort();
    streams.clear();
  };

  const refuse = (topic_id: string, id: unknown, code: string, message: string | undefined, retryable: boolean, ms = 0) =>
    tell({ type: "error", id, topic_id, code, message, retryable, retry_after_ms: ms });

  const onEvent = (topic_id: string, stream: Stream, { event, data }: StreamEvent): number | undefined => {
    const frame = { type: event, ...JSON.parse(data) } as Frame;
    if (event === "disconnect") {
      const code = Number(frame.code);
      if (code === 4610 || verdictOf(code) === "stop") return code;
      stream.ended = true;
      refuse(topic_id, stream.id, "connection_lost", String(frame.reason), true, Number(frame.retry_after_ms) || 0);
      return undefined;
    }
    stream.live = true;
    stream.ended ||= event === "unsubscribed";
    tell(frame, data.length);
    return undefined;
  };

  /** Aborts the stream where the answer, or the next piece of it, does not come. */
  const inTime = <T>({ abort }: Stream, coming: Promise<T>): Promise<T> =>
    coming.finally(env.after(DEAD_MS, () => abort.abort()));

  const read = async (topic_id: string, stream: Stream, body: ReadableStream<Uint8Array>) => {
    const parser = new EventParser();
    const decoder = new TextDecoder();
    const reader = body.getReader();
    for (;;) {
      const { done, value } = await inTime(stream, reader.read());
      if (done) return;
      for (const event of parser.push(decoder.decode(value, { stream: true }))) {
        const code = streams.get(topic_id) === stream ? onEvent(topic_id, stream, event) : undefined;
        if (code) return end(code);
      }
    }
  };

  const open = async (frame: Frame) => {
    const { topic_id, id, from, presence, device_id } = frame as Frame & Record<"topic_id" | "device_id", string> & { from: From };
    const stream: Stream = { id, abort: new AbortController(), live: false, ended: false };
    streams.set(topic_id, stream);
    try {
      const { bearer, query } = await who();
      const asked = { ...query, device_id, topic_id, from: formOf(from), presence: presence === false ? false : undefined };
      const { href } = addressOf(`${url}/sse/subscribe`, asked);
      const headers: Record<string, string> = bearer ? { Authorization: `Bearer ${bearer}` } : {};
      const answer = await inTime(stream, env.fetch(href, { headers, signal: stream.abort.signal, cache: "no-store" }));
      if (!answer.ok) {
        const { code, message, retryable, status, retry_after_ms } = await inTime(stream, problemOf(answer));
        stream.ended = true;
        if (status === 401) return end(4401);
        tell({ type: "welcome" });
        refuse(topic_id, id, code, message, retryable, retry_after_ms);
      } else await read(topic_id, stream, answer.body!);
    } catch {
      // a cut stream and one that was aborted end in the same way
    }
    if (closed || streams.get(topic_id) !== stream) return;
    streams.delete(topic_id);
    if (stream.ended) return;
    if (![...streams.values()].some((other) => other.live)) return end(1006);
    refuse(topic_id, id, "connection_lost", undefined, true);
  };

  const send = (frame: Frame) => {
    const { type, id, topic_id } = frame as Frame & { topic_id: string };
    if (type === "subscribe" && !frame.ack) return void open(frame);
    if (type === "unsubscribe") {
      streams.get(topic_id)?.abort.abort();
      streams.delete(topic_id);
      queueMicrotask(() => tell({ type: "unsubscribed", id, topic_id, reason: "requested" }));
    } else if (id !== undefined) {
      queueMicrotask(() => refuse(topic_id, id, "needs_websocket", `${type} needs a WebSocket`, false));
    }
  };

  queueMicrotask(() => {
    if (closed) return;
    on.onReady();
    if (!streams.size) tell({ type: "welcome" });
  });
  return { silent: false, send, close };
}

/** Returns the form of a query string. */
export function formOf(from: From): string {
  if (typeof from === "string") return from;
  if ("epoch" in from) return `${from.epoch}:${from.seq}`;
  return Object.entries(from)
    .map(([name, value]) => `${name}:${value}`)
    .join();
}
