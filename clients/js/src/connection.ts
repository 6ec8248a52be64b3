/** Keeps a client connected: state, tries, dead connections, answers. It knows no topic. */

import { Backoff, verdictOf } from "./backoff.js";
import type { Credentials } from "./credentials.js";
import type { Env, PageEvent } from "./env.js";
import { errorOfFrame, HeadgateError } from "./errors.js";
import { Pacer } from "./pacer.js";
import { openStreams } from "./sse.js";
import { after, CONNECTION, type ConnectionEvent, type ConnectionState } from "./states.js";
import type { Transport } from "./transport.js";
import type { Frame } from "./types.js";
import { openWebSocket } from "./websocket.js";

export interface ConnectionOptions {
  /** Base addresses of gateways. After a loss the next one is tried. */
  urls: string[];
  transport: "auto" | "websocket" | "sse";
  device_id: string | undefined;
  /** The first window of the back-off, and the largest. */
  firstDelayMs: number;
  maxDelayMs: number;
  /** From opening to `welcome`. */
  connectMs: number;
  /** After so long without a frame the client asks with `ping`; the answer has `pongMs`. */
  quietMs: number;
  pongMs: number;
}

export interface ConnectionEvents {
  /** Topics may be asked for. */
  onReady(): void;
  /** Every frame that is no answer to `request`. */
  onFrame(frame: Frame, bytes: number): void;
  onState(state: ConnectionState, error?: HeadgateError): void;
  /** The connection is gone; another try follows unless there is an error. */
  onLost(error?: HeadgateError): void;
  onError(error: unknown): void;
  /** Whether a subscription needs what event streams cannot do. */
  needsWebSocket(): boolean;
}

/** After a connection of this length the back-off begins anew, and `at_once` means at once. */
const STABLE_MS = 10_000;
const AT_ONCE_AFTER_MS = 1_000;
/** Failed WebSockets in a row, none ever open, until event streams are tried. */
const BLOCKED_TRIES = 2;
/** Frames that wait for the server's rate, and requests without an answer. */
const MAX_WAITING = 512;
/** The server's defaults, until `welcome` tells its own. */
const FRAMES_PER_S = 10;
const FRAMES_BURST = 150;

interface Waiting {
  resolve(frame: Frame): void;
  reject(error: HeadgateError): void;
}

export class Connection {
  state: ConnectionState = "idle";
  /** Whether topics may be asked for. */
  ready = false;
  private _transport: Transport | undefined;
  private _pacer: Pacer;
  private _outbox: Frame[] = [];
  private readonly _requests = new Map<unknown, Waiting>();
  private readonly _backoff: Backoff;
  private readonly _stopListening: () => void;
  private _cancelTimer = () => {};
  private _cancelWatch = () => {};
  private _cancelFlush: (() => void) | undefined;
  private _nextId = 0;
  private _tries = 0; // of all connections: which address is next
  private _failedSockets = 0;
  private _everOpen = false; // a WebSocket was
  private _renewed = false; // the credentials were fetched anew because of 4401, and no other connection was lost since
  private _notBefore = 0; // the server asked to wait until then
  private _openedAt = 0;
  private _heardAt = 0;

  constructor(
    private readonly _env: Env,
    private readonly _options: ConnectionOptions,
    private readonly _credentials: Credentials,
    private readonly _on: ConnectionEvents,
  ) {
    const { firstDelayMs, maxDelayMs, urls } = _options;
    this._backoff = new Backoff(_env.random, firstDelayMs, maxDelayMs, urls.length);
    this._pacer = this._newPacer();
    this._stopListening = _env.page.listen((event) => this._onPage(event));
  }

  /** Begins, or begins anew after `stopped`. Does nothing while it is at it. */
  start(): void {
    if (this.state !== "idle" && this.state !== "stopped") return;
    this._renewed = false;
    this._move("start");
    void this._open();
  }

  close(): void {
    if (this.state === "closed") return;
    this._end("close", new HeadgateError("closed"));
    this._stopListening();
  }

