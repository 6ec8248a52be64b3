// The client in a world without time: connection, resume, gaps, acknowledgements, bounds, credentials.
import assert from "node:assert/strict";
import { test } from "node:test";
import { answer, Headgate, message, minified, settle, World } from "./fake.mjs";

/** A world with one followed topic, granted; `got` collects the payloads that the application was given. */
async function following(options = {}, clientOptions = {}, worldOptions = {}) {
  const world = new World(worldOptions);
  const client = world.client(clientOptions);
  const got = [];
  const gaps = [];
  const ends = [];
  const sub = client.subscribe("t", {
    onMessage: (one) => void got.push(one.payload),
    onGap: (gap) => void gaps.push(gap),
    onEnd: (error) => ends.push(error?.code),
    ...options,
  });
  await world.welcome();
  world.socket.grant();
  await settle();
  return { world, client, sub, got, gaps, ends };
}

/** The connection is lost with a code and the next one is granted. */
async function reconnect(world, code, grant = { resumed: true }) {
  const { length } = world.sockets;
  world.socket.end(code);
  while (world.sockets.length === length) await world.pass(world.next);
  await world.welcome();
  world.socket.grant(grant);
  await settle();
}

test("a lost connection is resumed at the position, and repeats are dropped", async () => {
  const { world, got, client } = await following({ from: "earliest" });
  assert.deepEqual(world.socket.last("subscribe"), { type: "subscribe", id: "c1", topic_id: "t", from: "earliest" });
  world.socket.messages("t", 1, 3);
  await reconnect(world, 1006);
  assert.deepEqual(world.socket.last("subscribe").from, { epoch: 7, seq: 3 });
  world.socket.messages("t", 2, 5);
  await settle();
  assert.deepEqual(got, [1, 2, 3, 4, 5]);
  assert.deepEqual(world.states, ["fetching", "opening", "open", "waiting", "fetching", "opening", "open"]);
  client.close();
  assert.equal(world.states.at(-1), "closed");
  await world.pass(120_000);
  assert.equal(world.sockets.length, 2);
});

test("a connection that is lost before the first message loses none", async () => {
  const { world, got } = await following();
  world.socket.end(1006);
  await world.pass(5_000);
  await world.welcome();
  assert.deepEqual(world.socket.last("subscribe").from, { epoch: 7, seq: 0 });
  world.socket.grant({ resumed: true, seq: 2 });
  world.socket.messages("t", 1, 2);
  await settle();
  assert.deepEqual(got, [1, 2]);
});

test("close codes: stop, back off with full jitter and retry_after_ms, at once", async () => {
  for (const code of [1002, 1009, 4400, 4403, 4409]) {
    const { world, ends } = await following();
    world.socket.end(code);
    await world.pass(120_000);
    assert.equal(world.sockets.length, 1, code);
    assert.deepEqual(world.states.at(-1), "stopped stopped");
    assert.deepEqual(ends, ["stopped"]);
  }
  for (const [code, retryAfter, pause] of [[1006, 0, 1400], [4503, 4000, 5400], [4529, 0, 1400], [4601, 700, 700], [4602, 0, 0]]) {
    const { world } = await following();
    await world.pass(2_000);
    world.socket.say({ type: "disconnect", code, reason: "x", reconnect: true, retry_after_ms: retryAfter });
    assert.equal(world.next, pause, code);
  }
});

test("at once is not at once again and again", async () => {
  const { world } = await following();
  await world.pass(2_000);
  world.socket.end(4601);
  await world.pass(0);
  await world.welcome();
  world.socket.end(4601);
  assert.equal(world.next, 1400);
});

test("the back-off grows until a connection has lasted", async () => {
  const { world } = await following();
  const pauses = [];
  for (let round = 0; round < 6; round += 1) {
    world.socket.end(1006);
    pauses.push(world.next);
    await world.pass(world.next);
  }
  assert.deepEqual(pauses, [1400, 2800, 5600, 11200, 15000, 15000]);
  await world.welcome();
  await world.pass(10_000);
  world.socket.end(1006);
  assert.equal(world.next, 1400);
});

