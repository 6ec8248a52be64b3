// The pure parts: tables, back-off, queue, rate, cursor, acknowledgements, event streams.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Acks } from "../dist/acks.js";
import { Backoff, verdictOf } from "../dist/backoff.js";
import { Cursor } from "../dist/cursor.js";
import { realEnv } from "../dist/env.js";
import { EventParser } from "../dist/event_parser.js";
import { Pacer } from "../dist/pacer.js";
import { Queue } from "../dist/queue.js";
import { formOf } from "../dist/sse.js";
import { after, CONNECTION, SUBSCRIPTION } from "../dist/states.js";

test("a table leads to states that it has, and an unknown event raises", () => {
  for (const table of [CONNECTION, SUBSCRIPTION]) {
    for (const events of Object.values(table)) for (const next of Object.values(events)) assert.ok(table[next]);
  }
  assert.equal(after(CONNECTION, "open", "lost"), "waiting");
  assert.throws(() => after(CONNECTION, "idle", "welcome"), /welcome is not known in the state idle/);
  assert.deepEqual(Object.keys(CONNECTION.closed), ["close"]);
});

const policy = JSON.parse(readFileSync("../../tests/clients/reconnect_policy.json", "utf8")); // shared with the Python client

/** The random source that the policy names. */
function seeded(seed) {
  let x = seed;
  return () => (x = (1_664_525 * x + 1_013_904_223) % 2 ** 32) / 2 ** 32;
}

test("close codes: the class alone decides", () => {
  for (const [verdict, codes] of Object.entries(policy.verdicts)) for (const code of codes) assert.equal(verdictOf(code), verdict, code);
});

test("back-off: full jitter in a window that doubles up to its bound, on top of what the server asks", () => {
  const { first_ms, max_ms, windows_ms, waits } = policy;
  for (const [addresses, windows] of Object.entries(windows_ms)) {
    const low = new Backoff(() => 0, first_ms, max_ms, Number(addresses));
    const high = new Backoff(() => 1, first_ms, max_ms, Number(addresses));
    assert.deepEqual(windows.map(() => high.next()), windows);
    assert.deepEqual(new Set(windows.map(() => low.next())), new Set([0]));
    high.reset();
    assert.equal(high.next(300), windows[0] + 300);
  }
  const drawn = new Backoff(seeded(waits.seed), first_ms, max_ms, waits.addresses);
  for (const { retry_after_ms, wait_ms } of waits.each) assert.equal(Math.round(drawn.next(retry_after_ms) * 1000) / 1000, wait_ms);
});

test("back-off: the first wait after a welcome is the part of the window that it tells", () => {
  const { jitters, waits_ms, addresses } = policy.told;
  const backoff = new Backoff(() => 0.5, policy.first_ms, policy.max_ms, addresses);
  const waits = jitters.map((jitter) => {
    backoff.jitter = jitter;
    return backoff.next();
  });
  assert.deepEqual(waits, waits_ms);
  assert.equal(backoff.next(), policy.max_ms / 2, "it is told for one wait");
});

test("back-off: all clients come back spread and soon where welcome told their jitters", () => {
  const { clients, of, largest_share_in_100_ms, p95_ms } = policy.spread_by_welcome;
  const waits = Array.from({ length: clients }, (_, n) => {
    const backoff = new Backoff(() => 0, policy.first_ms, policy.max_ms);
    backoff.jitter = ((n + 1) * ((Math.sqrt(5) - 1) / 2)) % 1;
    return backoff.next();
  }).sort((a, b) => a - b);
  const most = Math.max(...waits.map((from) => waits.filter((wait) => wait >= from && wait < from + 100).length));
  assert.ok(most / of <= largest_share_in_100_ms, `${most} of ${of}`);
  assert.ok(waits[Math.floor(clients * 0.95)] <= p95_ms, `${waits[Math.floor(clients * 0.95)]}`);
});

