/** Requests to the HTTP API, one try or as many as it takes. */

import { Backoff } from "./backoff.js";
import type { Credentials } from "./credentials.js";
import type { Env } from "./env.js";
import { HeadgateError } from "./errors.js";
import { addressOf } from "./transport.js";

export interface CallOptions {
  /** Sent as JSON. */
  body?: unknown;
  query?: Record<string, string | number | boolean | undefined>;
  headers?: Record<string, string>;
}

/** One try is given up after this; the server answers a publish within 10 s. */
const TRY_MS = 20_000;
/** The first window of the back-off. */
const FIRST_MS = 1_000;

export class Http {
  private readonly _waits = new Set<() => void>();

  constructor(
    private readonly _env: Env,
    private readonly _url: string,
    private readonly _credentials: Credentials,
    private readonly _maxMs: number,
  ) {}

  /** Sends one request, a second one where a token that can be renewed was refused. Throws HeadgateError. */
  async call(method: string, path: string, options: CallOptions = {}): Promise<any> {
    try {
      return await this._once(method, path, options);
    } catch (error) {
      if ((error as HeadgateError).status !== 401 || !this._credentials.refreshable) throw error;
      this._credentials.expire();
      return this._once(method, path, options);
    }
  }

  /**
   * Runs it until it succeeds, fails for good, or the time is over; with back-off and full jitter, and what the server asks
   * for. Without a network it waits for the network, and tries less often.
   */
  async retried<T>(run: () => Promise<T>, timeoutMs: number, alive: () => boolean = () => true): Promise<T> {
    const { _env: env } = this;
    const until = env.now() + timeoutMs;
    const backoff = new Backoff(env.random, FIRST_MS, this._maxMs);
    let unknown = false; // a try may have been heard
    for (;;) {
      try {
        if (!alive()) throw new HeadgateError("closed");
        return await run();
      } catch (error) {
        if (!(error instanceof HeadgateError) || !error.retryable || !alive()) throw error;
        unknown ||= ["network", "outcome_unknown", "timeout"].includes(error.code);
        const left = until - env.now();
        const pause = backoff.next(error.retry_after_ms);
        if (pause >= left) throw unknown ? new HeadgateError("outcome_unknown", `last try: ${error.message}`, true) : error;
        await this._sleep(pause, left);
      }
    }
  }

  /** Ends every wait for another try. */
  wake(): void {
    for (const end of [...this._waits]) end();
  }

  /** Waits; without a network longer, at most `mostMs`, and not after it is back. */
  private _sleep(ms: number, mostMs: number): Promise<void> {
    return new Promise((resolve) => {
      const { _env: env } = this;
      const end = () => {
        cancel();
        stop();
        this._waits.delete(end);
        resolve();
      };
      this._waits.add(end);
      const stop = env.page.listen((event) => event === "online" && end());
      const cancel = env.after(env.page.offline() ? Math.min(mostMs, ms + this._maxMs) : ms, end);
    });
  }

  private async _once(method: string, path: string, { body, query = {}, headers = {} }: CallOptions): Promise<any> {
    const { href } = addressOf(this._url + path, query);
    const abort = new AbortController();
    const cancel = this._env.after(TRY_MS, () => abort.abort());
    try {
      const type = body !== undefined && { "Content-Type": "application/json" };
      const answer = await this._env.fetch(href, {
        method,
        headers: { ...(await this._credentials.ofRequest()), ...headers, ...type },
        body: JSON.stringify(body),
        signal: abort.signal,
        cache: "no-store",
      });
      if (!answer.ok) throw await problemOf(answer);
      const text = await answer.text();
      return text ? JSON.parse(text) : undefined;
    } catch (error) {
      if (error instanceof HeadgateError) throw error;
      throw new HeadgateError(abort.signal.aborted ? "timeout" : "network", String(error), true);
    } finally {
      cancel();
    }
  }
}

/** Returns the error of an answer that is not 2xx, a problem document or not. */
export async function problemOf(answer: Response): Promise<HeadgateError> {
  const problem = await answer.json().catch(() => ({}));
  const { status } = answer;
  const code = problem.code ?? (status === 504 ? "outcome_unknown" : `http_${status}`); // of a proxy
  const retryable = problem.retryable ?? (status >= 500 || status === 429 || status === 408);
  return new HeadgateError(code, problem.detail, retryable, {
    status,
    problem,
    retry_after_ms: (Number(answer.headers.get("Retry-After")) || 0) * 1000,
  });
}