test("several gateways are tried in turn in each window", async () => {
  const { world } = await following({}, { streamUrl: ["https://a.test/x/", "https://b.test"] });
  assert.equal(world.socket.url.href, "wss://a.test/x/ws/subscribe");
  world.socket.end(1006);
  assert.equal(world.next, 1400);
  await world.pass(1400);
  assert.equal(world.socket.url.host, "b.test");
  world.socket.end(1006);
  assert.equal(world.next, 1400);
});

test("a connection that is silent is asked, and one that does not answer is dead", async () => {
  const { world } = await following();
  await world.pass(24_000);
  world.socket.messages("t", 1);
  await world.pass(24_000);
  assert.equal(world.socket.of("ping").length, 0);
  await world.pass(1_500);
  assert.equal(world.socket.of("ping").length, 1);
  world.socket.say({ type: "pong" });
  await world.pass(25_000);
  assert.equal(world.socket.of("ping").length, 2);
  await world.pass(5_000);
  assert.ok(world.socket.closed);
  assert.equal(world.states.at(-1), "waiting");
});

test("a socket that never opens is given up after the deadline", async () => {
  const world = new World();
  world.client({ transport: "websocket" }).connect();
  await world.pass(10_000);
  assert.ok(world.sockets[0].closed);
  await world.pass(1_500);
  assert.equal(world.sockets.length, 2);
});

test("offline: few tries until the browser is online; visible: a try at once; both ask an open connection", async () => {
  const { world } = await following();
  world.page("visible");
  assert.equal(world.socket.of("ping").length, 1);
  world.socket.say({ type: "pong" });
  world.isOffline = true;
  world.page("offline");
  assert.equal(world.socket.of("ping").length, 2);
  await world.pass(5_000);
  assert.equal(world.states.at(-1), "offline");
  world.page("visible");
  await world.pass(30_000);
  assert.equal(world.sockets.length, 1);
  await world.pass(2_000);
  assert.equal(world.sockets.length, 2, "the browser may be wrong");
  world.socket.end(1006);
  await world.pass(30_000);
  assert.deepEqual([world.states.at(-1), world.sockets.length], ["offline", 2]);
  world.isOffline = false;
  world.page("online");
  await settle();
  assert.equal(world.sockets.length, 3);
  world.socket.end(1006);
  world.page("visible");
  await settle();
  assert.equal(world.sockets.length, 4);
});

test("a page that becomes visible does not come before the server wants it", async () => {
  const { world } = await following();
  world.socket.say({ type: "disconnect", code: 4503, reconnect: true, retry_after_ms: 4_000 });
  world.page("visible");
  await world.pass(3_900);
  assert.equal(world.sockets.length, 1);
  await world.pass(100);
  world.page("visible");
  await settle();
  assert.equal(world.sockets.length, 2);
});

test("a gap is told in its place, and refetched there through history", async () => {
  const order = [];
  const options = {
    onMessage: ({ seq }) => void order.push(seq),
    onGap: (gap) => (order.push(`gap ${gap.from_seq}-${gap.to_seq} ${gap.reason}`), gap.recoverable ? gap.refetch() : undefined),
  };
  const { world } = await following(options);
  world.socket.messages("t", 1, 2);
  world.socket.say({ type: "gap", topic_id: "t", from_seq: 3, to_seq: 5, count: 3, reason: "slow_consumer", recoverable: true });
  world.socket.messages("t", 6);
  world.socket.messages("t", 8); // 7 is left out, against the promise
  world.socket.say({ type: "gap", topic_id: "t", from_seq: 9, to_seq: 9, count: 1, reason: "retention", recoverable: false });
  await settle();
  assert.deepEqual(order, [1, 2, "gap 3-5 slow_consumer"], "what follows waits");
  assert.equal(world.requests[0].url.href, "http://server.test/api/v1/topics/t/messages?after_seq=2&limit=3");
  world.requests[0].resolve(answer(503, { code: "not_ready", retryable: true }, { "Retry-After": "1" }));
  await world.pass(3_000);
  world.requests[1].resolve(answer(200, { messages: [3, 4].map((seq) => message("t", seq)) }));
  await settle();
  assert.equal(world.requests[2].url.searchParams.get("after_seq"), "4");
  world.requests[2].resolve(answer(200, { messages: [message("t", 5)] }));
  await settle();
  world.requests[3].resolve(answer(200, { messages: [message("t", 7)] }));
  await settle();
  world.socket.say({ type: "gap", topic_id: "t", from_seq: 3, to_seq: 5, count: 3, reason: "slow_consumer", recoverable: true });
  await settle();
  assert.deepEqual(order, [1, 2, "gap 3-5 slow_consumer", 3, 4, 5, 6, "gap 7-7 missing", 7, 8, "gap 9-9 retention"]);
  await reconnect(world, 1006);
  assert.deepEqual(world.socket.last("subscribe").from, { epoch: 7, seq: 9 });
});

