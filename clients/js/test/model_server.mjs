// One topic of a server as docs/reference/websocket.md says, on the fake sockets: where a subscription begins, acknowledgements.
import { message } from "./fake.mjs";

export class ModelServer {
  epoch = 7;
  first = 3; // the first that is kept
  head = 8;
  cursor; // of the device: {epoch, seq}
  grants = []; // that reached the client: {epoch, place}
  reach = Infinity; // so many more frames reach the client, then the connection is dead
  heads = new Map(); // epoch -> head, of topics that were deleted

  constructor(world) {
    this.world = world;
  }

  /** Takes what the client has sent on its present socket since the last call, and sends what is due. */
  serve() {
    const { socket } = this.world;
    if (socket !== this.socket) Object.assign(this, { socket, heard: 0, session: undefined });
    for (; this.heard < socket.sent.length; this.heard += 1) if (this.reach) this.hear(socket.sent[this.heard]);
    this.send();
  }

  publish(count) {
    this.head += count;
  }

  /** Deleted and created again, with so many messages; `kept`: the owner of cursors has not heard of it. */
  recreate(count, kept) {
    this.heads.set(this.epoch, this.head);
    this.epoch += 1;
    this.first = 1;
    this.head = count;
    if (!kept) this.cursor = undefined;
  }

  hear(frame) {
    const { id, type, seq } = frame;
    if (type === "subscribe") this.grant(frame);
    else if (type === "unsubscribe") {
      this.session = undefined;
      this.say({ type: "unsubscribed", id, topic_id: "t", reason: "requested" });
    } else if (type === "ack") this.acknowledge(seq);
    else if (type === "nack") {
      this.session.refused.set(seq, Infinity);
      this.say({ type: "ok", id });
    }
  }

  grant({ id, from = "live", ack }) {
    const { place, ...told } = this.placed(from);
    const gap = this.expired(from, told.reason, place);
    this.session = { sent: place, refused: new Map(), acked: new Set(), target: from === "live" ? undefined : this.head };
    if (ack) this.store(place);
    if (this.reach) this.grants.push({ epoch: this.epoch, place });
    this.say({ type: "subscribed", id, topic_id: "t", profile: "durable", epoch: this.epoch, seq: this.head, first_seq: this.first, ...told });
    if (gap) this.say({ type: "gap", topic_id: "t", ...gap });
  }

  /** What is no longer kept of what was asked for. It is written together with `subscribed`. */
  expired(from, reason, to_seq) {
    if (reason !== "expired") return undefined;
    const from_seq = (from.seq ?? this.cursor.seq) + 1;
    if (this.reach === 1) this.reach = 2;
    return { from_seq, to_seq, count: to_seq - from_seq + 1, reason: "retention", recoverable: false };
  }

  placed(from) {
    const oldest = this.first - 1;
    if (from === "live") return { place: this.head };
    if (from === "earliest") return { place: oldest };
    if (from === "cursor") return this.cursor ? this.placed(this.cursor) : { place: this.head, resumed: false, reason: "no_cursor" };
    if ("last" in from) return { place: Math.max(this.head - from.last, oldest) };
    if ("ts" in from) return { place: from.ts > this.head * 1_000 ? this.head : Math.max(Math.ceil(from.ts / 1_000) - 1, oldest) };
    if (from.epoch && from.epoch !== this.epoch) return { place: oldest, resumed: false, reason: "epoch_changed" };
    if (from.seq === 0) return { place: oldest, resumed: true };
    if (from.seq > this.head) return { place: this.head, resumed: false, reason: "ahead" };
    return from.seq < oldest ? { place: oldest, resumed: false, reason: "expired" } : { place: from.seq, resumed: true };
  }

  /** All up to `last`, and of refused ones those that had come again before `last` was sent; its own number always counts. */
  acknowledge(last) {
    const { sent, refused, acked } = this.session;
    for (let seq = 1; seq <= Math.min(last, sent); seq += 1) if (seq === last || last > (refused.get(seq) ?? 0)) acked.add(seq);
    while (acked.has(this.cursor.seq + 1)) this.store(this.cursor.seq + 1);
  }

  store(seq) {
    if (this.cursor?.epoch !== this.epoch || this.cursor.seq < seq) this.cursor = { epoch: this.epoch, seq };
  }

  /** Nothing newer is sent while a message is refused. */
  send() {
    const { session } = this;
    for (; session && !this.waiting.length && session.sent < this.head; ) this.message((session.sent += 1));
    if (session?.target === undefined || session.sent < session.target) return;
    session.target = undefined;
    this.say({ type: "caught_up", topic_id: "t", seq: session.sent });
  }

  /** What was refused and has not come again. */
  get waiting() {
    return [...(this.session?.refused ?? [])].filter(([, newest]) => newest === Infinity).map(([seq]) => seq);
  }

  /** The retry delay is over: what was refused, and all behind it that is not acknowledged, comes again. */
  retry() {
    const { waiting } = this;
    const { refused, acked, sent } = this.session ?? {};
    for (const seq of waiting) refused.set(seq, sent);
    for (let seq = Math.min(...waiting); seq <= sent; seq += 1) if (!acked.has(seq)) this.message(seq, { attempt: 2 });
    this.serve();
  }

  message(seq, more = {}) {
    this.say(message("t", seq, { ts: seq * 1_000, payload: this.epoch, ...more }));
  }

  say(frame) {
    if (!this.reach) return;
    this.reach -= 1;
    this.socket.say(frame);
  }
}
