/** What of an acknowledged subscription is open, failed and finished. Pure; by `seq`. */

export class Acks {
  private _finished = 0; // the highest that was acknowledged here
  private _sent = 0; // the highest that the server was told
  private _seen = 0; // the highest that came in the present session: the server knows no other
  private _again = Infinity; // the lowest that is finished here and was sent again: the server has to be told once more
  private _begun = false; // a message of the present session came
  private readonly _open = new Set<number>(); // waiting in the queue; in auto mode also in the application's hands
  private readonly _failed = new Set<number>(); // nacked in the present session: the server holds the line there
  private readonly _old = new Set<number>(); // nacked in an earlier session: the server may not know

  constructor(private readonly _manual: boolean) {}

  /** The highest seq up to which nothing is open; undefined where nothing was finished. */
  get acknowledged(): number | undefined {
    if (!this._finished) return undefined;
    return Math.min(this._finished, lowest(this._open) - 1, lowest(this._old) - 1, lowest(this._failed) - 1);
  }

  /** Whether a message that lies at or below the cursor is for the application. */
  passes(seq: number, attempt = 1): boolean {
    this._arrived(seq);
    if (this._open.has(seq)) return false;
    if (this._failed.has(seq) || this._old.has(seq)) return true;
    if (seq > this._finished && this._manual) return attempt > 1;
    this._again = Math.min(this._again, seq);
    return false;
  }

  /** A message was put into the queue. */
  queued(seq: number): void {
    this._arrived(seq);
    this._failed.delete(seq);
    this._old.delete(seq);
    this._open.add(seq);
  }

  /** The application has it. In manual mode it is its business from now on. */
  handed(seq: number): void {
    if (this._manual) this._open.delete(seq);
  }

  /** Acknowledged: this one, and by the protocol every one below it but those that were nacked. */
  finish(seq: number): void {
    for (const set of [this._open, this._failed, this._old]) set.delete(seq);
    this._finished = Math.max(this._finished, seq);
  }

  /** Returns whether it was open, so that the server is to be told. */
  nack(seq: number): boolean {
    this._open.delete(seq);
    if (this._failed.has(seq)) return false;
    this._failed.add(seq);
    return true;
  }

  /** Whether a message in the application's hands was nacked there. */
  isFailed(seq: number): boolean {
    return this._failed.has(seq) || this._old.has(seq);
  }

  /** A new session begins: it knows nothing of what failed in the last one. */
  newSession(): void {
    for (const seq of this._failed) this._old.add(seq);
    this._failed.clear();
    this._seen = 0;
    this._begun = false;
    this._again = Infinity;
  }

  /** The topic begins anew. */
  reset(): void {
    this.newSession();
    this._old.clear();
    this._open.clear();
    this._finished = this._sent = 0;
  }

  /** Replay is over: what failed and did not come again was given up. */
  caughtUp(seq: number): void {
    for (const one of this._old) if (one <= seq) this._old.delete(one);
  }

  /** How many were finished and not told. */
  get untold(): number {
    return this._finished - this._sent;
  }

  /** Returns the seq of the `ack` to send, or null. `told` follows when it was sent. */
  due(): number | null {
    const seq = Math.min(this._finished, this._seen, lowest(this._open) - 1); // what failed before comes before it is seen
    return seq > 0 && (seq > this._sent || seq >= this._again) ? seq : null;
  }

  told(seq: number): void {
    this._sent = Math.max(this._sent, seq);
    this._again = Infinity;
  }

  private _arrived(seq: number): void {
    if (!this._begun) for (const one of this._old) if (one < seq) this._old.delete(one); // given up meanwhile
    this._begun = true;
    this._seen = Math.max(this._seen, seq);
  }
}

function lowest(seqs: Set<number>): number {
  let least = Infinity;
  for (const seq of seqs) least = Math.min(least, seq);
  return least;
}