test("a gap is refetched until history is complete, and what it no longer has is told", async () => {
  const { world, got } = await following({ onGap: (gap) => gap.refetch() });
  const reply = (seqs, more = {}) => world.requests.at(-1).resolve(answer(200, { messages: seqs.map((seq) => message("t", seq)), complete: true, ...more }));
  world.socket.say({ type: "gap", topic_id: "t", from_seq: 1, to_seq: 6, count: 6, reason: "slow_consumer", recoverable: true });
  world.socket.messages("t", 7);
  await settle();
  reply([], { complete: false });
  await world.pass(1_000);
  reply([5], { complete: false });
  await world.pass(2_000);
  assert.deepEqual([got, world.requests.length], [[], 3]);
  reply([2, 3, 5]); // 1 and 4 are gone
  await settle();
  assert.equal(world.requests[3].url.search, "?after_seq=5&limit=1");
  reply([8]);
  await settle();
  assert.deepEqual(got, [2, 3, 5, 7]);
  const told = ["1 to 1", "4 to 4", "6 to 6"].map((numbers) => `HeadgateError: gone: history has no messages ${numbers}`);
  assert.deepEqual(world.errors.map(String), told);
  world.socket.say({ type: "gap", topic_id: "t", from_seq: 8, to_seq: 9, count: 2, reason: "slow_consumer", recoverable: true });
  await settle();
  reply([]);
  await settle();
  assert.equal(String(world.errors.at(-1)), "HeadgateError: gone: history has no messages 8 to 9");
  world.socket.say({ type: "gap", topic_id: "t", from_seq: 10, to_seq: 10, count: 1, reason: "slow_consumer", recoverable: true });
  for (let tries = 0; tries < 70; tries += 1) {
    await world.pass(1_000);
    reply([], { complete: false });
  }
  await settle();
  assert.equal(world.errors.at(-1).code, "not_ready", "after a minute it is given up");
});

test("a topic that began anew is told as a gap, and its messages come", async () => {
  const { world, got, gaps, sub } = await following();
  world.socket.messages("t", 1, 2);
  await reconnect(world, 1006, { epoch: 8, seq: 1, resumed: false, reason: "epoch_changed" });
  world.socket.messages("t", 1, 2);
  await settle();
  assert.deepEqual(got, [1, 2, 1, 2]);
  assert.deepEqual(gaps.map(({ reason, from_seq }) => [reason, from_seq]), [["epoch_changed", 3]]);
  assert.deepEqual(sub.position, { epoch: 8, seq: 2 });
});

test("the iterator: one consumer, leaving the loop unsubscribes, the end by the server is thrown", async () => {
  const { world, client, sub } = await following({ onMessage: undefined });
  world.socket.messages("t", 1, 3);
  for await (const { seq } of sub) if (seq === 2) break;
  assert.deepEqual(sub.position, { epoch: 7, seq: 2 });
  assert.equal(world.socket.last("unsubscribe").topic_id, "t");
  assert.throws(() => sub[Symbol.asyncIterator](), /one consumer/);
  const again = client.subscribe("t", { from: "earliest" });
  await settle();
  assert.equal(world.socket.of("subscribe").length, 1, "not before the server has answered");
  world.socket.messages("t", 4);
  world.socket.say({ type: "unsubscribed", topic_id: "t", reason: "ended" }); // of the one before
  world.socket.say({ type: "unsubscribed", id: world.socket.last("unsubscribe").id, topic_id: "t", reason: "requested" });
  await settle();
  world.socket.grant({ seq: 4 });
  world.socket.messages("t", 1);
  world.socket.say({ type: "unsubscribed", topic_id: "t", reason: "forbidden" });
  const seen = [];
  await assert.rejects(async () => {
    for await (const { seq } of again) seen.push(seq);
  }, { code: "forbidden" });
  assert.deepEqual(seen, [1], "what was there before the end is handed over");
});

