// Runs the protocol vectors of the repository (tests/vectors/data) through the client, against real servers.
// Arguments: the folder of the vectors, then name=url of each server. Writes one JSON object: ran, left_out, failed.
//
// What a vector sends is done by the client's own methods, and what it expects is compared with the frames that came.
// A vector whose steps no application can take with the client (raw bytes, odd headers) is left out and named.
import { createHmac } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import WebSocket from "ws";
import { Headgate, HeadgateError } from "../../dist/index.js";
import { differences, filled, saved } from "./shapes.mjs";

const SECRET = "vectors-only-0123456789abcdef0123456789abcdef";
const WITHIN_MS = 8_000;
const [folder, ...servers] = process.argv.slice(2);
const urls = Object.fromEntries(servers.map((server) => server.split("=")));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class LeftOut extends Error {}

// The client subscribes by frames, sends nothing before the welcome, and puts a token into the subprotocol.
const NOT_THE_CLIENTS = [
  "3 Opening: the order of the query binds for errors too",
  "1 Ways: any other frame before auth is 4401",
  "1 Ways: ?token= can be switched off",
  "3 Subscribe: the direct answer echoes id, a string or an integer", // its ids are its own
  "7 Limits: control frames above the rate are rate_limited and not obeyed, going on is 4503", // it stays below
];

function must(condition, why) {
  if (!condition) throw new LeftOut(why);
}

/** One client of a vector: the frames that came, and what the application was given. */
class Actor {
  constructor(options) {
    this.frames = [];
    this.given = [];
    this.ends = [];
    this.closes = [];
    this.client = new Headgate({ firstDelayMs: 60_000, ...options, WebSocket });
    const inner = this.client._connection; // private: a tap, so that a vector sees every frame
    const onFrame = inner._onFrame.bind(inner);
    inner._onFrame = (frame, bytes) => {
      this.frames.push(frame);
      onFrame(frame, bytes);
    };
    const onClosed = inner._onClosed.bind(inner);
    inner._onClosed = (code, pause) => {
      this.closes.push(code);
      onClosed(code, pause);
    };
    this.client.on("state", (_, error) => error && this.ends.push(error.code));
    this.taken = 0;
    this.subs = new Map();
  }

  follow(topic_id, from, presence, ack) {
    const sub = this.client.subscribe(topic_id, {
      ...(from !== undefined && { from }),
      ...(presence !== undefined && { presence }),
      ...(ack && { ack: "manual" }),
      onMessage: (message) => void this.given.push(message.message_id),
      onEnd: (error) => error && this.ends.push(error.code),
    });
    this.subs.set(topic_id, sub);
  }

  async next(withinMs = WITHIN_MS, orClosed = false) {
    const none = () => this.frames.length <= this.taken && !(orClosed && this.closes.length);
    for (const until = Date.now() + withinMs; none() && Date.now() < until; ) await sleep(5);
    return this.frames[this.taken++] ?? null;
  }

  /** The promise of the client: the application was given every message that came, in order. */
  async check() {
    await sleep(20);
    const came = this.frames.filter(({ type }) => type === "message").map(({ message_id }) => message_id);
    const lists = `${JSON.stringify(this.given)}, came ${JSON.stringify(came)}`;
    if (JSON.stringify(this.given.slice().sort()) !== JSON.stringify(came.slice().sort())) throw new Error(`given ${lists}`);
  }
}

class Run {
  constructor(file, vector) {
    this.url = urls[vector.server ?? file.server];
    must(this.url, "another server");
    must(!NOT_THE_CLIENTS.includes(vector.rule), "not a rule for this client");
    const run = Math.random().toString(36).slice(2);
    this.names = { run, now_ms: Date.now(), host: new URL(this.url).host };
    for (const n of ["", 2, 3, 4]) this.names[`topic${n}`] = `t-${run}${n}`;
    for (const [name, spec] of Object.entries(file.tokens ?? {})) {
      this.names[`user:${name}`] = `${spec.sub ?? name}-${run}`;
    }
    for (const [name, spec] of Object.entries(file.tokens ?? {})) {
      const get = () => signed(filled(spec, this.names), this.names[`user:${name}`]); // new at each use
      Object.defineProperty(this.names, `token:${name}`, { get, enumerable: false });
    }
    this.actors = [];
    this.named = {}; // sockets and streams have names of their own
  }

