/** The place of one subscription: where to ask from, what is a repeat, what is missing. Pure. */

import type { Frame, From, Gap, Position } from "./types.js";

export type Missing = Omit<Gap, "topic_id" | "refetch">;

export class Cursor {
  private _epoch: number | undefined;
  private _seq: number | undefined; // the newest that was taken
  private _start: number | undefined; // the place behind which this epoch began here, once that is known
  private _latest: number | undefined; // the head of its first grant: it began there or below
  private _jumps = false; // a session may begin further on: another one of the device acknowledged what lies before

  /** `acked`: a session begins where acknowledgements are, so it may begin with messages that were taken already. */
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
    const seq = this._acked ? (acknowledged ?? this._start) : this._seq;
    if (this._epoch === undefined || seq === undefined || (this._acked && this._first === "cursor")) return this._first;
    return { epoch: this._epoch, seq };
  }

  /** Applies the frame `subscribed` to what was asked. Returns what will never come because of it: then all counts anew. */
  answered(frame: Frame, asked: From): Missing | null {
    const next = this._seq === undefined ? null : this._seq + 1;
    let reason = frame.resumed === false ? String(frame.reason) : "";
    if (frame.profile === "ephemeral") {
      this._epoch = this._seq = this._start = this._latest = undefined;
      return reason ? newMissing(reason, next) : null;
    }
    const epoch = frame.epoch as number;
    if (this._epoch !== undefined && this._epoch !== epoch) reason = "epoch_changed"; // told or not
    const anew = reason === "epoch_changed" || reason === "ahead";
    if (anew) this._start = this._latest = undefined;
    this._epoch = epoch;
    this._latest ??= frame.seq as number;
    this._seq = this._begin(frame, asked, reason);
    this._start ??= this._seq;
    this._jumps = asked === "cursor" && !reason;
    return anew ? newMissing(reason, next) : null;
  }

  /** Returns whether the message is new, was taken before, or what lies before it. Nothing changes. */
  judge(seq: number | undefined): "new" | "repeat" | Missing {
    if (seq === undefined) return "new";
    const before = this._seq ?? Math.min(seq - 1, this._latest!);
    if (seq <= before) return "repeat";
    return seq === before + 1 || this._jumps ? "new" : newMissing("missing", before + 1, seq - 1, true);
  }

  /** Notes that a message, or a gap up to it, was taken. */
  take(seq: number | undefined): void {
    this._jumps = false;
    if (seq === undefined || seq <= (this._seq ?? -1)) return;
    this._start ??= seq - 1;
    this._seq = seq;
  }

  /** Returns the part of a `gap` frame that is not behind the cursor, or null. Nothing changes. */
  gap(frame: Frame): Missing | null {
    const { from_seq, to_seq, count = null } = frame as Partial<Missing>;
    const reason = String(frame.reason);
    if (typeof from_seq !== "number" || typeof to_seq !== "number") {
      return newMissing(reason, null, null, false, count);
    }
    const begin = Math.max(from_seq, (this._seq ?? -1) + 1);
    return to_seq < begin ? null : newMissing(reason, begin, to_seq, frame.recoverable === true);
  }

  /** Applies `caught_up`: where nothing came, it began at the head. */
  caughtUp(): void {
    this._seq ??= this._latest;
    this._start ??= this._seq;
  }

  /** Returns the seq behind which delivery begins, or undefined where only the first message tells. */
  private _begin(frame: Frame, asked: From, reason: string): number | undefined {
    const head = frame.seq as number;
    const belowFirst = ((frame.first_seq as number | undefined) ?? 1) - 1;
    if (reason === "epoch_changed" || asked === "earliest") return belowFirst;
    if (reason === "ahead" || asked === "live") return head;
    if (this._seq !== undefined || asked === "cursor") return this._seq;
    if ("seq" in asked) return asked.seq || belowFirst;
    return "last" in asked ? Math.max(head - asked.last, belowFirst) : undefined;
  }
}

/** Returns what is missing, with its count where the numbers are known. */
export function newMissing(
  reason: string,
  from_seq: number | null = null,
  to_seq: number | null = null,
  recoverable = false,
  count = to_seq === null ? null : to_seq - from_seq! + 1,
): Missing {
  return { from_seq, to_seq, count, reason, recoverable };
}
