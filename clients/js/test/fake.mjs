// A world without time and network: a clock that is moved by hand, sockets and requests that a test answers.

/** `HEADGATE_BUILT=headgate-client.min.js`: the tests run on the minified file, whose private names are others. */
export const minified = process.env.HEADGATE_BUILT === "headgate-client.min.js";
export const { Headgate, HeadgateError } = await import(`../dist/${minified ? "headgate-client.min.js" : "index.js"}`);

/** Lets every promise that can go on go on. */
export async function settle() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

export class World {
  constructor({ random = () => 0.5 } = {}) {
    this.time = 1_000_000;
    this.timers = new Set();
    this.sockets = [];
    this.requests = [];
    this.isOffline = false;
    this.listeners = new Set();
    const world = this;
    this.env = {
      now: () => this.time,
      after: (ms, run) => {
        const timer = { at: this.time + ms, run };
        this.timers.add(timer);
        return () => this.timers.delete(timer);
      },
      random,
      uuid: () => `uuid-${(this.uuids = (this.uuids ?? 0) + 1)}`,
      fetch: (url, init) =>
        new Promise((resolve, reject) => {
          const request = { url: new URL(url), ...init, json: init.body && JSON.parse(init.body), resolve, reject };
          init.signal?.addEventListener("abort", () => reject(new Error("aborted")));
          this.requests.push(request);
        }),
      WebSocket: class extends FakeSocket {
        constructor(...asked) {
          super(...asked);
          world.sockets.push(this);
        }
      },
      page: {
        offline: () => this.isOffline,
        listen: (on) => {
          this.listeners.add(on);
          return () => this.listeners.delete(on);
        },
      },
    };
  }

  client(options = {}) {
    const client = new Headgate({ url: "http://server.test", env: this.env, ...options });
    this.states = [];
    this.errors = [];
    client.on("state", (state, error) => this.states.push(error ? `${state} ${error.code}` : state));
    client.on("error", (error) => this.errors.push(error));
    return client;
  }

  /** Moves the clock, timer by timer. */
  async pass(ms) {
    const until = this.time + ms;
    await settle();
    for (;;) {
      const due = [...this.timers].filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.time = Math.max(due.at, this.time);
      this.timers.delete(due);
      due.run();
      await settle();
    }
    this.time = until;
  }

  /** Milliseconds until the next timer. */
  get next() {
    return Math.min(...[...this.timers].map((timer) => timer.at)) - this.time;
  }

  page(event) {
    for (const on of [...this.listeners]) on(event);
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** The newest socket opens and is welcomed. */
  async welcome(more = {}) {
    await settle();
    this.socket.readyState = 1;
    this.socket.say({ type: "welcome", connection_id: "c", user_id: "ann", server_time: 0, ...more });
    await settle();
  }
}

export class FakeSocket {
  constructor(url, protocols) {
    this.url = new URL(url);
    this.protocols = protocols;
    this.readyState = 0;
    this.sent = [];
    this.closed = false;
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.closed = true;
  }

  say(...frames) {
    for (const frame of frames) this.onmessage?.({ data: JSON.stringify(frame) });
  }

  end(code) {
    this.readyState = 3;
    this.onclose?.({ code });
  }

  /** The newest frame of a type that the client sent. */
  last(type) {
    return this.sent.findLast((frame) => frame.type === type);
  }

  of(type) {
    return this.sent.filter((frame) => frame.type === type);
  }

  /** Grants the newest subscribe frame. */
  grant(more = {}) {
    const { id, topic_id } = this.last("subscribe");
    this.say({ type: "subscribed", id, topic_id, profile: "durable", epoch: 7, seq: 0, first_seq: 1, subscriber_count: 1, ...more });
  }

  /** Sends messages by seq. */
  messages(topic_id, from, to = from, more = {}) {
    for (let seq = from; seq <= to; seq += 1) this.say(message(topic_id, seq, more));
  }
}

export function message(topic_id, seq, more = {}) {
  return { type: "message", topic_id, seq, ts: 0, message_id: `m-${seq}`, publisher_id: "bob", payload: seq, ...more };
}

export function answer(status, body, headers = {}) {
  return { ok: status < 300, status, json: async () => body, text: async () => JSON.stringify(body), headers: new Headers(headers) };
}
