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
  private transport: Transport | undefined;
  private pacer: Pacer;
  private outbox: Frame[] = [];
  private readonly requests = new Map<unknown, Waiting>();
  private readonly backoff: Backoff;
  private readonly stopListening: () => void;
  private cancelTimer = () => {};
  private cancelWatch = () => {};
  private cancelFlush: (() => void) | undefined;
  private nextId = 0;
  private tries = 0; // of all connections: which address is next
  private failedSockets = 0;
  private everOpen = false; // a WebSocket was
  private renewed = false; // the credentials were fetched anew because of 4401
  private openedAt = 0;
  private heardAt = 0;

  constructor(
    private readonly env: Env,
    private readonly options: ConnectionOptions,
    private readonly credentials: Credentials,
    private readonly on: ConnectionEvents,
  ) {
    const { firstDelayMs, maxDelayMs, urls } = options;
    this.backoff = new Backoff(env.random, firstDelayMs, maxDelayMs, urls.length);
    this.pacer = this.newPacer();
    this.stopListening = env.page.listen((event) => this.onPage(event));
  }

  /** Begins, or begins anew after `stopped`. Does nothing while it is at it. */
  start(): void {
    if (this.state !== "idle" && this.state !== "stopped") return;
    this.renewed = false;
    this.move("start");
    void this.open();
  }

  close(): void {
    if (this.state === "closed") return;
    this.end("close", new HeadgateError("closed", "the client is closed"));
    this.stopListening();
  }

  /** Sends a frame now or when the server's rate allows it; returns false when there is no connection. */
  send(frame: Frame): boolean {
    if (!this.transport || !this.ready) return false;
    if (!this.outbox.length && this.pacer.take(this.env.now())) this.transport.send(frame);
    else if (frame.type === "typing") return true; // a hint that comes late is none
    else if (this.outbox.length >= MAX_WAITING) return false;
    else {
      this.outbox.push(frame);
      this.cancelFlush ??= this.env.after(this.pacer.pauseMs, () => this.flush());
    }
    return true;
  }

  /** Sends a frame that may wait, unless it would take the last of the rate; returns whether it was sent. */
  sendSpare(frame: Frame): boolean {
    if (!this.transport || !this.ready || this.outbox.length || !this.pacer.take(this.env.now(), 5)) return false;
    this.transport.send(frame);
    return true;
  }

  /** Sends a frame with an id; resolves with its answer, rejects with its `error` or when the connection is lost. */
  request(frame: Frame): Promise<Frame> {
    return new Promise((resolve, reject) => {
      const id = this.newId();
      if (this.requests.size >= MAX_WAITING || !this.send({ ...frame, id })) {
        return reject(new HeadgateError("connection_lost", "there is no connection", true));
      }
      this.requests.set(id, { resolve, reject });
    });
  }

  newId(): string {
    return `c${(this.nextId += 1)}`;
  }

  private move(event: ConnectionEvent, error?: HeadgateError): void {
    this.state = after(CONNECTION, this.state, event);
    this.on.onState(this.state, error);
  }

  private async open(): Promise<void> {
    const { env, options } = this;
    const streams = this.choosesStreams();
    try {
      const { bearer, query } = await this.credentials.ofStream();
      if (this.state !== "fetching") return;
      this.move("fetched");
      const url = options.urls[this.tries % options.urls.length]!;
      const asked = { ...query, ...(options.device_id && { device_id: options.device_id }) };
      this.cancelTimer = env.after(options.connectMs, () => this.onClosed(1006));
      let mine: Transport | undefined = undefined;
      const current = () => mine === this.transport;
      const on = {
        onReady: () => {
          if (!current()) return;
          this.ready = true;
          this.on.onReady();
        },
        onFrame: (frame: Frame, bytes: number) => current() && this.onFrame(frame, bytes),
        onClosed: (code: number) => current() && this.onClosed(code),
      };
      if (!streams && !env.WebSocket) throw new HeadgateError("needs_websocket", "this runtime has no WebSocket: pass one");
      mine = this.transport = streams
        ? openStreams(env, url, bearer, asked, on)
        : openWebSocket(env.WebSocket!, url, bearer, asked, on);
    } catch (error) {
      if (this.state !== "fetching" && this.state !== "opening") return;
      if (error instanceof HeadgateError && !error.retryable) return this.stop(error);
      this.on.onError(error);
      if (this.state === "opening" && !streams) this.failedSockets += 1; // a policy of the page may forbid them
      this.lose(this.backoff.next());
    }
  }

  private choosesStreams(): boolean {
    const { transport } = this.options;
    if (transport !== "auto" || this.on.needsWebSocket()) return transport === "sse";
    if (!this.env.WebSocket) return true;
    // every third try is a WebSocket: the network may have changed
    return !this.everOpen && this.failedSockets >= BLOCKED_TRIES && this.tries % (BLOCKED_TRIES + 1) !== 0;
  }

  private onFrame(frame: Frame, bytes: number): void {
    this.heardAt = this.env.now();
    if (frame.type === "welcome" && this.state === "opening") this.welcome(frame);
    if (frame.type === "disconnect") return this.onClosed(Number(frame.code), Number(frame.retry_after_ms) || 0);
    if (frame.type === "pong") return;
    const waiting = this.requests.get(frame.id);
    if (!waiting) return this.on.onFrame(frame, bytes);
    this.requests.delete(frame.id);
    if (frame.type === "error") waiting.reject(errorOfFrame(frame));
    else waiting.resolve(frame);
  }

  private welcome(frame: Frame): void {
    this.cancelTimer();
    this.openedAt = this.env.now();
    this.renewed = false;
    if (this.transport?.silent) {
      this.everOpen = true;
      this.failedSockets = 0;
      this.pacer = this.newPacer(frame.limits as Record<string, number> | undefined);
      this.watch();
    }
    this.move("welcome");
  }

  private newPacer(limits: Record<string, number> = {}): Pacer {
    const { control_frames_per_s = FRAMES_PER_S, control_frames_burst = FRAMES_BURST } = limits;
    return new Pacer(control_frames_per_s, control_frames_burst, this.env.now());
  }

  /** Asks when nothing was heard for long; a connection that does not answer is dead. */
  private watch(pauseMs = this.options.quietMs): void {
    this.cancelWatch();
    this.cancelWatch = this.env.after(pauseMs, () => {
      const quiet = this.env.now() - this.heardAt;
      if (quiet < this.options.quietMs) this.watch(this.options.quietMs - quiet);
      else this.probe();
    });
  }

  private probe(): void {
    if (this.state !== "open" || !this.transport?.silent) return;
    const { heardAt } = this;
    this.transport.send({ type: "ping" });
    this.cancelWatch();
    this.cancelWatch = this.env.after(this.options.pongMs, () => {
      if (this.heardAt === heardAt) this.onClosed(1006);
      else this.watch();
    });
  }

  private flush(): void {
    this.cancelFlush = undefined;
    while (this.outbox.length && this.pacer.take(this.env.now())) this.transport?.send(this.outbox.shift()!);
    if (this.outbox.length) this.cancelFlush = this.env.after(this.pacer.pauseMs, () => this.flush());
  }

  private onClosed(code: number, retryAfterMs = 0): void {
    if (this.state !== "opening" && this.state !== "open") return;
    const lasted = this.state === "open" ? this.env.now() - this.openedAt : -1;
    if (this.state === "opening" && this.transport?.silent) this.failedSockets += 1;
    if (lasted >= STABLE_MS) this.backoff.reset();
    let verdict = verdictOf(code);
    if (code === 4401 || code === 4610) verdict = this.verdictOnCredentials(code);
    if (verdict === "stop") {
      const what = code === 4610 ? "token_expired" : code === 4401 ? "unauthenticated" : "stopped";
      return this.stop(new HeadgateError(what, `the server closed with ${code}`, false, { close_code: code }));
    }
    const atOnce = verdict === "at_once" && (lasted >= AT_ONCE_AFTER_MS || code === 4401 || code === 4610);
    this.lose(atOnce ? retryAfterMs : this.backoff.next(retryAfterMs));
  }

  private verdictOnCredentials(code: number): "stop" | "at_once" {
    this.credentials.expire();
    if (!this.credentials.renewable || (code === 4401 && this.renewed)) return "stop";
    this.renewed ||= code === 4401;
    return "at_once";
  }

  private lose(delayMs: number): void {
    this.tries += 1;
    this.end("lost");
    if (this.state !== "waiting") return;
    if (this.env.page.offline()) this.move("offline");
    else this.cancelTimer = this.env.after(delayMs, () => this.due());
  }

  private stop(error: HeadgateError): void {
    this.end("refused", error);
  }

  private due(): void {
    this.cancelTimer();
    this.move("due");
    void this.open();
  }

  private end(event: ConnectionEvent, error?: HeadgateError): void {
    for (const cancel of [this.cancelTimer, this.cancelWatch, this.cancelFlush]) cancel?.();
    this.cancelFlush = undefined;
    const { transport } = this;
    this.transport = undefined;
    this.ready = false;
    transport?.close();
    this.outbox = [];
    const lost = error ?? new HeadgateError("connection_lost", "the connection was lost", true);
    for (const waiting of this.requests.values()) waiting.reject(lost);
    this.requests.clear();
    this.on.onLost(error);
    this.move(event, error);
  }

  private onPage(event: PageEvent): void {
    if (event === "online" || event === "visible") {
      if (this.state === "offline" && this.env.page.offline()) return;
      if (this.state === "waiting" || this.state === "offline") this.due();
    }
    if (event !== "hidden") this.probe(); // the network changed, or the machine slept
  }
}
