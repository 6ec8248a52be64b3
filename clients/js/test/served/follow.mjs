// An application on the client, for tests that inflict faults. Takes its orders as JSON in the first argument and writes
// what it was given, one JSON object a line. A line on standard input ends it. With `keep` messages are not written as they
// come but counted, and written at the end, one line a client and topic.
//
// {module, name, url, stream_urls, tokens, secret, token_life_s, topics, one_topic_of, clients, transport, from, ack, fail_every, keep, options,
// publish: {topic, count, every_ms}}
import { createHmac } from "node:crypto";
import { createInterface } from "node:readline";
import WebSocket from "ws";

const orders = JSON.parse(process.argv[2]);
const { Headgate } = await import(orders.module ?? "../../dist/index.js");
const { clients = 1, topics = [], transport = "auto", options = {}, publish } = orders;
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

/** A token that lives for `token_life_s` (HS256). */
function minted(sub) {
  say({ on: "minted", who: sub });
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub, exp: Date.now() / 1000 + orders.token_life_s })}`;
  return `${text}.${createHmac("sha256", orders.secret).update(text).digest("base64url")}`;
}

function application(number) {
  const who = `${orders.name ?? "js"}-${number}`;
  const urls = orders.stream_urls ?? [orders.url];
  const streamUrl = number % 2 ? [...urls].reverse() : urls;
  const token = orders.secret ? () => minted(who) : orders.tokens?.[number];
  const client = new Headgate({ url: orders.url, streamUrl, transport, WebSocket, user: who, ...(token && { token }), ...options });
  client.on("state", (state, error) => say({ on: "state", who, state, at: Date.now(), ...(error && { error: String(error) }) }));
  client.on("error", (error) => say({ on: "error", who, error: String(error) }));
  const epochs = {};
  const kept = {};
  const failed = new Set(); // the first delivery of these failed
  for (const topic of orders.one_topic_of ? [orders.one_topic_of[number % orders.one_topic_of.length]] : topics) {
    client.subscribe(topic, {
      from: orders.from ?? "earliest",
      ...(orders.ack && { ack: orders.ack }),
      onSubscribed: ({ epoch }) => {
        epochs[topic] = epoch;
        say({ on: "subscribed", who, topic, at: Date.now() });
      },
      onMessage: ({ seq, message_id, payload, attempt }) => {
        if (orders.fail_every && seq % orders.fail_every === 0 && !failed.has(seq)) {
          failed.add(seq);
          throw new Error("not yet"); // a nack: it comes again
        }
        if (orders.keep) return keep((kept[topic] ??= []), [epochs[topic], seq, payload.number, message_id]);
        say({ on: "message", who, topic, epoch: epochs[topic], seq, message_id, payload, attempt });
      },
      onGap: ({ refetch: _, ...gap }) => void say({ on: "gap", who, ...gap }),
      onEnd: (error) => error && say({ on: "end", who, topic, error: String(error) }),
    });
  }
  return { client, tell: () => Object.entries(kept).forEach(([topic, messages]) => say({ on: "kept", who, topic, messages })) };
}

let count = 0;
function keep(messages, message) {
  messages.push(message);
  count += 1;
}
if (orders.keep) setInterval(() => say({ on: "count", count }), 500).unref();

const all = Array.from({ length: clients }, (_, number) => application(number));

async function publishes({ topic, count, every_ms = 0 }) {
  const [{ client }] = all;
  for (let number = 0; number < count; number += 1) {
    const { seq, message_id } = await client.publish(topic, { number });
    say({ on: "published", topic, number, seq, message_id });
    if (every_ms) await new Promise((resolve) => setTimeout(resolve, every_ms));
  }
}

if (publish) publishes(publish).catch((error) => say({ on: "failed", error: String(error) }));
createInterface({ input: process.stdin }).once("line", () => {
  for (const { client, tell } of all) (client.close(), tell());
  process.stdin.destroy(); // a client that is closed leaves nothing that keeps the process alive
});
