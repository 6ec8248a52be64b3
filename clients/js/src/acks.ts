/**
 * What of an acknowledged subscription is open, refused and finished. Pure; by `seq`.
 *
 * An `ack` counts for all messages below it, also for one that was refused and that the server has just sent again. So none
 * goes above the lowest refused message before that one is handled, or given up by the server: behind a refused message it
 * sends nothing before that one. Nor does an `ack` count for a refused message where it names one that was sent before that
 * one came again: so a refused message that is handled at last is named by an `ack` of its own.
 */

const TOLD = 0; // the server is told of a refusal
const HEARD = 1; // it has heard of it; above: the message has come again, and the first seq that had not come then

const OPEN = 1; // a dead letter that was sent anew waits for the application
const REFUSED = 2; // it was refused again

export class Acks {
  private _finished = 0; // the highest that was acknowledged here
  private _sent = 0; // the highest that the server was told
  private _seen = 0; // the highest that came in the present session: the server knows no other
  private _again = Infinity; // the lowest that is finished here and was sent again: the server has to be told once more
  private readonly _open = new Set<number>(); // waiting in the queue; in auto mode also in the application's hands
  private readonly _refused = new Map<number, number>(); // until it is handled
  private readonly _own = new Set<number>(); // were refused and are handled: to be named
  private readonly _replays = new Map<number, number>(); // dead letters that were sent anew
  private readonly _exact = new Set<number>(); // handled replays: each is acknowledged by its own number

  constructor(private readonly _manual: boolean) {}

  /** The highest seq up to which nothing is open; undefined where nothing was finished. */
  get acknowledged(): number | undefined {
    return this._finished ? Math.min(this._finished, Math.min(...this._open, ...this._refused.keys()) - 1) : undefined;
  }

  /** Whether a message that lies at or below the cursor is for the application. `attempt` is that of the frame. */
  passes(seq: number, attempt?: number): boolean {
    const replay = this._replays.get(seq);
    if (attempt === 1 || replay) return replay !== OPEN && !this._open.has(seq);
    this._arrived(seq);
    if (this._open.has(seq)) return false;
    if (this.isRefused(seq)) return true;
    if (this._refused.has(seq) || (seq > this._finished && this._manual)) return (attempt ?? 1) > 1;
    this._again = Math.min(this._again, seq);
    return false;
  }

  /** A message was put into the queue. */
  queued(seq: number, attempt?: number): void {
    if (attempt === 1 || this._replays.has(seq)) {
      this._replays.set(seq, OPEN);
      return;
    }
    this._arrived(seq);
    if (this._refused.has(seq)) this._refused.set(seq, this._seen + 1);
    this._open.add(seq);
  }

  /** The application has it. In manual mode it is its business from now on. */
  handed(seq: number): void {
    if (this._manual) this._open.delete(seq);
  }

  /** Acknowledged: this one, and by the protocol every one below it but those that were refused and came again behind it. */
  finish(seq: number): void {
    if (this._replays.delete(seq)) {
      this._exact.add(seq);
      return;
    }
    this._open.delete(seq);
    if (this._refused.delete(seq)) this._own.add(seq);
    for (const [low, next] of this._refused) if (next > HEARD && next <= seq) this._refused.delete(low);
    this._finished = Math.max(this._finished, seq);
  }

  /** Returns whether it was not refused already, so that the server is to be told. */
  nack(seq: number): boolean {
    if (this.isRefused(seq)) return false;
    if (this._replays.has(seq)) this._replays.set(seq, REFUSED);
    else {
      this._open.delete(seq);
      this._refused.set(seq, TOLD);
    }
    return true;
  }

  /** The server has the `nack`: what it sends from now on shows whether the message comes again. */
  heard(seq: number): void {
    if (this._refused.get(seq) === TOLD) this._refused.set(seq, HEARD);
  }

  /** Whether a message in the application's hands was refused there. */
  isRefused(seq: number): boolean {
    return this._refused.get(seq)! <= HEARD || this._replays.get(seq) === REFUSED;
  }

  /** A new session begins at the server's cursor, which is below what was refused or has passed it. */
  newSession(): void {
    for (const seq of this._refused.keys()) this.heard(seq);
    this._own.clear(); // it knows of no refusal
    this._seen = 0;
    this._again = Infinity;
  }

  /** The topic begins anew. */
  reset(): void {
    this.newSession();
    this._refused.clear();
    this._open.clear();
    this._replays.clear();
    this._exact.clear();
    this._finished = this._sent = 0;
  }

  /** Replay is over: what was refused and did not come again was given up. */
  caughtUp(seq: number): void {
    this._givenUp(seq + 1);
  }

  /** How many were finished and not told. */
  get untold(): number {
    return this._finished - this._sent;
  }

  /** Returns the seq of the `ack` to send, or null. `told` follows when it was sent. */
  nextAck(): number | null {
    const [exact] = this._exact;
    if (exact) return exact;
    const seq = Math.min(this.acknowledged ?? 0, this._seen);
    const own = Math.min(...this._own); // of none: Infinity
    return own <= seq ? own : seq > this._sent || seq >= this._again ? seq : null;
  }

  told(seq: number): void {
    if (this._exact.delete(seq)) return;
    this._own.delete(seq);
    this._sent = Math.max(this._sent, seq);
    this._again = Infinity;
  }

  private _arrived(seq: number): void {
    this._givenUp(seq);
    this._seen = Math.max(this._seen, seq);
  }

  private _givenUp(below: number): void {
    for (const [seq, state] of this._refused) if (state === HEARD && seq < below) this._refused.delete(seq);
  }
}
