// One channel as it is known here: messages, replies, people, who is typing. No DOM.

const FIRST = 60; // messages that are asked for when a channel is opened the first time
const EARLIER = 60; // messages a page of history
const KEPT = 2_000; // messages of a channel that stay here
const TYPING_MS = 3_500;
const REREAD_MS = 80;

export class Channel {
  /** `changed(what)`: "messages", "people", "newcomers" or "typing". `ended(error)`: the server ended it. */
  constructor(headgate, me, topic_id, { changed, arrived, ended, problem }) {
    Object.assign(this, { headgate, me, topic_id, changed, arrived, ended, problem });
    this.path = `/api/v1/topics/${encodeURIComponent(topic_id)}`;
    this.messages = new Map(); // message_id -> message, as it is now
    this.echoes = new Map(); // client_msg_id -> a message of one's own that is not back yet
    this.bySeq = new Map(); // seq -> message_id
    this.mine = new Map(); // message_id -> Set of one's own reactions
    this.people = new Map(); // user_id -> online or away
    this.typists = new Map(); // user_id -> when he is forgotten
    this.seenBy = new Map(); // user_id -> seq up to which he has read
    this.members = []; // of the last `loadMembers`, where the user is the owner
    this.memberCount = 0;
    this.draft = "";
    this.head = 0;
    this.first = 0; // the first seq that the topic keeps
    this.reread = new Map(); // message_id -> seq of the newest event about it
    this.granted = 0; // head of the topic when the subscription was granted
    this.caughtUp = false;
  }

  /** Follows the topic, from where it was left. */
  open() {
    if (this.subscription) return;
    this.subscription = this.headgate.subscribe(this.topic_id, {
      from: this.position ?? { last: FIRST },
      presence: true,
      onSubscribed: ({ seq = 0, epoch, first_seq = 1 }) => this.#granted(seq, epoch, first_seq),
      onCaughtUp: () => this.#caughtUp(),
      onMessage: (message) => this.#take(message),
      onGap: (gap) => (gap.recoverable ? gap.refetch() : undefined),
      onPresence: (presence) => this.#presence(presence),
      onTyping: (user) => this.#typing(user),
      onEnd: (error) => {
        this.subscription = undefined;
        if (error) this.ended(error);
      },
    });
  }

  /** Stops to follow; what is here stays. */
  close() {
    this.position = this.subscription?.position ?? this.position;
    this.subscription?.close();
    this.subscription = undefined;
    this.people.clear();
    this.typists.clear();
  }

  /** All messages that are not replies, or whose first message is not here; one's own that are under way are last. */
  get main() {
    return this.#sorted().filter(({ parent_message_id: parent }) => !parent || !this.messages.has(parent));
  }

  /** A message and its replies. */
  thread(message_id) {
    return this.#sorted().filter((one) => one.message_id === message_id || one.parent_message_id === message_id);
  }

  replies(message_id) {
    let count = 0;
    for (const { parent_message_id: parent, redacted } of this.messages.values()) if (parent === message_id && !redacted) count += 1;
    return count;
  }

  get typing() {
    const now = Date.now();
    return [...this.typists].filter(([, until]) => until > now).map(([user]) => user);
  }

  get hasEarlier() {
    const oldest = Math.min(...this.bySeq.keys());
    return Number.isFinite(oldest) && oldest > this.first && this.messages.size < KEPT;
  }

  async loadEarlier() {
    const before_seq = Math.min(...this.bySeq.keys());
    const page = await this.headgate.history(this.topic_id, { before_seq, kinds: "message", limit: EARLIER });
    if (!page.messages.length) this.first = before_seq;
    for (const message of page.messages) this.#keep(message);
    this.changed("messages");
  }

  async loadThread(message_id) {
    const query = { parent_message_id: message_id, limit: 500 };
    const [first, { messages }] = await Promise.all([
      this.messages.get(message_id) ?? this.headgate.call("GET", `${this.path}/messages/${message_id}`),
      this.headgate.history(this.topic_id, query),
    ]);
    for (const message of [first, ...messages]) this.#keep(message);
    this.changed("messages");
  }

  /** How many members there are, and for the owner who they are: nobody else may list them. */
  async loadMembers(isOwner) {
    const { member_count } = await this.headgate.call("GET", this.path);
    this.memberCount = member_count;
    if (isOwner) this.members = (await this.headgate.call("GET", `${this.path}/members`, { query: { limit: 1_000 } })).members;
    this.changed("people");
  }

  /** Publishes. It is shown at once; without a network it waits here and goes when the network is back. */
  async say(text, parent_message_id, client_msg_id) {
    const options = { ...(parent_message_id && { parent_message_id }), ...(client_msg_id && { client_msg_id }) };
    await this.headgate.publish(this.topic_id, { text }, options);
  }

  edit({ message_id, version = 1 }, text) {
    return this.headgate.call("PATCH", `${this.path}/messages/${message_id}`, { body: { payload: { text }, version } });
  }

  redact({ message_id }) {
    return this.headgate.call("DELETE", `${this.path}/messages/${message_id}`);
  }