test("back-off: the clients of one of two gateways that dies come back spread, and soon", () => {
  const { seed, clients, of, largest_share_in_100_ms, p95_ms } = policy.spread;
  const random = seeded(seed);
  const waits = Array.from({ length: clients }, () => new Backoff(random, policy.first_ms, policy.max_ms).next()).sort((a, b) => a - b);
  const most = Math.max(...waits.map((from) => waits.filter((wait) => wait >= from && wait < from + 100).length));
  assert.ok(most / of <= largest_share_in_100_ms, `${most} of ${of}`);
  assert.ok(waits[Math.floor(clients * 0.95)] <= p95_ms);
});

test("queue: bounded by messages and by bytes, in order, drained below half", () => {
  const queue = new Queue(4, 100);
  assert.ok(queue.push("huge", 1000), "what is larger than the bound passes alone");
  assert.ok(!queue.push("b", 1));
  assert.equal(queue.shift(), "huge");
  for (const n of [1, 2, 3, 4]) assert.ok(queue.push(n, 25));
  assert.ok(!queue.push(5, 0));
  assert.equal(queue.shift(), 1);
  assert.ok(!queue.push(5, 26), "bytes");
  assert.ok(!queue.isHalfFree);
  assert.equal(queue.shift(), 2);
  assert.ok(queue.isHalfFree);
  for (let n = 0; n < 1000; n += 1) (queue.push(n, 1), queue.shift());
  assert.equal(queue.length, 2);
  queue.clear();
  assert.ok(queue.push("x", 100) && queue.shift() === "x" && queue.shift() === undefined);
});

test("the clock of waits and deadlines is not the one that people set", (t) => {
  const { now } = realEnv();
  const before = now();
  t.mock.method(Date, "now", () => 0);
  assert.ok(now() >= before && now() < before + 10_000);
});

test("pacer: below the server's rate and burst", () => {
  const pacer = new Pacer(10, 150, 0);
  let sent = 0;
  for (let now = 0; now <= 10_000; now += 10) while (pacer.take(now)) sent += 1;
  assert.ok(sent > 220 && sent <= 135 + 90 + 1, String(sent));
  assert.ok(!pacer.take(10_100, 5), "a reserve is kept");
  assert.ok(pacer.take(10_200));
});

const subscribed = (more) => ({ type: "subscribed", profile: "durable", epoch: 7, seq: 10, first_seq: 3, ...more });

test("cursor: each from has its place before the first message came", () => {
  const places = [["live", 10], ["earliest", 2], [{ epoch: 7, seq: 5 }, 5], [{ seq: 5 }, 5], [{ seq: 0 }, 2], [{ last: 3 }, 7], [{ last: 99 }, 2]];
  for (const [from, seq] of places) {
    const cursor = new Cursor(from, false);
    assert.deepEqual(cursor.ask(), from);
    assert.equal(cursor.answered(subscribed(typeof from === "object" ? { resumed: true } : {}), from), null);
    assert.deepEqual(cursor.ask(), { epoch: 7, seq }, JSON.stringify(from));
  }
  for (const from of [{ ts: 5 }, "cursor"]) {
    const cursor = new Cursor(from, false);
    cursor.answered(subscribed(), from);
    assert.deepEqual(cursor.ask(), from, "not known yet");
    assert.equal(cursor.judge(8), "new");
    cursor.take(8);
    assert.deepEqual(cursor.ask(), { epoch: 7, seq: 8 });
    const quiet = new Cursor(from, false);
    quiet.answered(subscribed(), from);
    quiet.caughtUp();
    assert.deepEqual(quiet.ask(), { epoch: 7, seq: 10 }, "nothing was replayed");
  }
  const acked = new Cursor({ ts: 5 }, true);
  acked.answered(subscribed(), { ts: 5 });
  acked.take(8);
  acked.take(9);
  assert.deepEqual([acked.ask(), acked.ask(8)], [{ epoch: 7, seq: 7 }, { epoch: 7, seq: 8 }], "nothing is acknowledged, or 8 is");
});

test("cursor: repeats are dropped, a number that was left out is said", () => {
  const cursor = new Cursor("live", false);
  cursor.answered(subscribed(), "live");
  assert.equal(cursor.judge(10), "repeat");
  assert.equal(cursor.judge(11), "new");
  assert.deepEqual(cursor.judge(13), { from_seq: 11, to_seq: 12, count: 2, reason: "missing", recoverable: true });
  assert.equal(cursor.judge(undefined), "new", "ephemeral");
});

