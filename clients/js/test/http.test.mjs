// Publishing, requests and event streams in a world without time.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { answer, HeadgateError, settle, World } from "./fake.mjs";

const published = (seq, more = {}) => answer(200, { message_id: `m-${seq}`, seq, epoch: 7, ...more });
const problem = (status, code, retryable, headers) => answer(status, { code, retryable, detail: "x", status }, headers);

test("one client_msg_id through all tries, and the echo ends with the seq", async () => {
  const world = new World();
  const client = world.client({ token: "abc" });
  const echoes = [];
  client.on("echo", ({ state, seq, client_msg_id }) => echoes.push([state, seq, client_msg_id]));
  const publishing = client.publish("a:b", { n: 1 }, { priority: "LOW" });
  assert.equal(publishing.client_msg_id, "uuid-1");
  assert.deepEqual(echoes, [["pending", undefined, "uuid-1"]], "shown at once");
  await settle();
  const [request] = world.requests;
  assert.equal(request.url.href, "http://server.test/api/v1/topics/a%3Ab/publish?wait=sequenced");
  assert.equal(request.headers.Authorization, "Bearer abc");
  assert.deepEqual(request.json, { payload: { n: 1 }, priority: "LOW", client_msg_id: "uuid-1" });
  request.reject(new TypeError("cut"));
  for (const refusal of [problem(504, "outcome_unknown", true), answer(502, undefined), problem(503, "not_ready", true, { "Retry-After": "2" })]) {
    await world.pass(60_000 / 8);
    world.requests.at(-1).resolve(refusal);
  }
  await settle();
  assert.ok(world.next >= 2_000, "Retry-After is honoured");
  await world.pass(20_000);
  world.requests.at(-1).resolve(published(9));
  assert.equal((await publishing).seq, 9);
  assert.deepEqual(new Set(world.requests.map(({ json }) => json.client_msg_id)), new Set(["uuid-1"]));
  assert.equal(world.requests.length, 5);
  assert.deepEqual(echoes.at(-1), ["published", 9, "uuid-1"]);
});

test("publishes to one topic keep their order, those to others do not wait, nor those that say so", async () => {
  const world = new World();
  const client = world.client();
  const done = [client.publish("a", 1), client.publish("a", 2), client.publish("b", 3), client.publish("a", 4, { ordered: false })];
  await settle();
  assert.deepEqual(world.requests.map(({ json }) => json.payload).sort(), [1, 3, 4]);
  world.requests.find(({ json }) => json.payload === 1).resolve(problem(403, "forbidden", false));
  await assert.rejects(done[0], { code: "forbidden", status: 403 });
  await settle();
  assert.deepEqual(world.requests.at(-1).json.payload, 2, "a refusal lets the next one pass");
});

test("a refusal ends it, a stale token is renewed once", async () => {
  const world = new World();
  let count = 0;
  const client = world.client({ token: () => `token-${(count += 1)}` });
  const publishing = client.publish("a", 1);
  await settle();
  world.requests[0].resolve(problem(401, "token_expired", false));
  await settle();
  assert.equal(world.requests[1].headers.Authorization, "Bearer token-2");
  world.requests[1].resolve(problem(401, "unauthenticated", false));
  await assert.rejects(publishing, { code: "unauthenticated" });
  const big = client.publish("a", 1);
  await settle();
  world.requests[2].resolve(problem(413, "too_large", false));
  await assert.rejects(big, { code: "too_large", status: 413, retryable: false });
});

test("after its time it is outcome_unknown where a try may have been heard, else the last refusal", async () => {
  for (const [first, code] of [[problem(504, "outcome_unknown", true), "outcome_unknown"], [problem(503, "not_ready", true), "not_ready"]]) {
    const world = new World();
    const client = world.client();
    const echoes = [];
    client.on("echo", ({ state }) => echoes.push(state));
    const rejected = assert.rejects(client.publish("a", 1, { timeoutMs: 3_000 }), { code });
    await settle();
    world.requests[0].resolve(first);
    for (let step = 0; step < 10; step += 1) {
      await world.pass(500);
      world.requests.at(-1).resolve(problem(503, "not_ready", true));
    }
    await rejected;
    assert.deepEqual(echoes, ["pending", "failed"]);
  }
});