  async steps(steps) {
    try {
      for (const step of steps) {
        const kind = Object.keys(step).find((name) => name in this);
        must(kind, `a step ${Object.keys(step)[0]}`);
        await this[kind](filled(step, this.names, kind === "frame" || kind === "frames"));
      }
      for (const actor of this.actors) await actor.check();
    } finally {
      for (const { client } of this.actors) client.close();
    }
  }

  async http(step) {
    const known = ["http", "json", "as", "status", "problem", "answer", "save", "headers"];
    must(Object.keys(step).every((name) => known.includes(name)), "a request that no client sends");
    must(!Object.keys(step.headers ?? {}).some((name) => !/^(Idempotency-Key|X-Headgate-User)$/.test(name)), "odd headers");
    const token = step.as && this.names[`token:${step.as}`];
    const [method, target] = step.http.split(" ");
    const device_id = /\/inbox/.test(target) && (step.json?.device_id ?? new URL(target, this.url).searchParams.get("device_id"));
    const user = /\/inbox/.test(target) && new URL(target, this.url).searchParams.get("user");
    const who = { ...(token && { token }), ...(user && { user }), ...(typeof device_id === "string" && { device_id }) };
    const client = new Headgate({ url: this.url, ...who });
    must(method !== "HEAD", "a request that no client sends");
    let got;
    let status = 200;
    try {
      got = await this.request(client, method, target, step);
    } catch (error) {
      if (!(error instanceof HeadgateError)) throw error;
      got = error.problem;
      status = error.status;
      if (step.problem ? error.code !== step.problem : status !== step.status) throw error;
    }
    if (step.problem && status === 200) throw new Error(`${step.http} was not refused with ${step.problem}`);
    if (step.answer) agree(got, step.answer, step.http);
    Object.assign(this.names, saved(step.save, got));
  }

  async request(client, method, target, step) {
    const [path, query] = target.split("?");
    const inbox = this.inbox(client, `${method} ${path}`, Object.fromEntries(new URLSearchParams(query)), step.json);
    if (inbox && !step.headers) return inbox();
    const publishes = /^\/api\/v1\/topics\/([^/]+)\/publish$/.exec(path);
    const waits = new URLSearchParams(query);
    const plain = step.json && typeof step.json === "object" && "payload" in step.json && !step.headers;
    if (!publishes || method !== "POST" || !plain || [...waits.keys()].some((name) => name !== "wait")) {
      return client.call(method, target, { body: step.json, headers: step.headers });
    }
    const { payload, ...options } = step.json; // by the client's publish, as an application would
    return client.publish(decodeURIComponent(publishes[1]), payload, { ...options, wait: waits.get("wait") ?? "accepted", timeoutMs: 1 });
  }

  /** The inbox by the client's own methods, where an application could ask so. */
  inbox(client, what, { device_id: _, user: __, ...query }, json) {
    const { topic_id, seq, kind } = json ?? {};
    if (what === "GET /api/v1/inbox") return () => client.inbox(query);
    if (what === "GET /api/v1/inbox/messages") return () => client.inboxMessages(query);
    const typed = typeof topic_id === "string" && Number.isInteger(seq) && /^(delivered|read)$/.test(kind);
    return what === "POST /api/v1/inbox/ack" && typed && (() => client.ackInbox(topic_id, seq, kind));
  }

  ws(step) {
    must(!["refused", "selected", "subprotocols", "headers"].some((name) => name in step), "a handshake that no client makes");
    this.opens(step, step.ws, /^\/(ws\/subscribe|connect)$/, { transport: "websocket" });
  }

  async sse(step) {
    must(!("headers_are" in step) && !("answer" in step) && !("status" in step), "a look at the head of a stream");
    const header = step.headers?.["Last-Event-ID"];
    must(!step.headers || header, "odd headers");
    const actor = this.opens(step, step.sse, /^\/(sse\/subscribe|api\/v1\/topics\/[^/]+\/subscribe)$/, { transport: "sse" }, header);
    if (!step.problem) return;
    for (const until = Date.now() + WITHIN_MS; !actor.ends.length && Date.now() < until; ) await sleep(5);
    const code = step.problem === "token_expired" ? "unauthenticated" : step.problem;
    if (!actor.ends.includes(code)) throw new Error(`ended with ${actor.ends}, not ${code}`);
    actor.client.close();
  }

