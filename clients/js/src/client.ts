/** The client: one connection, its subscriptions, publishing and requests. */

import { Connection } from "./connection.js";
import { Credentials, type Fetched } from "./credentials.js";
import { given, realEnv, type Env, type PageEvent, type WebSocketClass } from "./env.js";
import { errorOfFrame, HeadgateError } from "./errors.js";
import { Http, type CallOptions } from "./http.js";
import { Publisher, type Publishing } from "./publish.js";
import type { ConnectionState } from "./states.js";
import { Subscription, type Host } from "./subscription.js";
import type { Echo, Frame, InboxPage, InboxTopic, Message, PublishOptions, Read, SubscribeOptions } from "./types.js";

export interface HeadgateOptions {
  /** Base address of the HTTP API. Default: that of the page. */
  url?: string;
  /** Base address of the gateways where it is another; several are tried in turn. */
  streamUrl?: string | string[];
  /** A token, or a function that fetches one; the function is called again before it expires. */
  token?: Fetched;
  /** A ticket, or a function that fetches one; the function is called for each connection. Streams only. */
  ticket?: Fetched;
  /** The user in open mode. */
  user?: string;
  /** Whose cursors acknowledged subscriptions use. Default `default`. */
  device_id?: string;
  /** Default `auto`: event streams where WebSockets cannot be opened. */
  transport?: "auto" | "websocket" | "sse";
  /** Says `away` while the page is hidden. Default false. */
  awayWhenHidden?: boolean;
  /** For Node below 22: that of the package `ws`. */
  WebSocket?: unknown;
  fetch?: typeof fetch;
  /** First window of the back-off (default 2,800) and the largest (30,000). */
  firstDelayMs?: number;
  maxDelayMs?: number;
  /** Default 10,000. */
  connectMs?: number;
  /** Default 25,000 and 5,000: when a silent connection is asked, and when it is dead. */
  quietMs?: number;
  pongMs?: number;
  /** Default 60,000: after it a publish is not tried again. */
  publishTimeoutMs?: number;
  /** Bounds of the publishes that wait for an answer. Default 1,000, and 4 Mi characters. */
  publishMessages?: number;
  publishBytes?: number;
  /** For tests: clock, randomness, page. */
  env?: Partial<Env>;
}

/** What `on` listens to. */
export interface ClientEvents {
  /** The connection's state, and the error that stopped it. */
  state: (state: ConnectionState, error?: HeadgateError) => void;
  /** One's own messages, from the call of `publish` on. */
  echo: (echo: Echo) => void;
  /** Topics that this client does not follow have new messages: a hint to read the inbox. It may be lost. */
  inbox: (topics: Pick<InboxTopic, "topic_id" | "head_seq" | "unread">[]) => void;
  /** Somebody has read what this user published, or this user has read on another device. It may be lost. */
  read: (read: Read) => void;
  /** The token expires and no function was given: call `setToken`. */
  token_expiring: (in_ms: number) => void;
  /** What went wrong and is handled here, or was thrown by a callback. Where nobody listens it is written to the console. */
  error: (error: unknown) => void;
}

const DEFAULTS = {
  transport: "auto",
  firstDelayMs: 2_800,
  maxDelayMs: 30_000,
  connectMs: 10_000,
  quietMs: 25_000,
  pongMs: 5_000,
  publishTimeoutMs: 60_000,
  publishMessages: 1_000,
  publishBytes: 4 * 2 ** 20,
} as const;
const ACK_EVERY_MS = 200;
/** So many messages are acknowledged without waiting: the server lets 256 be open. */
const ACK_AT_ONCE = 64;

export class Headgate {
  /** The user that the server knows; undefined before the first connection. */
  user_id: string | undefined;

  private readonly _env: Env;
  private readonly _credentials: Credentials;
  private readonly _http: Http;
  private readonly _connection: Connection;
  private readonly _publisher: Publisher;
  private readonly _subscriptions = new Map<string, Subscription>();
  private readonly _leaving = new Set<string>(); // unsubscribed, not answered
  private readonly _listeners = new Map<string, Set<(...values: any[]) => void>>();
  private readonly _unacked = new Set<Subscription>();
  private readonly _host: Host;
  private readonly _stopListening: () => void;
  private _cancelAcks: (() => void) | undefined;
  private _cancelRefresh = () => {};
  private _refreshing = false;
  private _shown: "online" | "away" = "online";