test("a subscribe that is refused: for good it ends, else it is asked again", async () => {
  const { world, ends } = await following();
  world.socket.end(1006);
  await world.pass(3_000);
  await world.welcome();
  const refuse = (more) => world.socket.say({ type: "error", id: world.socket.last("subscribe").id, topic_id: "t", message: "", ...more });
  refuse({ code: "not_ready", retryable: true, retry_after_ms: 2_000 });
  await world.pass(2_400);
  assert.equal(world.socket.of("subscribe").length, 1);
  await world.pass(200);
  assert.equal(world.socket.of("subscribe").length, 2);
  refuse({ code: "forbidden", retryable: false });
  assert.deepEqual(ends, ["forbidden"]);
});

test("a full queue: unsubscribed, and asked for again at its position when half of it is free", async () => {
  const { world, sub } = await following({ onMessage: undefined, queueMessages: 10 });
  world.socket.messages("t", 1, 15);
  assert.equal(sub.state, "paused");
  assert.equal(world.socket.of("unsubscribe").length, 1);
  world.socket.messages("t", 16, 20);
  world.socket.say({ type: "unsubscribed", id: world.socket.last("unsubscribe").id, topic_id: "t", reason: "requested" });
  await settle();
  const reader = sub[Symbol.asyncIterator]();
  const seqs = [];
  for (let count = 0; count < 4; count += 1) seqs.push((await reader.next()).value.seq);
  await settle();
  assert.equal(world.socket.of("subscribe").length, 1, "more than half is taken");
  seqs.push((await reader.next()).value.seq);
  await settle();
  assert.deepEqual(world.socket.last("subscribe").from, { epoch: 7, seq: 10 });
  world.socket.grant({ resumed: true, seq: 20 });
  world.socket.messages("t", 11, 13);
  for (let count = 0; count < 8; count += 1) seqs.push((await reader.next()).value.seq);
  assert.deepEqual(seqs, Array.from({ length: 13 }, (_, n) => n + 1));
});

test("a gap that finds the queue full is told, once, and the client asks from behind it", async () => {
  const release = [];
  const { world, gaps } = await following({ queueMessages: 1, onMessage: () => new Promise((resolve) => release.push(resolve)) });
  world.socket.messages("t", 1);
  await settle();
  world.socket.messages("t", 2);
  world.socket.messages("t", 4); // 3 is left out
  assert.equal(world.socket.of("unsubscribe").length, 1);
  world.socket.say({ type: "unsubscribed", id: world.socket.last("unsubscribe").id, topic_id: "t", reason: "requested" });
  for (let count = 0; count < 3; count += 1) (release.shift()?.(), await settle());
  assert.deepEqual(world.socket.last("subscribe").from, { epoch: 7, seq: 3 });
  world.socket.grant({ resumed: true, seq: 4 });
  world.socket.messages("t", 4);
  await settle();
  assert.deepEqual(gaps.map(({ from_seq, to_seq }) => [from_seq, to_seq]), [[3, 3]]);
});

test("a full queue by bytes; of an ephemeral topic the newest are dropped and counted in a gap", async () => {
  const gaps = [];
  const { world, sub } = await following({ onMessage: undefined, queueBytes: 1_000, onGap: (gap) => void gaps.push(gap) });
  world.socket.messages("t", 1, 1, { payload: "x".repeat(900) });
  world.socket.messages("t", 2);
  assert.equal(sub.state, "paused");
  const other = new World();
  const volatile = other.client().subscribe("v", { queueMessages: 2, onGap: (gap) => void gaps.push(gap) });
  await other.welcome();
  other.socket.grant({ profile: "ephemeral", epoch: 3, seq: 0 });
  for (const payload of [1, 2, 3, 4]) other.socket.messages("v", undefined, undefined, {}), other.socket.say({ ...message("v", 0, { payload }), seq: undefined });
  const reader = volatile[Symbol.asyncIterator]();
  const got = [(await reader.next()).value.payload, (await reader.next()).value.payload];
  const third = reader.next();
  await settle();
  other.socket.say({ ...message("v", 0, { payload: 5 }), seq: undefined });
  got.push((await third).value.payload);
  assert.deepEqual(got, [1, 2, 5]);
  assert.deepEqual(gaps.map(({ reason, count }) => [reason, count]), [["client_queue", 2]]);
});