test("without a network it waits for it, with few tries, and goes on at once", async () => {
  const world = new World();
  const client = world.client();
  const publishing = client.publish("a", 1);
  world.isOffline = true;
  await settle();
  world.requests[0].reject(new TypeError("no network"));
  await world.pass(30_000);
  assert.equal(world.requests.length, 1);
  await world.pass(1_000);
  assert.equal(world.requests.length, 2, "the browser may be wrong");
  world.requests[1].reject(new TypeError("no network"));
  await settle();
  world.isOffline = false;
  world.page("online");
  await settle();
  world.requests[2].resolve(published(1));
  assert.equal((await publishing).seq, 1);
});

test("publishes are bounded by count and by bytes; a closed client tries nothing again", async () => {
  const world = new World();
  const client = world.client({ publishMessages: 3, publishBytes: 100 });
  const waiting = [1, 2, 3].map((n) => client.publish("a", n));
  await assert.rejects(client.publish("a", 4), { code: "queue_full", retryable: true });
  const one = new World();
  const again = one.client({ publishMessages: 1, publishBytes: 2 });
  for (let seq = 1; seq <= 3; seq += 1) {
    const publishing = again.publish("a", 10);
    await settle();
    one.requests.at(-1).resolve(published(seq));
    assert.equal((await publishing).seq, seq);
  }
  const small = new World().client({ publishBytes: 100 });
  await assert.rejects(small.publish("a", "x".repeat(100)), { code: "queue_full" });
  await settle();
  client.close();
  world.requests[0].resolve(problem(503, "not_ready", true));
  for (const one of waiting) await assert.rejects(one, (error) => ["not_ready", "closed"].includes(error.code));
  assert.equal(world.timers.size, 0, "nothing keeps the process alive");
  await assert.rejects(client.publish("a", 4), { code: "closed" });
});

test("a try that hangs is given up and made again", async () => {
  const world = new World();
  const publishing = world.client().publish("a", 1);
  await world.pass(20_000);
  await world.pass(1_000);
  assert.equal(world.requests.length, 2);
  world.requests[1].resolve(published(1));
  await publishing;
});

test("call: any request, with its problem", async () => {
  const world = new World();
  const client = world.client({ user: "ann" });
  const called = client.call("PUT", "/api/v1/topics/t/members/bob", { body: { role: "member" }, headers: { "Idempotency-Key": "k" } });
  await settle();
  assert.equal(world.requests[0].headers["X-Headgate-User"], "ann");
  assert.equal(world.requests[0].headers["Idempotency-Key"], "k");
  world.requests[0].resolve(problem(403, "forbidden", false));
  await assert.rejects(called, (error) => error instanceof HeadgateError && error.problem.detail === "x");
  const deleted = client.call("DELETE", "/api/v1/topics/t");
  await settle();
  world.requests[1].resolve({ ok: true, status: 204, text: async () => "" });
  assert.equal(await deleted, undefined);
});

/** The answer of a stream, and what writes to it. */
function stream() {
  let controller;
  const body = new ReadableStream({ start: (one) => void (controller = one) });
  const say = (event, data, id = "") => controller.enqueue(new TextEncoder().encode(`${event ? `event: ${event}\n` : ""}${id}data: ${JSON.stringify(data)}\n\n`));
  return {
    answer: { ok: true, status: 200, body, headers: new Headers() },
    say,
    begin(topic_id, more = {}) {
      say("welcome", { connection_id: "c", user_id: "ann" });
      say("subscribed", { topic_id, profile: "durable", epoch: 7, seq: 0, first_seq: 1, ...more });
    },
    message: (topic_id, seq) => say("", { topic_id, seq, ts: 0, message_id: `m-${seq}`, publisher_id: "bob", payload: seq }),
    end: () => controller.close(),
    cut: () => controller.error(new Error("cut")),
  };
}