  /** Sends a frame now or when the server's rate allows it; returns false when there is no connection. */
  send(frame: Frame): boolean {
    if (!this._transport || !this.ready) return false;
    if (!this._outbox.length && this._pacer.take(this._env.now())) this._transport.send(frame);
    else if (frame.type === "typing") return true; // a hint that comes late is none
    else if (this._outbox.length >= MAX_WAITING) return false;
    else {
      this._outbox.push(frame);
      this._cancelFlush ??= this._env.after(this._pacer.pauseMs, () => this._flush());
    }
    return true;
  }

  /** Sends a frame that may wait, unless it would take the last of the rate; returns whether it was sent. */
  sendSpare(frame: Frame): boolean {
    if (!this._transport || !this.ready || this._outbox.length || !this._pacer.take(this._env.now(), 5)) return false;
    this._transport.send(frame);
    return true;
  }

  /** Sends a frame with an id; resolves with its answer, rejects with its `error` or when the connection is lost. */
  request(frame: Frame): Promise<Frame> {
    return new Promise((resolve, reject) => {
      const id = this.newId();
      if (this._requests.size >= MAX_WAITING || !this.send({ ...frame, id })) {
        return reject(connectionLost());
      }
      this._requests.set(id, { resolve, reject });
    });
  }

  newId(): string {
    return `c${(this._nextId += 1)}`;
  }

  private _move(event: ConnectionEvent, error?: HeadgateError): void {
    this.state = after(CONNECTION, this.state, event);
    this._on.onState(this.state, error);
  }

  private async _open(): Promise<void> {
    const { _env: env, _options: options } = this;
    const streams = this._choosesStreams();
    try {
      const who = () => this._credentials.ofStream();
      const own = streams ? undefined : await who(); // each event stream asks for itself: a ticket may be good for one
      if (this.state !== "fetching") return;
      this._move("fetched");
      const url = options.urls[this._tries % options.urls.length]!;
      this._cancelTimer = env.after(options.connectMs, () => this._onClosed(1006));
      let mine: Transport | undefined = undefined;
      const current = () => mine === this._transport;
      const on = {
        onReady: () => {
          if (!current()) return;
          this.ready = true;
          this._on.onReady();
        },
        onFrame: (frame: Frame, bytes: number) => current() && this._onFrame(frame, bytes),
        onClosed: (code: number) => current() && this._onClosed(code),
      };
      if (!streams && !env.WebSocket) throw new HeadgateError("needs_websocket", "pass a WebSocket class");
      mine = this._transport = own
        ? openWebSocket(env.WebSocket!, url, own.bearer, { ...own.query, device_id: options.device_id }, on)
        : openStreams(env, url, who, on);
    } catch (error) {
      if (this.state !== "fetching" && this.state !== "opening") return;
      if (error instanceof HeadgateError && !error.retryable) return this._end("refused", error);
      this._on.onError(error);
      if (this.state === "opening" && !streams) this._failedSockets += 1; // a policy of the page may forbid them
      this._lose(this._backoff.next());
    }
  }

  private _choosesStreams(): boolean {
    const { transport } = this._options;
    if (transport !== "auto" || this._on.needsWebSocket()) return transport === "sse";
    if (!this._env.WebSocket) return true;
    // every third try is a WebSocket: the network may have changed
    return !this._everOpen && this._failedSockets >= BLOCKED_TRIES && this._tries % (BLOCKED_TRIES + 1) !== 0;
  }

  private _onFrame(frame: Frame, bytes: number): void {
    this._heardAt = this._env.now();
    if (frame.type === "welcome" && this.state === "opening") this._welcome(frame);
    if (frame.type === "disconnect") return this._onClosed(Number(frame.code), Number(frame.retry_after_ms) || 0);
    if (frame.type === "pong") return;
    const waiting = this._requests.get(frame.id);
    if (!waiting) return this._on.onFrame(frame, bytes);
    this._requests.delete(frame.id);
    if (frame.type === "error") waiting.reject(errorOfFrame(frame));
    else waiting.resolve(frame);
  }

  private _welcome(frame: Frame): void {
    this._cancelTimer();
    this._openedAt = this._env.now();
    this._renewed = false;
    this._backoff.jitter = frame.reconnect_jitter as number;
    if (this._transport?.silent) {
      this._everOpen = true;
      this._failedSockets = 0;
      this._pacer = this._newPacer(frame.limits as Record<string, number> | undefined);
      this._watch();
    }
    this._move("welcome");
  }