test("cursor: an acknowledged session begins where the server's cursor is, which may lie further on", () => {
  const cursor = new Cursor("cursor", true);
  cursor.answered(subscribed({ resumed: true }), "cursor");
  cursor.take(3);
  assert.equal(cursor.judge(5).reason, "missing");
  cursor.answered(subscribed({ resumed: true }), "cursor");
  assert.equal(cursor.judge(3), "repeat");
  assert.equal(cursor.judge(9), "new");
  cursor.take(9);
  assert.equal(cursor.judge(11).reason, "missing");
});

test("cursor: gap frames, clipped to what was not taken", () => {
  const cursor = new Cursor("live", false);
  cursor.answered(subscribed(), "live");
  const gap = { from_seq: 11, to_seq: 14, count: 4, reason: "slow_consumer", recoverable: true };
  assert.deepEqual(cursor.gap({ type: "gap", ...gap }), gap);
  cursor.take(12);
  assert.deepEqual(cursor.gap({ type: "gap", ...gap }), { ...gap, from_seq: 13, count: 2 });
  cursor.take(14);
  assert.equal(cursor.gap({ type: "gap", ...gap }), null);
  assert.equal(cursor.gap({ type: "gap", count: 9, reason: "slow_consumer" }).from_seq, null, "ephemeral");
});

test("cursor: a resume that is refused", () => {
  const resumed = (more) => {
    const cursor = new Cursor({ epoch: 6, seq: 90 }, false);
    return [cursor.answered(subscribed({ resumed: false, ...more }), { epoch: 6, seq: 90 }), cursor.ask()];
  };
  assert.deepEqual(resumed({ reason: "epoch_changed" })[0].reason, "epoch_changed");
  assert.deepEqual(resumed({ reason: "epoch_changed" })[1], { epoch: 7, seq: 2 });
  assert.deepEqual(resumed({ reason: "ahead" })[1], { epoch: 7, seq: 10 });
  assert.deepEqual(resumed({ reason: "expired" }), [null, { epoch: 7, seq: 90 }], "the gap frame follows");
  assert.equal(resumed({ reason: "ephemeral", profile: "ephemeral" })[0].reason, "ephemeral");
});

test("acks: what is open is never acknowledged, and nothing above a refused message before that is settled", () => {
  const acks = new Acks(false);
  for (const seq of [1, 2, 3, 4]) acks.queued(seq);
  assert.equal(acks.nextAck(), null);
  acks.finish(1);
  assert.equal(acks.nextAck(), 1);
  acks.told(1);
  assert.equal(acks.nextAck(), null);
  assert.ok(acks.nack(2));
  assert.ok(!acks.nack(2), "told once");
  acks.finish(3);
  assert.equal(acks.nextAck(), null, "the server may have sent 2 again just now");
  assert.ok(!acks.passes(4, 2), "it waits in the queue");
  assert.ok(acks.passes(2, 2));
  acks.queued(2, 2);
  acks.finish(4);
  assert.equal(acks.nextAck(), null, "2 is open");
  acks.finish(2);
  assert.equal(acks.nextAck(), 2, "an ack of 4 does not count for it");
  acks.told(2);
  assert.equal(acks.nextAck(), 4);
  acks.told(4);
  assert.ok(!acks.passes(3, 2), "it was handled");
  assert.equal(acks.nextAck(), 4, "and the server has to be told again");
});

test("acks: a refused message was given up when the server has heard of it and sends something above it", () => {
  const acks = new Acks(false);
  for (const seq of [1, 2]) acks.queued(seq);
  acks.nack(1);
  acks.finish(2);
  acks.queued(3);
  acks.finish(3);
  assert.equal(acks.nextAck(), null, "3 was under way when it was refused");
  acks.heard(1);
  assert.equal(acks.nextAck(), null);
  assert.ok(!acks.passes(2, 2));
  assert.equal(acks.nextAck(), 3);
});