test("where WebSockets are blocked the topics are event streams, and a WebSocket is tried again later", async () => {
  const world = new World();
  const client = world.client({ token: "abc" });
  const got = [];
  const ends = [];
  for (const topic_id of ["a", "b"]) client.subscribe(topic_id, { from: { last: 2 }, presence: false, onMessage: (one) => void got.push(`${topic_id}${one.seq}`), onEnd: (error) => ends.push(error?.code) });
  for (let failure = 0; failure < 2; failure += 1) {
    await settle();
    world.socket.end(1006);
    await world.pass(world.next);
  }
  assert.equal(world.sockets.length, 2);
  assert.equal(world.requests[0].url.href, "http://server.test/sse/subscribe?topic_id=a&from=last%3A2&presence=false");
  assert.equal(world.requests[0].headers.Authorization, "Bearer abc");
  const [a, b] = [stream(), stream()];
  world.requests[0].resolve(a.answer);
  world.requests[1].resolve(b.answer);
  a.begin("a");
  b.begin("b");
  a.message("a", 1);
  b.message("b", 1);
  await settle();
  assert.deepEqual([got, world.states.at(-1), client.user_id], [["a1", "b1"], "open", "ann"]);
  b.cut();
  await settle();
  await world.pass(1_000);
  assert.equal(world.requests[2].url.searchParams.get("from"), "7:1", "one cut stream is asked again at its position");
  const again = stream();
  world.requests[2].resolve(again.answer);
  again.begin("b", { resumed: true });
  again.message("b", 2);
  a.say("disconnect", { code: 4503, reason: "draining", reconnect: true, retry_after_ms: 3_000 });
  a.end();
  await world.pass(2_500);
  assert.equal(world.requests.length, 3);
  await world.pass(1_500);
  assert.equal(world.requests[3].url.searchParams.get("from"), "7:1");
  world.requests[3].resolve(problem(403, "forbidden", false));
  await settle();
  assert.deepEqual([got, ends], [["a1", "b1", "b2"], ["forbidden"]]);
  again.cut();
  await settle();
  assert.equal(world.states.at(-1), "waiting", "no stream is left");
  await world.pass(world.next);
  assert.equal(world.sockets.length, 3, "the next try is a WebSocket");
  await world.welcome();
  assert.deepEqual(world.socket.last("subscribe").from, { epoch: 7, seq: 2 });
});

test("event streams: close codes of the whole client, leaving, and what needs a WebSocket", async () => {
  let count = 0;
  const world = new World();
  const client = world.client({ transport: "sse", token: () => `token-${(count += 1)}` });
  const sub = client.subscribe("a");
  await settle();
  const one = stream();
  world.requests[0].resolve(one.answer);
  one.begin("a");
  await settle();
  await assert.rejects(sub.presence(), { code: "needs_websocket" });
  one.say("disconnect", { code: 4610, reason: "token_expired", reconnect: true });
  await world.pass(0);
  assert.equal(world.requests[1].headers.Authorization, "Bearer token-2");
  const two = stream();
  world.requests[1].resolve(two.answer);
  two.begin("a", { resumed: true });
  await settle();
  sub.close();
  await settle();
  assert.ok(world.requests[1].signal.aborted);
  client.subscribe("a");
  await settle();
  world.requests[2].resolve(problem(401, "unauthenticated", false));
  await world.pass(0);
  world.requests[3].resolve(problem(401, "unauthenticated", false));
  await settle();
  assert.equal(world.states.at(-1), "stopped unauthenticated");
});

test("event streams: an end by the server is an end, not a cut", async () => {
  const world = new World();
  const ends = [];
  world.client({ transport: "sse" }).subscribe("a", { onMessage: () => {}, onEnd: (error) => ends.push(error.code) });
  await settle();
  const one = stream();
  world.requests[0].resolve(one.answer);
  one.begin("a");
  one.say("unsubscribed", { topic_id: "a", reason: "deleted" });
  one.end();
  await settle();
  assert.deepEqual([ends, world.states.at(-1), world.errors], [["deleted"], "open", []]);
});

test("event streams: a ticket is fetched for each stream", async () => {
  let count = 0;
  const world = new World();
  const client = world.client({ transport: "sse", ticket: () => `ticket-${(count += 1)}` });
  for (const topic_id of ["a", "b"]) client.subscribe(topic_id);
  await settle();
  assert.deepEqual(world.requests.map(({ url }) => url.searchParams.get("ticket")).sort(), ["ticket-1", "ticket-2"]);
});