  react({ message_id }, name) {
    const method = this.mine.get(message_id)?.has(name) ? "DELETE" : "PUT";
    return this.headgate.call(method, `${this.path}/messages/${message_id}/reactions/${encodeURIComponent(name)}`);
  }

  forget(client_msg_id) {
    this.echoes.delete(client_msg_id);
    this.changed("messages");
  }

  /** A step of a message of one's own. */
  echo(echo) {
    const isBack = echo.message_id !== undefined && this.messages.has(echo.message_id);
    if (isBack) this.echoes.delete(echo.client_msg_id);
    else {
      const at = this.echoes.get(echo.client_msg_id)?.ts ?? Date.now();
      this.echoes.set(echo.client_msg_id, { ...echo, ts: at, publisher_id: this.me });
    }
    this.changed("messages");
  }

  /** Another user has read up to `seq`. */
  receipt(user, seq) {
    this.seenBy.set(user, Math.max(seq, this.seenBy.get(user) ?? 0));
    this.changed("messages");
  }

  #sorted() {
    const place = ({ seq }) => seq ?? Infinity;
    return [...this.messages.values(), ...this.echoes.values()].sort((a, b) => place(a) - place(b) || a.ts - b.ts);
  }

  #granted(seq, epoch, first) {
    if (this.epoch !== undefined && this.epoch !== epoch) for (const kept of [this.messages, this.bySeq, this.mine]) kept.clear();
    Object.assign(this, { epoch, first, granted: seq, head: seq, caughtUp: false });
    if (!seq) this.#caughtUp();
  }

  #caughtUp() {
    this.caughtUp = true;
    this.changed("messages");
  }

  #take(message) {
    const { kind, seq = 0, target_seq, publisher_id } = message;
    this.head = Math.max(this.head, seq);
    if (kind) this.#event(message, this.bySeq.get(target_seq));
    else {
      this.typists.delete(publisher_id);
      if (publisher_id === this.me) this.#hideEcho(message);
      this.#keep(message, Math.max(seq, this.granted));
      if (this.caughtUp) this.changed("messages");
    }
    this.arrived(message, this);
  }

  /** Keeps a message as it was when the topic's newest number was `asOf`. */
  #keep(message, asOf = message.seq) {
    const { message_id, seq, client_msg_id } = message;
    if (client_msg_id) this.echoes.delete(client_msg_id);
    for (const [id, echo] of this.echoes) if (echo.message_id === message_id) this.echoes.delete(id);
    this.messages.set(message_id, { ...message, asOf });
    this.bySeq.set(seq, message_id);
    if (this.messages.size <= KEPT) return;
    const oldest = Math.min(...this.bySeq.keys());
    this.messages.delete(this.bySeq.get(oldest));
    this.bySeq.delete(oldest);
  }

  /** A message may be back before the answer to its publish: then nothing but its text says whose echo it is. */
  #hideEcho({ client_msg_id, payload, parent_message_id }) {
    if (client_msg_id) return;
    const isThis = (echo) => echo.state === "pending" && echo.payload.text === payload?.text && echo.parent_message_id === parent_message_id;
    const found = [...this.echoes.values()].find(isThis);
    if (found) this.echoes.delete(found.client_msg_id);
  }

  /** An edit, a redaction or a reaction. What it made of the message, the server knows. */
  #event({ kind, seq, publisher_id, name, removed }, message_id) {
    const message = this.messages.get(message_id);
    if (!message) return;
    if (kind === "reaction" && publisher_id === this.me) {
      const mine = this.mine.get(message_id) ?? new Set();
      this.mine.set(message_id, mine);
      if (removed) mine.delete(name);
      else mine.add(name);
    }
    if (kind === "redact") this.messages.set(message_id, { ...message, payload: null, redacted: true });
    if (seq <= message.asOf) return;
    if (!this.reread.size) setTimeout(() => this.#rereadAll(), REREAD_MS);
    this.reread.set(message_id, seq);
    if (this.caughtUp) this.changed("messages");
  }

  async #rereadAll() {
    const due = [...this.reread];
    this.reread.clear();
    for (const [message_id, seq] of due) {
      try {
        const message = await this.headgate.call("GET", `${this.path}/messages/${message_id}`);
        this.#keep(message, seq);
      } catch (error) {
        this.problem(error);
      }
    }
    this.changed("messages");
  }

  #presence({ type, subscribers = [], joined = [], changed = [], left = [] }) {
    if (type === "presence") this.people = new Map(subscribers.map(({ user_id, state }) => [user_id, state]));
    for (const { user_id, state } of [...joined, ...changed]) this.people.set(user_id, state);
    for (const { user_id } of left) this.people.delete(user_id);
    this.changed(joined.length ? "newcomers" : "people");
  }

  #typing(user) {
    if (user === this.me) return;
    this.typists.set(user, Date.now() + TYPING_MS);
    setTimeout(() => this.changed("typing"), TYPING_MS + 50);
    this.changed("typing");
  }
}