test("acks: a new session begins below what was refused, or has given it up", () => {
  const acks = new Acks(false);
  for (const seq of [1, 2, 3, 4]) acks.queued(seq);
  acks.finish(1);
  acks.told(1);
  acks.nack(2);
  acks.finish(3);
  acks.newSession();
  assert.equal(acks.acknowledged, 1);
  assert.equal(acks.nextAck(), null, "nothing came yet");
  assert.ok(acks.passes(2));
  acks.queued(2);
  assert.ok(!acks.passes(3));
  assert.ok(!acks.passes(4));
  acks.finish(2);
  assert.equal(acks.nextAck(), 2);
  acks.told(2);
  assert.equal(acks.nextAck(), 3);
  acks.nack(4);
  acks.newSession();
  acks.queued(5);
  acks.finish(5);
  assert.equal(acks.nextAck(), 5, "the session begins above 4: it was given up");
  acks.nack(6);
  acks.newSession();
  acks.caughtUp(6);
  acks.queued(7);
  acks.finish(7);
  assert.equal(acks.nextAck(), 7);
});

test("acks: a dead letter that is replayed is settled by exactly its seq", () => {
  const acks = new Acks(false);
  for (const seq of [1, 2, 3]) acks.queued(seq);
  acks.finish(3);
  acks.nack(2);
  assert.ok(acks.passes(1, 1) === false, "1 is open");
  acks.finish(1);
  acks.told(acks.nextAck());
  assert.ok(acks.passes(1, 1));
  acks.queued(1, 1);
  assert.ok(!acks.passes(1, 2), "open");
  assert.ok(acks.nack(1));
  assert.ok(acks.passes(1, 2));
  acks.queued(1, 2);
  acks.finish(1);
  assert.equal(acks.nextAck(), 1);
  acks.told(1);
  assert.equal(acks.nextAck(), null, "2 is still refused");
});

test("acks: in manual mode a redelivery of what was handed out and not acknowledged is passed", () => {
  const acks = new Acks(true);
  acks.queued(1);
  assert.ok(!acks.passes(1, 2), "still in the queue");
  acks.handed(1);
  assert.ok(!acks.passes(1), "the application has it");
  assert.ok(acks.passes(1, 2));
  acks.queued(1, 2);
  acks.handed(1);
  acks.finish(1);
  assert.ok(!acks.passes(1, 3));
});

test("acks: in manual mode an ack counts for a refused message that came again before the acknowledged one, and for no other", () => {
  const acks = new Acks(true);
  const comes = (seq, attempt) => {
    acks.queued(seq, attempt);
    acks.handed(seq);
  };
  for (const seq of [1, 2, 3]) comes(seq);
  acks.nack(1);
  acks.heard(1);
  assert.ok(acks.passes(1, 2));
  comes(1, 2);
  acks.finish(3);
  assert.equal(acks.nextAck(), null, "the application has 1 once more, and 3 was sent before that");
  assert.ok(acks.passes(1, 3), "it may have forgotten it");
  comes(4);
  acks.finish(4);
  assert.equal(acks.nextAck(), 4);
});

test("acks: each handled once and nothing unhandled acknowledged, over 500 random runs against a model of the server", () => {
  for (let run = 1; run <= 500; run += 1) new AckRun(run).check();
});

/** A server as docs/adr/0029 says, frames under way, and a client that handles, refuses and loses its connection. */
class AckRun {
  constructor(seed) {
    this.seed = seed * 7919;
    this.acks = new Acks(false);
    this.received = 0; // the client's cursor
    this.queue = [];
    this.handled = [];
    this.wire = []; // frames to the client
    this.waiting = new Set(); // refused and not sent again
    this.newest = new Map(); // of refused ones: what had been sent when it came again
    this.acked = new Set();
    this.givenUp = new Set();
    this.sent = 0;
  }

  random() {
    this.seed = (this.seed * 48271) % 2147483647;
    return this.seed / 2147483647;
  }

  get cursor() {
    let seq = 0;
    while (this.acked.has(seq + 1) || this.givenUp.has(seq + 1)) seq += 1;
    return seq;
  }

  hear({ seq, attempt, ok }) {
    if (ok) return this.acks.heard(ok);
    if (seq <= this.received && !this.acks.passes(seq, attempt)) return;
    this.received = Math.max(this.received, seq);
    this.acks.queued(seq, attempt);
    this.queue.push(seq);
  }