  opens(step, target, path, options, header) {
    const { pathname, searchParams } = new URL(target, this.url);
    must(path.test(pathname), "another path");
    const known = ["topic_id", "from", "presence", "ack", "device_id", "ticket", "token", "user", "last_event_id"];
    must([...searchParams.keys()].every((name) => known.includes(name)), "an unknown query");
    must(!(step.as && (searchParams.has("token") || searchParams.has("ticket"))), "two credentials");
    must(!(searchParams.has("token") && searchParams.has("ticket")), "two credentials");
    const token = step.as ? this.names[`token:${step.as}`] : searchParams.get("token");
    must(!token || /^[\w.-]+$/.test(token), "a token that no subprotocol can carry");
    const [ticket, user, device_id] = ["ticket", "user", "device_id"].map((name) => searchParams.get(name));
    const who = { ...(token && { token }), ...(ticket && { ticket }), ...(user && { user }), ...(device_id && { device_id }) };
    const actor = new Actor({ url: this.url, ...who, ...options });
    this.named[`${options.transport} ${step.on ?? "a"}`] = actor;
    this.actors.push(actor);
    const topics = searchParams.getAll("topic_id");
    const inPath = /^\/api\/v1\/topics\/([^/]+)\/subscribe$/.exec(pathname)?.[1];
    const from = fromOf(header ?? searchParams.get("last_event_id") ?? searchParams.get("from"));
    const presence = searchParams.has("presence") ? searchParams.get("presence") === "true" : undefined;
    must(new Set(topics).size === topics.length && topics.length + (inPath ? 1 : 0) >= (options.transport === "sse" ? 1 : 0), "no topic, or one twice");
    for (const topic of inPath ? [decodeURIComponent(inPath)] : topics) actor.follow(topic, from, presence, searchParams.get("ack") === "true");
    actor.client.connect();
    return actor;
  }

  async send({ send, on = "a" }) {
    const actor = this.socket(on);
    const { type, id: _, topic_id, from, presence, ack, ...rest } = send;
    const sub = actor.subs.get(topic_id);
    const quiet = (promise) => void promise.catch(() => {});
    const inner = actor.client._connection;
    if (type === "subscribe" && typeof topic_id === "string" && topic_id && !Object.keys(rest).length) {
      must(sub === undefined || sub.state === "ended", "the client refuses a second subscription itself");
      must([presence, ack].every((flag) => flag === undefined || typeof flag === "boolean"), "a wrong type");
      actor.follow(topic_id, from, presence, ack);
    } else if (type === "unsubscribe" && sub) sub.close();
    else if (type === "presence" && sub) quiet(sub.presence());
    else if (type === "typing" && sub && !("id" in send)) sub.typing();
    else if (type === "read" && sub && "id" in send && Number.isInteger(send.seq)) quiet(sub.markRead(send.seq));
    else if (type === "refresh" && typeof send.token === "string") actor.client.setToken(send.token);
    else if (type === "status" && "id" in send === false && typeof send.state === "string") actor.client.status(send.state);
    else {
      must(typeof type === "string" && !/^(subscribe|auth|refresh)$/.test(type), `a frame ${type} that no method sends`);
      const { id, ...frame } = send; // as the methods of a subscription send theirs
      if (id === undefined) inner.send(frame);
      else quiet(inner.request(frame));
    }
  }

  async frame(step) {
    await this.frames({ ...step, frames: [step.frame] });
  }

  async frames({ frames, on = "a", within_s = 8, save }) {
    for (const shape of frames) {
      const frame = await this.socket(on).next(within_s * 1000);
      agree(frame, withoutId(shape), "frame");
      Object.assign(this.names, saved(save, frame));
    }
  }