test("acknowledged, auto: after the handler, coalesced, never above what is open; a throw is a nack", async () => {
  let release;
  const handled = [];
  const onMessage = async (one) => {
    if (one.seq === 2 && !one.attempt) throw new Error("no");
    if (one.seq === 3) await new Promise((resolve) => (release = resolve));
    handled.push(one.seq);
  };
  const { world } = await following({ ack: true, onMessage });
  const { id: _, ...asked } = world.socket.last("subscribe");
  assert.deepEqual(asked, { type: "subscribe", topic_id: "t", from: "cursor", ack: true });
  world.socket.messages("t", 1, 4);
  await world.pass(300);
  assert.deepEqual(world.socket.of("ack").map(({ seq }) => seq), [1]);
  const { id, ...nack } = world.socket.last("nack");
  assert.deepEqual(nack, { type: "nack", topic_id: "t", seq: 2, reason: "Error: no" });
  world.socket.say({ type: "ok", id });
  release();
  await world.pass(300);
  assert.deepEqual(world.socket.of("ack").map(({ seq }) => seq), [1], "not above what was refused");
  world.socket.messages("t", 2, 4, { attempt: 2 });
  await settle();
  release?.();
  await world.pass(300);
  assert.deepEqual(handled, [1, 3, 4, 2], "3 and 4 were handled");
  assert.equal(world.socket.of("ack").at(-1).seq, 4);
  world.socket.messages("t", 1, 1, { attempt: 1 }); // a dead letter anew
  await world.pass(300);
  assert.deepEqual([handled.at(-1), world.socket.last("ack").seq], [1, 1]);
  world.socket.messages("t", 5);
  await world.pass(300);
  assert.equal(world.socket.last("ack").seq, 5);
});

test("acknowledged, over a lost connection: from the cursor, once to the application, told again", async () => {
  const { world, got } = await following({ ack: true }, { device_id: "phone" });
  assert.equal(world.socket.last("subscribe").device_id, "phone");
  world.socket.messages("t", 1, 3);
  await settle();
  assert.equal(world.socket.of("ack").length, 0, "lost before it was told");
  await reconnect(world, 1006, { resumed: true, seq: 3 });
  assert.equal(world.socket.last("subscribe").from, "cursor");
  await world.pass(300);
  assert.equal(world.socket.of("ack").length, 0, "the server has sent nothing in this session");
  world.socket.messages("t", 1, 4);
  await world.pass(300);
  assert.deepEqual(got, [1, 2, 3, 4]);
  assert.equal(world.socket.last("ack").seq, 4);
});

test("acknowledged, of a topic that began anew: its numbers count anew", async () => {
  const { world, got } = await following({ ack: true });
  world.socket.messages("t", 1, 3);
  await world.pass(300);
  await reconnect(world, 1006, { epoch: 8, seq: 2, resumed: false, reason: "epoch_changed" });
  world.socket.messages("t", 1, 2);
  await world.pass(300);
  assert.deepEqual([got, world.socket.last("ack").seq], [[1, 2, 3, 1, 2], 2]);
});

test("acknowledged, of a log that lost its end: its numbers count anew", async () => {
  const { world, got, gaps } = await following({ ack: true, from: "live" });
  world.socket.messages("t", 1, 3);
  await world.pass(300);
  await reconnect(world, 1006, { seq: 1, resumed: false, reason: "ahead" });
  world.socket.messages("t", 2, 3);
  await world.pass(300);
  assert.deepEqual([got, world.socket.of("ack").map(({ seq }) => seq)], [[1, 2, 3, 2, 3], [3]]);
  assert.deepEqual(gaps.map(({ reason }) => reason), ["ahead"]);
});

