/** The place of one subscription: where to ask from, what is a repeat, what is missing. Pure. */

import type { Frame, From, Gap, Position } from "./types.js";

export type Missing = Omit<Gap, "topic_id" | "refetch">;

export class Cursor {
  private _epoch: number | undefined;
  private _seq: number | undefined; // the newest that was taken
  private _jumps = true; // the first message of a session may lie further on: nobody told where it begins
  private _known = false; // was granted once

  /** `acked`: the server keeps the cursor, so a session may begin with messages that were taken already. */
  constructor(
    private readonly _first: From,
    private readonly _acked: boolean,
  ) {}

  /** The newest that was taken, where it has a number. */
  get position(): Position | undefined {
    return this._epoch === undefined || this._seq === undefined ? undefined : { epoch: this._epoch, seq: this._seq };
  }

  /** Where to subscribe from. `acknowledged` is the highest seq below which nothing is open (acked only). */
  ask(acknowledged?: number): From {
    if (!this._known || (this._acked && this._first === "cursor")) return this._first;
    const seq = this._acked ? acknowledged : this._seq;
    return this._epoch === undefined || seq === undefined ? this._first : { epoch: this._epoch, seq };
  }

  /** Applies the frame `subscribed` to what was asked. Returns what will never come because of it. */
  answered(frame: Frame, asked: From): Missing | null {
    const had = this._seq !== undefined || (typeof asked === "object" && "seq" in asked);
    const before = this.position;
    this._known = true;
    this._jumps = false;
    if (frame.profile === "ephemeral") {
      this._epoch = this._seq = undefined;
      return frame.resumed === false && had ? lost("ephemeral", before) : null;
    }
    const reason = frame.resumed === false ? String(frame.reason) : "";
    this._epoch = frame.epoch as number;
    this._seq = this._begin(frame, asked, reason);
    this._jumps = this._seq === undefined || asked === "cursor";
    return had && (reason === "epoch_changed" || reason === "ahead") ? lost(reason, before) : null;
  }

  /** Returns whether the message is new, was taken before, or what lies before it. Nothing changes. */
  judge(seq: number | undefined): "new" | "repeat" | Missing {
    if (seq === undefined || this._seq === undefined) return "new";
    if (seq <= this._seq) return "repeat";
    if (seq === this._seq + 1 || this._jumps) return "new";
    return between(this._seq + 1, seq - 1, "missing", true);
  }

  /** Notes that a message, or a gap up to it, was taken. */
  take(seq: number | undefined): void {
    this._jumps = false;
    if (seq !== undefined && seq > (this._seq ?? -1)) this._seq = seq;
  }

  /** Returns the part of a `gap` frame that is not behind the cursor, or null. Nothing changes. */
  gap(frame: Frame): Missing | null {
    const { from_seq, to_seq, count } = frame as Partial<Missing>;
    const [reason, recoverable] = [String(frame.reason), frame.recoverable === true];
    if (typeof from_seq !== "number" || typeof to_seq !== "number") {
      return { from_seq: null, to_seq: null, count: count ?? null, reason, recoverable: false };
    }
    const begin = Math.max(from_seq, (this._seq ?? -1) + 1);
    if (to_seq < begin) return null;
    return begin === from_seq
      ? { from_seq, to_seq, count: count ?? to_seq - from_seq + 1, reason, recoverable }
      : between(begin, to_seq, reason, recoverable);
  }

  /** Applies `caught_up`: where nothing came, its seq is the place. */
  caughtUp(seq: unknown): void {
    if (this._epoch !== undefined && this._seq === undefined && typeof seq === "number") this._seq = seq;
  }

  /** Returns the seq behind which delivery begins, or undefined where only the first message tells. */
  private _begin(frame: Frame, asked: From, reason: string): number | undefined {
    const head = frame.seq as number;
    const belowFirst = ((frame.first_seq as number | undefined) ?? 1) - 1;
    if (reason === "epoch_changed") return belowFirst;
    if (reason === "ahead" || asked === "live") return head;
    if (asked === "earliest") return belowFirst;
    if (asked === "cursor") return this._seq;
    if (!("seq" in asked)) return undefined;
    return Math.max(this._seq ?? 0, asked.seq || belowFirst);
  }
}

function between(from_seq: number, to_seq: number, reason: string, recoverable: boolean): Missing {
  return { from_seq, to_seq, count: to_seq - from_seq + 1, reason, recoverable };
}

function lost(reason: string, before: Position | undefined): Missing {
  return { from_seq: before ? before.seq + 1 : null, to_seq: null, count: null, reason, recoverable: false };
}
