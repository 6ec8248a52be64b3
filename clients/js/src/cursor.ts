/** The place of one subscription: where to ask from, what is a repeat, what is missing. Pure. */

import type { Frame, From, Gap, Position } from "./types.js";

export type Missing = Omit<Gap, "topic_id" | "refetch">;

export class Cursor {
  private epoch: number | undefined;
  private seq: number | undefined; // the newest that was taken
  private jumps = true; // the first message of a session may lie further on: nobody told where it begins
  private known = false; // was granted once

  /** `acked`: the server keeps the cursor, so a session may begin with messages that were taken already. */
  constructor(
    private readonly first: From,
    private readonly acked: boolean,
  ) {}

  /** The newest that was taken, where it has a number. */
  get position(): Position | undefined {
    return this.epoch === undefined || this.seq === undefined ? undefined : { epoch: this.epoch, seq: this.seq };
  }

  /** Where to subscribe from. `acknowledged` is the highest seq below which nothing is open (acked only). */
  ask(acknowledged?: number): From {
    if (!this.known || (this.acked && this.first === "cursor")) return this.first;
    const seq = this.acked ? acknowledged : this.seq;
    return this.epoch === undefined || seq === undefined ? this.first : { epoch: this.epoch, seq };
  }

  /** Applies the frame `subscribed` to what was asked. Returns what will never come because of it. */
  granted(frame: Frame, asked: From): Missing | null {
    const had = this.seq !== undefined || (typeof asked === "object" && "seq" in asked);
    const before = this.position;
    this.known = true;
    this.jumps = false;
    if (frame.profile === "ephemeral") {
      this.epoch = this.seq = undefined;
      return frame.resumed === false && had ? lost("ephemeral", before) : null;
    }
    const reason = frame.resumed === false ? String(frame.reason) : "";
    this.epoch = frame.epoch as number;
    this.seq = this.begin(frame, asked, reason);
    this.jumps = this.seq === undefined || asked === "cursor";
    return had && (reason === "epoch_changed" || reason === "ahead") ? lost(reason, before) : null;
  }

  /** Returns whether the message is new, was taken before, or what lies before it. Nothing changes. */
  judge(seq: number | undefined): "new" | "repeat" | Missing {
    if (seq === undefined || this.seq === undefined) return "new";
    if (seq <= this.seq) return "repeat";
    if (seq === this.seq + 1 || this.jumps) return "new";
    return between(this.seq + 1, seq - 1, "missing", true);
  }

  /** Notes that a message, or a gap up to it, was taken. */
  take(seq: number | undefined): void {
    this.jumps = false;
    if (seq !== undefined && seq > (this.seq ?? -1)) this.seq = seq;
  }

  /** Returns the part of a `gap` frame that is not behind the cursor, or null. Nothing changes. */
  gap(frame: Frame): Missing | null {
    const { from_seq, to_seq, count } = frame as Partial<Missing>;
    const [reason, recoverable] = [String(frame.reason), frame.recoverable === true];
    if (typeof from_seq !== "number" || typeof to_seq !== "number") {
      return { from_seq: null, to_seq: null, count: count ?? null, reason, recoverable: false };
    }
    const begin = Math.max(from_seq, (this.seq ?? -1) + 1);
    if (to_seq < begin) return null;
    return begin === from_seq
      ? { from_seq, to_seq, count: count ?? to_seq - from_seq + 1, reason, recoverable }
      : between(begin, to_seq, reason, recoverable);
  }

  /** Applies `caught_up`: where nothing came, its seq is the place. */
  caughtUp(seq: unknown): void {
    if (this.epoch !== undefined && this.seq === undefined && typeof seq === "number") this.seq = seq;
  }

  /** Returns the seq behind which delivery begins, or undefined where only the first message tells. */
  private begin(frame: Frame, asked: From, reason: string): number | undefined {
    const head = frame.seq as number;
    const belowFirst = ((frame.first_seq as number | undefined) ?? 1) - 1;
    if (reason === "epoch_changed") return belowFirst;
    if (reason === "ahead" || asked === "live") return head;
    if (asked === "earliest") return belowFirst;
    if (asked === "cursor") return this.seq;
    if (!("seq" in asked)) return undefined;
    return Math.max(this.seq ?? 0, asked.seq || belowFirst);
  }
}

function between(from_seq: number, to_seq: number, reason: string, recoverable: boolean): Missing {
  return { from_seq, to_seq, count: to_seq - from_seq + 1, reason, recoverable };
}

function lost(reason: string, before: Position | undefined): Missing {
  return { from_seq: before ? before.seq + 1 : null, to_seq: null, count: null, reason, recoverable: false };
}