  constructor(options: HeadgateOptions = {}) {
    const settings = { ...DEFAULTS, ...given(options) };
    const { device_id } = settings;
    const url = trimmed(settings.url ?? (globalThis as { location?: Location }).location?.origin ?? "");
    const urls = [settings.streamUrl ?? url].flat().map(trimmed);
    for (const address of [url, ...urls]) new URL(address); // throws TypeError: no address
    const brought = { WebSocket: options.WebSocket as WebSocketClass | undefined, fetch: options.fetch };
    this._env = realEnv({ ...brought, ...options.env });
    this._credentials = new Credentials(options.token, options.ticket, options.user);
    this._http = new Http(this._env, url, this._credentials, settings.maxDelayMs);
    this._publisher = new Publisher(this._env, this._http, settings, (echo) => this._emit("echo", echo));
    this._connection = new Connection(this._env, { ...settings, device_id, urls }, this._credentials, {
      onReady: () => this._onReady(),
      onFrame: (frame, bytes) => this._onFrame(frame, bytes),
      onState: (state, error) => this._emit("state", state, error),
      onLost: (error) => this._onLost(error),
      onError: (error) => this._emit("error", error),
      needsWebSocket: () => [...this._subscriptions.values()].some((subscription) => subscription.acked),
    });
    this._host = this._hostOfSubscriptions(device_id);
    this._stopListening = this._env.page.listen((event) => {
      const shown = settings.awayWhenHidden && SHOWN[event];
      if (shown) this.status(shown);
    });
  }

  /** Where the connection stands. */
  get state(): ConnectionState {
    return this._connection.state;
  }

