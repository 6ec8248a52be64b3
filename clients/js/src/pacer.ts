/** A token bucket: the server takes 10 control frames a second with a burst of 150, above it refuses and later closes. */

const SHARE = 0.9; // of what the server allows; the two clocks are not the same

export class Pacer {
  private _tokens: number;

  /** `perS` and `burst` are those of `welcome.limits`; `now` is in milliseconds. */
  constructor(
    private _perS: number,
    private _burst: number,
    private _at: number,
  ) {
    this._perS *= SHARE;
    this._tokens = this._burst *= SHARE;
  }

  /** Takes one token and returns true, where more than `reserve` are left. */
  take(now: number, reserve = 0): boolean {
    this._tokens = Math.min(this._tokens + (Math.max(now - this._at, 0) / 1000) * this._perS, this._burst);
    this._at = now;
    if (this._tokens < 1 + reserve) return false;
    this._tokens -= 1;
    return true;
  }

  /** Milliseconds until there is one more. */
  get pauseMs(): number {
    return Math.ceil(1000 / this._perS);
  }
}