test("acknowledged from a position: asked again behind what is acknowledged", async () => {
  const { world, sub } = await following({ ack: "manual", from: "earliest", onMessage: undefined });
  world.socket.messages("t", 1, 3);
  const reader = sub[Symbol.asyncIterator]();
  const [first] = [(await reader.next()).value, (await reader.next()).value];
  sub.ack(first);
  await world.pass(300);
  assert.equal(world.socket.last("ack").seq, 1);
  await reconnect(world, 1006);
  assert.deepEqual(world.socket.last("subscribe").from, { epoch: 7, seq: 1 });
  assert.equal(world.socket.last("subscribe").ack, true);
});

test("acknowledged, manual: ack, nack, flush; leaving says what is due", async () => {
  const { world, sub } = await following({ ack: "manual", onMessage: undefined });
  world.socket.messages("t", 1, 4);
  const reader = sub[Symbol.asyncIterator]();
  const messages = [];
  for (let count = 0; count < 4; count += 1) messages.push((await reader.next()).value);
  await world.pass(300);
  assert.equal(world.socket.of("ack").length, 0);
  sub.nack(messages[1], "later");
  sub.ack(messages[0]);
  const flushed = sub.flush();
  assert.equal(world.socket.last("ack").seq, 1);
  world.socket.say({ type: "ok", id: world.socket.last("ack").id });
  await flushed;
  world.socket.messages("t", 2, 2, { attempt: 2 });
  const { value: again } = await reader.next();
  assert.equal(again.attempt, 2);
  sub.ack(messages[2]);
  sub.ack(again);
  await reader.return();
  const said = world.socket.sent.slice(-3).map(({ type, seq }) => [type, seq]);
  assert.deepEqual(said, [["ack", 2], ["ack", 3], ["unsubscribe", undefined]]);
});

test("64 handled messages are acknowledged without waiting", async () => {
  const { world } = await following({ ack: true });
  world.socket.messages("t", 1, 63);
  await settle();
  assert.equal(world.socket.of("ack").length, 0);
  world.socket.messages("t", 64);
  await settle();
  assert.equal(world.socket.last("ack").seq, 64);
});

test("frames that wait for the rate, and requests without an answer, are bounded", { skip: minified }, async () => {
  const { world, client, sub } = await following();
  const taken = Array.from({ length: 2_000 }, (_, t) => client._connection.send({ type: "ping", t }));
  assert.equal(taken.filter(Boolean).length, world.socket.of("ping").length + 512);
  await world.pass(60_000);
  const asked = Array.from({ length: 600 }, () => sub.presence().catch((error) => error.code));
  assert.equal(await Promise.race([asked.at(-1), settle()]), "connection_lost");
  const other = await following();
  const slow = [];
  for (let count = 0; count < 520; count += 1) {
    slow.push(other.sub.presence().catch((error) => error.code));
    await other.world.pass(120);
    other.world.socket.messages("t", count + 1);
  }
  assert.equal(await Promise.race([slow.at(-1), settle()]), "connection_lost");
  assert.equal(await Promise.race([slow[0], settle()]), undefined, "it waits");
});

test("many acknowledgements and frames stay below the server's rate", async () => {
  const { world, client } = await following({ ack: true });
  for (let n = 0; n < 100; n += 1) client.subscribe(`x${n}`, { onMessage: () => {} });
  for (let round = 0; round < 200; round += 1) {
    world.socket.messages("t", round * 10 + 1, round * 10 + 10);
    await world.pass(50);
  }
  assert.equal(world.socket.of("subscribe").length, 101);
  assert.ok(world.socket.sent.length < 150 + 10 * 10, String(world.socket.sent.length));
  await world.pass(1_000);
  assert.equal(world.socket.last("ack").seq, 2_000);
});