  /** Listens to an event; returns the function that ends it. */
  on<Name extends keyof ClientEvents>(name: Name, listener: ClientEvents[Name]): () => void {
    const listeners = this._listeners.get(name) ?? new Set();
    this._listeners.set(name, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** Connects without a subscription, or again after the state `stopped`. */
  connect(): void {
    this._connection.start();
  }

  /** Follows a topic. One subscription a topic: a second one throws `already_subscribed`. */
  subscribe<Payload = any>(topic_id: string, options: SubscribeOptions<Payload> = {}): Subscription<Payload> {
    if (this.state === "closed") throw new HeadgateError("closed");
    if (this._subscriptions.has(topic_id)) throw new HeadgateError("already_subscribed", topic_id);
    const subscription = new Subscription<Payload>(this._host, topic_id, options);
    this._subscriptions.set(topic_id, subscription);
    this._connection.start();
    this._host.ask(subscription);
    return subscription;
  }

  /**
   * Publishes over HTTP, with one `client_msg_id` through all tries, after earlier publishes to the topic have their answer.
   * Resolves with the answer; with `seq` by default. Rejects with the problem, or with `outcome_unknown`: then publish it
   * again with the same `client_msg_id`.
   */
  publish(topic_id: string, payload: unknown, options: PublishOptions = {}): Publishing {
    return this._publisher.publish(topic_id, payload, options);
  }

  /** Reads from history, with retries (docs/reference/http.md, "History"). */
  history(
    topic_id: string,
    query: { after_seq?: number; before_seq?: number; since_ts?: number; kinds?: "message"; parent_message_id?: string; limit?: number } = {},
  ): Promise<{ messages: Message[]; epoch: number; first_seq: number; last_seq: number; complete: boolean }> {
    return this._asked("GET", historyOf(topic_id), { query });
  }

  /** Reads one page of the topics in which the user is a member: what is there, what this device has, what he has read. */
  inbox(query: { limit?: number; page?: string } = {}): Promise<InboxPage> {
    return this._asked("GET", "/api/v1/inbox", { query: { device_id: this._host.device_id, ...query } });
  }

  /** Reads messages that this device has missed, topic by topic; `more`: acknowledge these and ask again. */
  inboxMessages(query: { limit?: number } = {}): Promise<{ messages: Message[]; more: boolean }> {
    return this._asked("GET", "/api/v1/inbox/messages", { query: { device_id: this._host.device_id, ...query } });
  }

  /** Moves the cursor of this device (`delivered`), or what the user has read, up to `seq`. Never back. */
  ackInbox(topic_id: string, seq: number, kind: "delivered" | "read" = "delivered"): Promise<void> {
    return this._asked("POST", "/api/v1/inbox/ack", { body: { device_id: this._host.device_id, topic_id, seq, kind } });
  }

  /** Says that the user has read a topic up to `seq`, over HTTP and with retries. */
  markRead(topic_id: string, seq: number): Promise<void> {
    return this.ackInbox(topic_id, seq, "read");
  }

  /** Sends any other request of the HTTP API, once; returns its JSON. Throws HeadgateError. */
  call(method: string, path: string, options: CallOptions = {}): Promise<any> {
    return this._http.call(method, path, options);
  }

  /** Shown to the others where presence is; said again after a reconnect. */
  status(state: "online" | "away"): void {
    this._shown = state;
    this._connection.send({ type: "status", state });
  }

  /** Takes another token; an open connection goes on with it. */
  setToken(token: Fetched): void {
    this._credentials.replace(token);
    void this._refresh(60_000);
  }

  /** Ends everything. Publishes that wait for another try are rejected. */
  close(): void {
    for (const subscription of [...this._subscriptions.values()]) subscription.close();
    this._publisher.close();
    this._http.wake();
    this._cancelAcks?.();
    this._cancelRefresh();
    this._stopListening();
    this._connection.close();
  }

  /** Does a request that may be repeated until it is answered; `whole`: until it is answered for the whole range. */
  private _asked(method: string, path: string, options: CallOptions, whole = false): Promise<any> {
    const once = async () => {
      const answer = await this._http.call(method, path, options);
      if (whole && answer.complete === false) throw new HeadgateError("not_ready", "history is not complete yet", true);
      return answer;
    };
    return this._http.retried(once, 60_000, () => this.state !== "closed");
  }

  private _emit(name: keyof ClientEvents, ...values: unknown[]): void {
    const listeners = [...(this._listeners.get(name) ?? [])];
    if (name === "error" && !listeners.length) listeners.push(console.error);
    for (const listener of listeners) {
      try {
        listener(...values);
      } catch (error) {
        if (name === "error") console.error(error);
        else this._emit("error", error);
      }
    }
  }

  private _onReady(): void {
    if (this._shown === "away") this.status("away");
    for (const subscription of this._subscriptions.values()) this._host.ask(subscription);
  }

  private _onLost(error: HeadgateError | undefined): void {
    this._leaving.clear();
    this._cancelRefresh();
    for (const subscription of [...this._subscriptions.values()]) {
      if (error) subscription.end(error);
      else subscription.lost();
    }
  }

  private _onFrame(frame: Frame, bytes: number): void {
    const subscription = this._subscriptions.get(frame.topic_id as string);
    if (frame.type === "error") this._onError(frame, subscription);
    else if (frame.type === "welcome") this.user_id = (frame.user_id as string | undefined) ?? this.user_id;
    else if (frame.type === "token_expiring") this._onTokenExpiring(Number(frame.in_ms));
    else if (frame.type === "inbox") this._emit("inbox", frame.topics);
    else if (frame.type === "read") this._emit("read", frame);
    else if (subscription && !this._leaving.has(subscription.topic_id)) subscription.onFrame(frame, bytes);
  }

  private _onError(frame: Frame, subscription: Subscription | undefined): void {
    const error = errorOfFrame(frame);
    if (subscription && frame.id !== undefined && frame.id === subscription.askId) subscription.askRefused(error);
    else this._emit("error", error);
  }

  private _onTokenExpiring(inMs: number): void {
    if (!this._credentials.refreshable) return this._emit("token_expiring", inMs);
    // not all at once, and twice in the life of a token that is shorter than the server's warning
    this._cancelRefresh();
    this._cancelRefresh = this._env.after((this._env.random() * inMs) / 2, () => {
      this._credentials.expire();
      void this._refresh(inMs / 2);
    });
  }

  /** Gives an open connection the present token; tries to fetch it until the old one has expired. */
  private async _refresh(withinMs: number): Promise<void> {
    if (this._refreshing || this.state !== "open") return;
    this._refreshing = true;
    try {
      const token = await this._http.retried(async () => {
        try {
          return await this._credentials.bearer();
        } catch (error) {
          throw new HeadgateError("token_expired", `no token was fetched: ${error}`, true);
        }
      }, withinMs);
      if (this.state === "open" && token) await this._connection.request({ type: "refresh", token });
    } catch (error) {
      this._emit("error", error); // what follows is 4610, and another connection
    } finally {
      this._refreshing = false;
    }
  }

  private _hostOfSubscriptions(device_id: string | undefined): Host {
    return {
      env: this._env,
      device_id,
      ask: (subscription) => {
        const { topic_id, state } = subscription;
        if (state !== "pending" || this._leaving.has(topic_id) || !this._connection.ready) return;
        this._connection.send(subscription.asking(this._connection.newId()));
      },
      leave: (topic_id) => {
        this._leaving.add(topic_id);
        const left = () => {
          if (!this._leaving.delete(topic_id)) return; // another connection
          const next = this._subscriptions.get(topic_id);
          if (next) this._host.ask(next);
        };
        this._connection.request({ type: "unsubscribe", topic_id }).then(left, left);
      },
      acksChanged: (subscription) => {
        this._unacked.add(subscription);
        const due = subscription.ackDue();
        if (due && due.untold >= ACK_AT_ONCE) this._acknowledge(subscription);
        this._cancelAcks ??= this._env.after(ACK_EVERY_MS, () => this._acknowledgeAll());
      },
      connection: this._connection,
      history: (topic_id, query) => this._asked("GET", historyOf(topic_id), { query }, true),
      publisher: this._publisher,
      report: (error) => this._emit("error", error),
      gone: (subscription) => {
        if (this._subscriptions.get(subscription.topic_id) === subscription) this._subscriptions.delete(subscription.topic_id);
        this._unacked.delete(subscription);
      },
    };
  }

  private _acknowledgeAll(): void {
    this._cancelAcks = undefined;
    for (const subscription of this._unacked) this._acknowledge(subscription);
    if (this._unacked.size) this._cancelAcks = this._env.after(ACK_EVERY_MS, () => this._acknowledgeAll());
  }

  /** Sends the newest acknowledgement where there is one and the server's rate allows it. */
  private _acknowledge(subscription: Subscription): void {
    if (subscription.sendAcks((frame) => this._connection.sendSpare(frame))) this._unacked.delete(subscription);
  }
}

const SHOWN: Partial<Record<PageEvent, "online" | "away">> = { hidden: "away", visible: "online" };

function historyOf(topic_id: string): string {
  return `/api/v1/topics/${encodeURIComponent(topic_id)}/messages`;
}

function trimmed(url: string): string {
  return url.replace(/\/+$/, "");
}