test("an event stream in which nothing comes is dead", async () => {
  const world = new World();
  world.client({ transport: "sse" }).subscribe("a");
  await settle();
  const one = stream();
  world.requests[0].resolve(one.answer);
  one.begin("a");
  await world.pass(44_000);
  assert.ok(!world.requests[0].signal.aborted);
  await world.pass(2_000);
  assert.ok(world.requests[0].signal.aborted);
});

test("an event stream beside others whose answer does not come is given up and asked again", async () => {
  const world = new World();
  const client = world.client({ transport: "sse" });
  client.subscribe("a");
  await settle();
  const one = stream();
  world.requests[0].resolve(one.answer);
  one.begin("a");
  client.subscribe("b");
  await settle();
  await world.pass(40_000);
  one.message("a", 1);
  assert.ok(!world.requests[1].signal.aborted);
  await world.pass(6_000);
  assert.ok(world.requests[1].signal.aborted);
  assert.deepEqual([world.requests.length, world.requests.at(-1).url.searchParams.get("topic_id")], [3, "b"]);
});

test("acknowledged subscriptions stay with WebSockets", async () => {
  const world = new World();
  world.client().subscribe("a", { ack: true, onMessage: () => {} });
  for (let failure = 0; failure < 4; failure += 1) {
    await settle();
    world.socket.end(1006);
    await world.pass(world.next);
  }
  assert.deepEqual([world.sockets.length, world.requests.length], [5, 0]);
});

test("the inbox: pages, missed messages, cursors and read marks, for this device", async () => {
  const world = new World();
  const client = world.client({ device_id: "phone" });
  const page = client.inbox({ limit: 2, page: "p2" });
  await settle();
  assert.equal(world.requests[0].url.search, "?device_id=phone&limit=2&page=p2");
  assert.equal(world.requests[0].url.pathname, "/api/v1/inbox");
  const topics = [{ topic_id: "t", epoch: 7, mode: "direct", head_seq: 9, cursor_seq: 7, read_seq: 4, unread: 5 }];
  world.requests[0].resolve(answer(200, { topics, next_page: null }));
  assert.deepEqual(await page, { topics, next_page: null });
  const missed = client.inboxMessages({ limit: 5 });
  await settle();
  world.requests[1].resolve(answer(503, { code: "not_ready", retryable: true }));
  await world.pass(1_000);
  assert.equal(world.requests[2].url.href, "http://server.test/api/v1/inbox/messages?device_id=phone&limit=5");
  world.requests[2].resolve(answer(200, { messages: [{ seq: 8 }], more: false }));
  assert.deepEqual(await missed, { messages: [{ seq: 8 }], more: false });
  const done = [client.ackInbox("t", 8), client.markRead("t", 7)];
  await settle();
  const bodies = [{ device_id: "phone", topic_id: "t", seq: 8, kind: "delivered" }, { device_id: "phone", topic_id: "t", seq: 7, kind: "read" }];
  assert.deepEqual(world.requests.slice(3).map(({ json }) => json), bodies);
  for (const { resolve, method, url } of world.requests.slice(3)) {
    assert.equal(`${method} ${url.pathname}`, "POST /api/v1/inbox/ack");
    resolve({ ...answer(204), text: async () => "" });
  }
  assert.deepEqual(await Promise.all(done), [undefined, undefined]);
  const refused = client.markRead("t", 1);
  await settle();
  world.requests.at(-1).resolve(answer(404, { code: "topic_not_found", retryable: false }));
  await assert.rejects(refused, { code: "topic_not_found" });
});

test("the minified file is below 10 KB gzipped and says so in the README; the package has no dependencies", () => {
  const size = gzipSync(readFileSync("dist/headgate-client.min.js"), { level: 9 }).length;
  assert.ok(size < 10_000, `${size} bytes`);
  const said = Number(/([\d,]+) bytes gzipped/.exec(readFileSync("README.md", "utf8"))[1].replace(",", ""));
  assert.ok(Math.abs(said - size) <= 100, `the README says ${said}, it is ${size}`);
  assert.equal(JSON.parse(readFileSync("package.json", "utf8")).dependencies, undefined);
});

test("house style: files of at most 400 lines that begin with what they are", () => {
  for (const name of readdirSync("src")) {
    const text = readFileSync(`src/${name}`, "utf8");
    assert.ok(text.startsWith("/**"), name);
    assert.ok(text.split("\n").length <= 400, name);
  }
});
