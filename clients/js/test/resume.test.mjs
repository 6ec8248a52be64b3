// No message is lost in silence: every `from`, with acknowledgements and without, over connections that are lost at any moment.
import assert from "node:assert/strict";
import { test } from "node:test";
import { settle, World } from "./fake.mjs";
import { ModelServer } from "./model_server.mjs";

const FROMS = [
  "live", "earliest", "cursor", { epoch: 7, seq: 5 }, { epoch: 6, seq: 50 }, { seq: 5 }, { seq: 0 }, { seq: 50 },
  { ts: 6_000 }, { ts: 99_000 }, { last: 3 }, { last: 0 },
]; // prettier-ignore
const STORED = { none: undefined, below: { epoch: 7, seq: 5 } };
/** So many frames of a session reach the client: none, `subscribed`, with one message, with more, all. */
const REACHES = [0, 1, 2, 4, Infinity];
const MEANWHILE = {
  nothing: () => {},
  messages: (server) => server.publish(5),
  retention: (server) => (server.publish(5), (server.first = server.head - 1)),
  recreated: (server) => server.recreate(3, true),
  "recreated, cursors forgotten": (server) => server.recreate(3, false),
};
const HANDLERS = {
  prompt: {},
  slow: { waits: true },
  "slow, with a queue of two": { waits: true, queueMessages: 2 },
  "failing at first": { fails: true },
};

for (const ack of [false, "auto", "manual"]) {
  for (const from of FROMS) {
    test(`no silent loss: from ${JSON.stringify(from)}, ack ${ack}`, async () => {
      for (const stored of Object.keys(STORED)) {
        for (const [reach, again] of REACHES.flatMap((one) => [[one, 1], [one, Infinity]])) {
          for (const meanwhile of Object.keys(MEANWHILE)) {
            for (const handler of Object.keys(HANDLERS)) {
              const run = new Run({ from, ack, cursor: STORED[stored], ...HANDLERS[handler] });
              await run.play([reach, again], MEANWHILE[meanwhile]);
              const where = `cursor ${stored}, ${reach} and ${again} frames, then ${meanwhile}, handler ${handler}`;
              assert.deepEqual(run.wrong(meanwhile), [], `${where}: ${JSON.stringify(run.told)}`);
            }
          }
        }
      }
    });
  }
}

/** One client, that loses its connection twice. */
class Run {
  told = []; // what the application was told, in order: [epoch, seq], or the gap
  handled = [];
  ends = []; // how far is acknowledged when nothing is under way, and the head
  failed = new Set();

  constructor({ from, ack, cursor, waits, fails, queueMessages }) {
    Object.assign(this, { from, ack, fails, waits });
    this.released = new Promise((release) => (this.release = release));
    this.world = new World();
    this.server = new ModelServer(this.world);
    this.server.cursor = cursor;
    this.client = this.world.client();
    const onGap = ({ from_seq, to_seq, reason }) => void this.told.push({ from_seq, to_seq, reason });
    const onMessage = (message) => this.handle(message);
    this.sub = this.client.subscribe("t", { from, ...(ack && { ack }), onMessage, onGap, ...(queueMessages && { queueMessages }) });
  }

  async handle(message) {
    const name = `${message.payload}:${message.seq}`;
    this.told.push([message.payload, message.seq]);
    if (this.waits) await this.released;
    if (this.fails && this.ack && message.seq % 3 === 0 && !this.failed.has(name)) {
      this.failed.add(name);
      throw new Error("not yet");
    }
    this.handled.push(name);
    if (this.ack === "manual") this.sub.ack(message);
  }

  async play(reaches, meanwhile) {
    for (const reach of reaches) {
      await this.session(reach);
      this.world.socket.end(1006);
      meanwhile(this.server);
      meanwhile = (server) => server.publish(2);
    }
    await this.session(Infinity);
    this.release();
    for (const more of [0, 1]) {
      this.server.publish(more);
      for (let round = 0; round < 6; round += 1) {
        await this.serve();
        this.server.retry();
      }
      this.ends.push([this.server.cursor?.seq, this.server.head]);
    }
    this.client.close();
  }

  async session(reach) {
    const { world, server } = this;
    const { length } = world.sockets;
    for (; !this.opened || world.sockets.length === length; this.opened = true) await world.pass(this.opened ? world.next : 0);
    server.reach = reach;
    await world.welcome();
    await this.serve();
  }

  async serve() {
    for (let turn = 0; turn < 3; turn += 1) {
      this.server.serve();
      await settle();
      await this.world.pass(250);
    }
    this.server.serve();
    await settle();
  }

  /** Returns one sentence for each broken promise. */
  wrong(meanwhile) {
    const { server, told, from, ack } = this;
    const [{ epoch: begun, place: asked }] = server.grants;
    const [, first] = told.find(Array.isArray);
    const place = from.ts && meanwhile === "retention" ? Math.max(Math.min(first - 1, 8), asked) : asked; // the first message tells
    const changed = told.some(({ reason }) => reason === "epoch_changed");
    const gaps = told.filter((one) => !Array.isArray(one));
    const given = new Set(told.filter(Array.isArray).map(([epoch, seq]) => `${epoch}:${seq}`));
    const untold = from === "cursor" && ack && /forgotten/.test(meanwhile); // where it begins then, the server does not say
    const wrong = [];
    for (let epoch = begun; epoch <= server.epoch; epoch += 1) {
      const head = server.heads.get(epoch) ?? server.head;
      for (let seq = epoch === begun ? place + 1 : 1; seq <= head; seq += 1) {
        const name = `${epoch}:${seq}`;
        const said = epoch < server.epoch || untold ? changed : gaps.some(({ from_seq, to_seq }) => from_seq <= seq && seq <= to_seq);
        if (!given.has(name) && !said) wrong.push(`${name} was lost`);
      }
    }
    for (const name of new Set(this.handled)) if (this.handled.filter((one) => one === name).length > 1) wrong.push(`${name} came twice`);
    const inOrder = [...given].map((name) => name.split(":").map(Number)); // each where it came first
    for (const [at, [epoch, seq]] of inOrder.entries()) {
      const [epochBefore, before] = inOrder[at - 1] ?? [0, 0];
      if (epoch === begun && seq <= place) wrong.push(`${epoch}:${seq} was not asked for`);
      if (epochBefore > epoch || (epochBefore === epoch && before > seq)) wrong.push(`${epoch}:${seq} came after ${before}`);
    }
    const live = from.ts === 99_000 || (from === "cursor" && !ack); // asked again it is live again, and what was missed is told
    if (/nothing|messages/.test(meanwhile) && !live && gaps.some(({ reason }) => reason === "missing")) wrong.push("a gap that is none");
    const ranges = server.epoch === begun ? gaps.filter(({ to_seq }) => to_seq !== null) : [];
    for (const [at, { from_seq }] of ranges.entries()) if (from_seq <= ranges[at - 1]?.to_seq) wrong.push(`${from_seq} was told twice`);
    for (const [seq, head] of ack ? this.ends : []) if (seq !== head) wrong.push(`acknowledged up to ${seq} of ${head}`);
    return wrong;
  }
}