test("presence, typing, read, status", async () => {
  const told = [];
  const typed = [];
  const { world, sub, client } = await following({ presence: true, onPresence: (one) => told.push(one.type), onTyping: (user) => typed.push(user) });
  assert.equal(world.socket.last("subscribe").presence, true);
  world.socket.say({ type: "presence", topic_id: "t", subscribers: [], count: 1 }, { type: "presence_diff", topic_id: "t", joined: [], left: [], changed: [], count: 1 }, { type: "typing", topic_id: "t", user_id: "bob" });
  assert.deepEqual([told, typed], [["presence", "presence_diff"], ["bob"]]);
  sub.typing();
  assert.equal(world.socket.last("typing").topic_id, "t");
  const asked = sub.presence();
  world.socket.say({ type: "presence", id: world.socket.last("presence").id, topic_id: "t", subscribers: [], count: 4 });
  assert.equal((await asked).count, 4);
  const read = sub.markRead(3);
  world.socket.say({ type: "error", id: world.socket.last("read").id, topic_id: "t", code: "unknown_type", message: "", retryable: false });
  await assert.rejects(read, { code: "unknown_type" });
  client.status("away");
  await reconnect(world, 1006);
  assert.equal(world.socket.last("status").state, "away");
  const lost = sub.presence();
  world.socket.end(1006);
  await assert.rejects(lost, { code: "connection_lost", retryable: true });
});

test("what is new in the inbox and who has read what are told, of topics that are followed and of others", async () => {
  const told = [];
  const { world, client, sub } = await following({ onPresence: () => assert.fail("no presence") });
  client.on("inbox", (topics) => told.push(topics));
  client.on("read", (read) => told.push([read.topic_id, read.user_id, read.seq, read.unread]));
  world.socket.say({ type: "inbox", topics: [{ topic_id: "other", head_seq: 4, unread: 2 }] });
  world.socket.say({ type: "read", topic_id: "t", user_id: "bob", seq: 3 });
  world.socket.say({ type: "read", topic_id: "other", user_id: "ann", seq: 4, unread: 0 });
  assert.deepEqual(told, [[{ topic_id: "other", head_seq: 4, unread: 2 }], ["t", "bob", 3, undefined], ["other", "ann", 4, 0]]);
  const marked = sub.markRead(3);
  const { id, ...frame } = world.socket.last("read");
  assert.deepEqual(frame, { type: "read", topic_id: "t", seq: 3 });
  world.socket.say({ type: "ok", id });
  assert.equal(await marked, undefined);
});

test("over event streams an acknowledged subscription is refused, it is not followed without acknowledgements", async () => {
  const world = new World();
  const ends = [];
  const client = world.client({ transport: "sse" });
  client.subscribe("t", { ack: true, onMessage: () => {}, onEnd: ({ code }) => ends.push(code) });
  await settle();
  assert.deepEqual([ends, world.requests.length], [["needs_websocket"], 0]);
});

test("a token goes into the subprotocol, a ticket into the query and is fetched each time, a user too", async () => {
  const world = new World();
  world.client({ token: "abc", device_id: "phone" }).connect();
  await settle();
  assert.deepEqual(world.socket.protocols, ["headgate.v1", "bearer.abc"]);
  assert.equal(world.socket.url.search, "?device_id=phone");
  let count = 0;
  world.client({ ticket: async () => `ticket-${(count += 1)}` }).connect();
  await settle();
  assert.equal(world.socket.url.search, "?ticket=ticket-1");
  world.socket.end(1006);
  await world.pass(1_500);
  assert.equal(world.socket.url.search, "?ticket=ticket-2");
  world.client({ user: "ann" }).connect();
  await settle();
  assert.equal(world.socket.url.search, "?user=ann");
});

test("a token is refreshed before it expires; 4610 and a stale 4401 fetch another, twice 4401 stops", async () => {
  let count = 0;
  const { world, ends } = await following({}, { token: () => `token-${(count += 1)}` });
  world.socket.say({ type: "token_expiring", in_ms: 60_000 });
  await world.pass(14_900);
  assert.equal(world.socket.of("refresh").length, 0, "at any time in the first half");
  await world.pass(100);
  assert.equal(world.socket.last("refresh").token, "token-2");
  world.socket.say({ type: "refreshed", id: world.socket.last("refresh").id });
  await world.pass(2_000);
  for (const [code, token] of [[4610, "token-3"], [4401, "token-4"]]) {
    world.socket.say({ type: "disconnect", code, reconnect: true });
    await world.pass(0);
    assert.equal(world.socket.protocols[1], `bearer.${token}`);
    if (code === 4610) await world.welcome();
  }
  world.socket.end(4401);
  assert.deepEqual(ends, ["unauthenticated"]);
  assert.equal(world.states.at(-1), "stopped unauthenticated");
});

