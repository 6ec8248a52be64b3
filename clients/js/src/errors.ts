/** The one error of this package. */

/**
 * What went wrong. `code` is a code of the protocol (docs/reference/errors.md), or one of this package:
 * `network` (no answer), `http_<status>` (of a proxy), `timeout`, `connection_lost`, `stopped` (the server said stop, see `close_code`), `closed`
 * (closed here), `replaced`, `ended`, `deleted` (the reasons of `unsubscribed`), `needs_websocket`.
 */
export class HeadgateError extends Error {
  /** HTTP status, where there was one. */
  status?: number;
  /** Close code of the connection, where that is what happened. */
  close_code?: number;
  /** Milliseconds that the server asks to wait. */
  retry_after_ms = 0;
  /** The whole problem or frame as the server sent it. */
  problem?: Record<string, unknown>;

  constructor(
    readonly code: string,
    detail = "",
    /** Whether the same may succeed later. */
    readonly retryable = false,
    more: Partial<Pick<HeadgateError, "status" | "close_code" | "retry_after_ms" | "problem">> = {},
  ) {
    super(detail ? `${code}: ${detail}` : code);
    this.name = "HeadgateError";
    Object.assign(this, more);
  }
}

/** Returns the error of an `error` frame. */
export function errorOfFrame(frame: Record<string, unknown>): HeadgateError {
  return new HeadgateError(String(frame.code), frame.message as string | undefined, frame.retryable === true, {
    retry_after_ms: Number(frame.retry_after_ms) || 0,
    problem: frame,
  });
}
