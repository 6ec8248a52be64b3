/** A token bucket: the server takes 10 control frames a second with a burst of 150, above it refuses and later closes. */

const SHARE = 0.9; // of what the server allows; the two clocks are not the same

export class Pacer {
  private tokens: number;

  /** `perS` and `burst` are those of `welcome.limits`; `now` is in milliseconds. */
  constructor(
    private readonly perS: number,
    private readonly burst: number,
    private at: number,
  ) {
    this.tokens = burst * SHARE;
  }

  /** Takes one token and returns true, where more than `reserve` are left. */
  take(now: number, reserve = 0): boolean {
    this.tokens = Math.min(this.tokens + (Math.max(now - this.at, 0) / 1000) * this.perS * SHARE, this.burst * SHARE);
    this.at = now;
    if (this.tokens < 1 + reserve) return false;
    this.tokens -= 1;
    return true;
  }

  /** Milliseconds until there is one more. */
  get pauseMs(): number {
    return Math.ceil(1000 / (this.perS * SHARE));
  }
}
