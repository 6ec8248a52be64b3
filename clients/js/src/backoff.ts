/** What a close code asks for, and how long to wait. */

export type Verdict = "stop" | "back_off" | "at_once";

/** Returns what the close code's class asks for (docs/reference/websocket.md, "Close codes"). */
export function verdictOf(code: number): Verdict {
  if ([1002, 1007, 1009].includes(code) || (code >= 4400 && code < 4500)) return "stop";
  return code >= 4600 && code < 4700 ? "at_once" : "back_off";
}

/** Exponential back-off with full jitter: any time from 0 to a window that doubles. */
export class Backoff {
  private _failures = 0;
  /** The part of its window that the next wait takes, where the server told one (`welcome`): it spreads its clients. */
  jitter?: number;

  /**
   * `firstMs` is the first window. `tries` is how many tries have the same window: with several addresses each is tried
   * once before the window grows.
   */
  constructor(
    private readonly _random: () => number,
    private readonly _firstMs: number,
    private readonly _maxMs: number,
    private readonly _tries = 1,
  ) {}

  /** Returns the milliseconds to wait before the next try, on top of what the server asked for. */
  next(retryAfterMs = 0): number {
    const doublings = Math.min(Math.floor(this._failures++ / this._tries), 30);
    const part = this.jitter ?? this._random();
    this.jitter = undefined;
    return retryAfterMs + part * Math.min(this._maxMs, this._firstMs * 2 ** doublings);
  }

  /** After a success: the next window is the first one again. */
  reset(): void {
    this._failures = 0;
  }
}