test("a 4401 fetches another token again where another connection was lost since", async () => {
  let count = 0;
  const { world } = await following({}, { token: () => `token-${(count += 1)}` });
  for (const [code, token] of [[4401, "token-2"], [1006, "token-2"], [4401, "token-3"]]) {
    world.socket.end(code);
    await world.pass(world.next);
    assert.equal(world.socket.protocols[1], `bearer.${token}`);
  }
  world.socket.end(4401);
  assert.equal(world.states.at(-1), "stopped unauthenticated");
});

test("a token that cannot be fetched is fetched again with back-off, and one that will never come stops", async () => {
  const world = new World();
  let down = true;
  const client = world.client({
    token: () => {
      if (down) throw new Error("no network");
      return "abc";
    },
  });
  client.connect();
  await settle();
  assert.deepEqual([world.states.at(-1), world.next], ["waiting", 1400]);
  down = false;
  await world.pass(1400);
  assert.equal(world.socket.protocols[1], "bearer.abc");
});

test("a fixed token is told when it expires, and setToken goes on with another", async () => {
  const { world, client } = await following({}, { token: "old" });
  const told = [];
  client.on("token_expiring", (ms) => told.push(ms));
  world.socket.say({ type: "token_expiring", in_ms: 5_000 });
  assert.deepEqual(told, [5_000]);
  client.setToken("new");
  await settle();
  assert.equal(world.socket.last("refresh").token, "new");
  world.socket.end(4610);
  assert.equal(world.states.at(-1), "stopped token_expired");
  client.connect();
  await settle();
  assert.equal(world.sockets.length, 2);
});

test("a page whose policy forbids WebSockets has event streams", async () => {
  const world = new World();
  world.env.WebSocket = class {
    constructor() {
      throw new Error("refused by the policy of the page");
    }
  };
  world.client().subscribe("a");
  for (let failure = 0; failure < 2; failure += 1) await world.pass(3_000);
  await settle();
  assert.equal(world.requests[0].url.pathname, "/sse/subscribe");
});

test("a callback that throws is reported and stops nothing", async () => {
  const { world, got } = await following({
    onCaughtUp: () => {
      throw new Error("mine");
    },
  });
  world.socket.say({ type: "caught_up", topic_id: "t", seq: 0 });
  world.socket.messages("t", 1);
  await settle();
  assert.deepEqual([got, world.errors.map(String)], [[1], ["Error: mine"]]);
});

test("what nobody listens to is written to the console", async (t) => {
  const said = [];
  t.mock.method(console, "error", (error) => void said.push(String(error)));
  const world = new World();
  const client = new Headgate({ url: "http://server.test", env: world.env });
  const onMessage = () => {
    throw new TypeError("mine");
  };
  client.subscribe("t", { onMessage });
  await world.welcome();
  world.socket.grant();
  world.socket.messages("t", 1);
  await settle();
  assert.deepEqual(said, ["TypeError: mine"]);
  const stop = client.on("error", () => {
    throw new Error("the listener");
  });
  world.socket.messages("t", 2);
  await settle();
  assert.deepEqual(said.slice(1), ["Error: the listener"]);
  stop();
  world.socket.say({ type: "unsubscribed", topic_id: "t", reason: "forbidden" }); // and there is no onEnd
  await settle();
  assert.deepEqual(said.slice(2), ["HeadgateError: forbidden: ended by the server"]);
});

test("without a WebSocket class: event streams, and a stop where a subscription needs one", { skip: minified }, async () => {
  const world = new World();
  const client = world.client();
  client._env.WebSocket = undefined;
  client.subscribe("a");
  await settle();
  assert.equal(world.requests[0].url.pathname, "/sse/subscribe");
  const other = new World();
  const acked = other.client();
  acked._env.WebSocket = undefined;
  acked.subscribe("a", { ack: true, onMessage: () => {} });
  await settle();
  assert.equal(other.states.at(-1), "stopped needs_websocket");
});

test("what is no frame of ours ends the connection, not the client", async () => {
  const { world } = await following();
  world.socket.onmessage({ data: "<html>" });
  assert.equal(world.states.at(-1), "waiting");
});