  private _newPacer(limits: Record<string, number> = {}): Pacer {
    const { control_frames_per_s = FRAMES_PER_S, control_frames_burst = FRAMES_BURST } = limits;
    return new Pacer(control_frames_per_s, control_frames_burst, this._env.now());
  }

  /** Asks when nothing was heard for long; a connection that does not answer is dead. */
  private _watch(): void {
    const left = () => this._heardAt + this._options.quietMs - this._env.now();
    this._cancelWatch();
    this._cancelWatch = this._env.after(Math.max(left(), 0), () => (left() > 0 ? this._watch() : this._probe()));
  }

  private _probe(): void {
    if (this.state !== "open" || !this._transport?.silent) return;
    const { _heardAt: heardAt } = this;
    this._transport.send({ type: "ping" });
    this._cancelWatch();
    this._cancelWatch = this._env.after(this._options.pongMs, () => {
      if (this._heardAt === heardAt) this._onClosed(1006);
      else this._watch();
    });
  }

  private _flush(): void {
    this._cancelFlush = undefined;
    while (this._outbox.length && this._pacer.take(this._env.now())) this._transport?.send(this._outbox.shift()!);
    if (this._outbox.length) this._cancelFlush = this._env.after(this._pacer.pauseMs, () => this._flush());
  }

  private _onClosed(code: number, retryAfterMs = 0): void {
    if (this.state !== "opening" && this.state !== "open") return;
    const lasted = this.state === "open" ? this._env.now() - this._openedAt : -1;
    if (this.state === "opening" && this._transport?.silent) this._failedSockets += 1;
    if (lasted >= STABLE_MS) this._backoff.reset();
    let verdict = verdictOf(code);
    if (code === 4401 || code === 4610) verdict = this._verdictOnCredentials(code);
    this._renewed = code === 4401;
    if (verdict === "stop") {
      const what = code === 4610 ? "token_expired" : code === 4401 ? "unauthenticated" : "stopped";
      return this._end("refused", new HeadgateError(what, `closed with ${code}`, false, { close_code: code }));
    }
    const atOnce = verdict === "at_once" && (lasted >= AT_ONCE_AFTER_MS || code === 4401 || code === 4610);
    this._lose(atOnce ? retryAfterMs : this._backoff.next(retryAfterMs), retryAfterMs);
  }

  private _verdictOnCredentials(code: number): "stop" | "at_once" {
    this._credentials.expire();
    return this._credentials.renewable && !(code === 4401 && this._renewed) ? "at_once" : "stop";
  }

  private _lose(delayMs: number, notBeforeMs = 0): void {
    this._tries += 1;
    this._notBefore = this._env.now() + notBeforeMs;
    this._end("lost");
    if (this.state !== "waiting") return;
    const offline = this._env.page.offline();
    if (offline) this._move("offline");
    // some browsers say it where there is a network: it is tried all the same, less often
    this._cancelTimer = this._env.after(delayMs + (offline ? this._options.maxDelayMs : 0), () => this._due());
  }

  private _due(): void {
    this._cancelTimer();
    this._move("due");
    void this._open();
  }

  private _end(event: ConnectionEvent, error?: HeadgateError): void {
    for (const cancel of [this._cancelTimer, this._cancelWatch, this._cancelFlush]) cancel?.();
    this._cancelFlush = undefined;
    const { _transport: transport } = this;
    this._transport = undefined;
    this.ready = false;
    transport?.close();
    this._outbox = [];
    const lost = error ?? connectionLost();
    for (const waiting of this._requests.values()) waiting.reject(lost);
    this._requests.clear();
    this._on.onLost(error);
    this._move(event, event === "refused" ? error : undefined);
  }

  private _onPage(event: PageEvent): void {
    if (event === "online" || event === "visible") {
      const waits = this.state === "waiting" && this._env.now() >= this._notBefore;
      if (waits || (this.state === "offline" && !this._env.page.offline())) this._due();
    }
    if (event !== "hidden") this._probe(); // the network changed, or the machine slept
  }
}

function connectionLost(): HeadgateError {
  return new HeadgateError("connection_lost", undefined, true);
}