  acknowledge() {
    const seq = this.acks.nextAck();
    if (seq === null) return;
    this.acks.told(seq);
    for (let one = 1; one <= Math.min(seq, this.sent); one += 1) {
      if (this.waiting.has(one) || this.givenUp.has(one) || (one < seq && seq <= this.newest.get(one))) continue;
      assert.ok(this.handled.includes(one), `${one} was acknowledged and not handled`);
      this.acked.add(one);
    }
  }

  /** The retry of the lowest refused message: it is given up or comes again, with what is not acknowledged behind it. */
  retry() {
    const first = Math.min(...this.waiting);
    this.waiting.delete(first);
    if (this.random() < 0.2) this.givenUp.add(first);
    this.newest.set(first, this.sent);
    for (let seq = first; seq <= this.sent && !this.waiting.has(seq); seq += 1) {
      if (!this.acked.has(seq) && !this.givenUp.has(seq)) this.wire.push({ seq, attempt: 2 });
    }
  }

  refuse(seq) {
    if (!this.acks.nack(seq)) return;
    if (this.acked.has(seq) || this.waiting.has(seq) || this.givenUp.has(seq)) return;
    this.waiting.add(seq);
    this.wire.push({ ok: seq });
  }

  step(last) {
    const dice = this.random();
    if (dice < 0.3 && this.sent < last && !this.waiting.size) this.wire.push({ seq: (this.sent += 1) });
    else if (dice < 0.55 && this.wire.length) this.hear(this.wire.shift());
    else if (dice < 0.75 && this.queue.length) {
      const seq = this.queue.shift();
      if (this.random() < 0.2) this.refuse(seq);
      else {
        this.handled.push(seq);
        this.acks.finish(seq);
      }
    } else if (dice < 0.85) this.acknowledge();
    else if (dice < 0.95 && this.waiting.size) this.retry();
    else if (dice > 0.98) this.reconnect();
  }

  reconnect() {
    this.wire = [];
    this.waiting.clear();
    this.newest.clear();
    this.sent = this.cursor;
    this.acks.newSession();
  }

  /** Without an acknowledgement all that is in flight comes again. */
  timeout() {
    for (let seq = this.cursor + 1; seq <= this.sent && !this.waiting.has(seq); seq += 1) {
      if (!this.acked.has(seq) && !this.givenUp.has(seq)) this.wire.push({ seq, attempt: 3 });
    }
  }

  check() {
    const last = 30;
    for (let step = 0; step < 400; step += 1) this.step(last);
    for (let step = 0; step < 20_000 && this.cursor < last; step += 1) {
      this.step(last);
      const underWay = this.wire.length || this.queue.length || this.waiting.size || this.acks.nextAck() !== null;
      if (!underWay) assert.ok(this.cursor >= this.sent, "what is handled is acknowledged before it comes again");
      if (step % 50 === 49) this.timeout();
    }
    assert.equal(this.cursor, last, "nothing is stuck");
    const due = Array.from({ length: last }, (_, n) => n + 1).filter((seq) => !this.givenUp.has(seq));
    const handled = this.handled.filter((seq) => !this.givenUp.has(seq)).sort((a, b) => a - b);
    assert.deepEqual(handled, due, "each once");
  }
}

test("event streams: any cut of the text gives the same events", () => {
  const text = 'retry: 2000\n\nevent: welcome\ndata: {"a":1}\n\n: comment\r\n\r\nid: 1:2\r\ndata:x\r\ndata: y\r\n\r\ndata\n\nevent: lost\n\n';
  const expected = [{ event: "welcome", data: '{"a":1}' }, { event: "message", data: "x\ny" }, { event: "message", data: "" }];
  for (let cut = 1; cut < text.length; cut += 1) {
    const parser = new EventParser();
    assert.deepEqual([...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))], expected, `cut at ${cut}`);
  }
  assert.throws(() => new EventParser().push("data: " + "x".repeat(9 * 2 ** 20)), RangeError);
});

test("the forms of from in a query", () => {
  const forms = { live: "live", cursor: "cursor", "7:5": { epoch: 7, seq: 5 }, "seq:5": { seq: 5 }, "ts:9": { ts: 9 }, "last:3": { last: 3 } };
  for (const [form, from] of Object.entries(forms)) assert.equal(formOf(from), form);
});
