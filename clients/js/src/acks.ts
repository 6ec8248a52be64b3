/** What of an acknowledged subscription is open, failed and finished. Pure; by `seq`. */

export class Acks {
  private finished = 0; // the highest that was acknowledged here
  private sent = 0; // the highest that the server was told
  private seen = 0; // the highest that came in the present session: the server knows no other
  private again = false; // the server has sent what is finished: it has to be told once more
  private begun = false; // a message of the present session came
  private readonly open = new Set<number>(); // waiting in the queue; in auto mode also in the application's hands
  private readonly failed = new Set<number>(); // nacked in the present session: the server holds the line there
  private readonly old = new Set<number>(); // nacked in an earlier session: the server may not know

  constructor(private readonly manual: boolean) {}

  /** The highest seq up to which nothing is open; undefined where nothing was finished. */
  get acknowledged(): number | undefined {
    if (!this.finished) return undefined;
    return Math.min(this.finished, lowest(this.open) - 1, lowest(this.old) - 1, lowest(this.failed) - 1);
  }

  /** Whether a message that lies at or below the cursor is for the application. */
  passes(seq: number, attempt = 1): boolean {
    this.arrived(seq);
    if (this.open.has(seq)) return false;
    if (this.failed.has(seq) || this.old.has(seq)) return true;
    if (seq > this.finished && this.manual) return attempt > 1;
    this.again = true;
    return false;
  }

  /** A message was put into the queue. */
  queued(seq: number): void {
    this.arrived(seq);
    this.failed.delete(seq);
    this.old.delete(seq);
    this.open.add(seq);
  }

  /** The application has it. In manual mode it is its business from now on. */
  handed(seq: number): void {
    if (this.manual) this.open.delete(seq);
  }

  /** Acknowledged: this one, and by the protocol every one below it but those that were nacked. */
  finish(seq: number): void {
    for (const set of [this.open, this.failed, this.old]) set.delete(seq);
    this.finished = Math.max(this.finished, seq);
  }

  /** Returns whether it was open, so that the server is to be told. */
  nack(seq: number): boolean {
    this.open.delete(seq);
    if (this.failed.has(seq)) return false;
    this.failed.add(seq);
    return true;
  }

  /** Whether a message in the application's hands was nacked there. */
  isFailed(seq: number): boolean {
    return this.failed.has(seq) || this.old.has(seq);
  }

  /** A new session begins: it knows nothing of what failed in the last one. */
  newSession(): void {
    for (const seq of this.failed) this.old.add(seq);
    this.failed.clear();
    this.seen = 0;
    this.begun = this.again = false;
  }

  /** The topic begins anew. */
  reset(): void {
    this.newSession();
    this.old.clear();
    this.open.clear();
    this.finished = this.sent = 0;
  }

  /** Replay is over: what failed and did not come again was given up. */
  caughtUp(seq: number): void {
    for (const one of this.old) if (one <= seq) this.old.delete(one);
  }

  /** How many were finished and not told. */
  get untold(): number {
    return this.finished - this.sent;
  }

  /** Returns the seq of the `ack` to send, or null. `told` follows when it was sent. */
  due(): number | null {
    const seq = Math.min(this.finished, this.seen, lowest(this.open) - 1, lowest(this.old) - 1);
    return seq > 0 && (seq > this.sent || this.again) ? seq : null;
  }

  told(seq: number): void {
    this.sent = Math.max(this.sent, seq);
    this.again = false;
  }

  private arrived(seq: number): void {
    if (!this.begun) for (const one of this.old) if (one < seq) this.old.delete(one); // given up meanwhile
    this.begun = true;
    this.seen = Math.max(this.seen, seq);
  }
}

function lowest(seqs: Set<number>): number {
  let least = Infinity;
  for (const seq of seqs) least = Math.min(least, seq);
  return least;
}