  async unordered({ unordered, on = "a" }) {
    const left = [...unordered];
    for (const _ of unordered) {
      const frame = await this.socket(on).next();
      const at = left.findIndex((shape) => !differences(frame, withoutId(shape)).length);
      if (at < 0) throw new Error(`unexpected ${JSON.stringify(frame)}`);
      left.splice(at, 1);
    }
  }

  async event({ event, data = {}, on = "a", within_s = 8, save }) {
    const stream = this.stream(on);
    const frame = await stream.next(within_s * 1000, event === "disconnect");
    if (event === "disconnect" && (stream.closes.includes(data.code) || frame?.code === "connection_lost")) return;
    agree(frame, { ...data, type: event }, "event");
    Object.assign(this.names, saved(save, frame));
  }

  async closed({ closed, on = "a", within_s = 8 }) {
    const actor = this.socket(on);
    for (const until = Date.now() + within_s * 1000; !actor.closes.length && Date.now() < until; ) await sleep(5);
    if (actor.closes[0] !== closed) throw new Error(`closed with ${actor.closes}, not ${closed}`);
  }

  async ended({ on = "a" }) {
    const { frames, taken } = this.stream(on);
    if (frames.length > taken) throw new Error("another event came");
  }

  async silence_ms({ silence_ms, on, stream }) {
    const actor = stream ? this.stream(stream) : this.socket(on ?? "a");
    await sleep(silence_ms);
    if (actor.frames.length > actor.taken) throw new Error(`came: ${JSON.stringify(actor.frames[actor.taken])}`);
  }

  async leave({ on = "a" }) {
    this.socket(on).client.close();
  }

  socket(name) {
    return this.named[`websocket ${name}`];
  }

  stream(name) {
    return this.named[`sse ${name}`];
  }

  async wait_ms({ wait_ms }) {
    await sleep(wait_ms);
  }
}

/** The client's frames have ids of its own. */
function withoutId({ id: _, ...shape }) {
  delete shape["<exact>"];
  return shape;
}

function agree(got, shape, what) {
  const found = differences(got, shape);
  if (found.length) throw new Error(`${what}: ${found.join("; ")}: ${JSON.stringify(got)}`);
}

function fromOf(text) {
  if (text === null || text === undefined) return undefined;
  if (/^(live|earliest|cursor)$/.test(text)) return text;
  const [, name, number] = /^(seq|ts|last|\d+):(\d+)$/.exec(text) ?? [];
  must(name, "a from that no type allows");
  return /^\d+$/.test(name) ? { epoch: Number(name), seq: Number(number) } : { [name]: Number(number) };
}

function signed(spec, sub) {
  if ("raw" in spec) return spec.raw;
  const claims = { sub, ...spec.claims };
  if (spec.sub === null) delete claims.sub;
  if (spec.exp_in !== null) claims.exp = Date.now() / 1000 + (spec.exp_in ?? 300);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: spec.alg ?? "HS256", typ: "JWT" })}.${part(claims)}`;
  if (spec.alg === "none") return `${text}.`;
  return `${text}.${createHmac("sha256", spec.secret ?? SECRET).update(text).digest("base64url")}`;
}

const told = { ran: 0, left_out: {}, failed: {} };
const pending = [];
for (const name of readdirSync(folder).filter((name) => name.endsWith(".json")).sort()) {
  const file = JSON.parse(readFileSync(join(folder, name), "utf8"));
  for (const vector of file.vectors) pending.push({ file, vector, rule: `${name}: ${vector.rule}` });
}
const all = [...pending];
async function work() {
  for (let next = pending.shift(); next; next = pending.shift()) {
    try {
      await new Run(next.file, next.vector).steps(next.vector.steps);
      told.ran += 1;
    } catch (error) {
      if (error instanceof LeftOut) told.left_out[next.rule] = error.message;
      else told.failed[next.rule] = String(error.stack ?? error);
    }
  }
}
await Promise.all(Array.from({ length: 16 }, work));
const again = Object.keys(told.failed); // tokens of a second beside fifteen others: what failed runs once more, alone
for (const { file, vector, rule } of all.filter(({ rule }) => again.includes(rule))) {
  delete told.failed[rule];
  pending.push({ file, vector, rule });
}
await work();
console.log(JSON.stringify(told));
process.exit(0);
