// A chat on headgate-client. Every text from the network becomes a text node, never HTML.
import { Headgate } from "headgate-client";

const asked = new URLSearchParams(location.search);
const server = asked.get("server") ?? (location.pathname.startsWith("/examples/") ? "http://127.0.0.1:8080" : location.origin);
const PREFIX = "chat.";
const KEPT = 200; // messages of a channel on the page
const TYPING_MS = 3_000;
const REACTIONS = ["👍", "❤️", "😄"];
const $ = (id) => document.getElementById(id);

let headgate;
let me;
let current; // the channel that is shown
let thread; // the message whose replies are shown, or undefined
const channels = new Map(); // topic_id -> channel
const reacted = new Set(); // one's own reactions since the page was opened

/** Builds an element; texts become text nodes. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== false));
  return made;
}

function problem(error) {
  $("problem").textContent = error ? String(error.message ?? error) : "";
}

/** Runs what may fail and shows why. */
const tries = (run) => async (event) => {
  event?.preventDefault();
  problem();
  try {
    await run(event);
  } catch (error) {
    problem(error);
  }
};

class Channel {
  constructor(topic_id, name) {
    Object.assign(this, { topic_id, name, messages: new Map(), bySeq: new Map(), people: new Map(), typing: new Map() });
    this.head = 0;
    this.read = Number(localStorage.getItem(this.key)) || 0;
    this.subscription = headgate.subscribe(topic_id, {
      from: { last: KEPT },
      presence: true,
      onMessage: (message) => this.onMessage(message),
      onGap: (gap) => (gap.recoverable ? gap.refetch() : undefined),
      onPresence: (presence) => this.onPresence(presence),
      onTyping: (user) => this.onTyping(user),
      onEnd: (error) => {
        channels.delete(topic_id);
        if (error) problem(`${name}: ${error.message}`);
        drawChannels();
      },
    });
  }

  get key() {
    return `headgate-chat-read-${me}-${this.topic_id}`;
  }

  /** New messages of others above what was read: the server's count where it has one, else this device's. */
  get unread() {
    return [...this.messages.values()].filter(({ seq, publisher_id }) => seq > this.read && publisher_id !== me).length;
  }

  onMessage(message) {
    this.head = Math.max(this.head, message.seq ?? 0);
    if (message.kind) this.refresh(message.target_seq);
    else this.put(message);
    if (this === current && !document.hidden) this.markRead();
    drawChannels();
  }

  put(message) {
    if (message.client_msg_id) this.messages.delete(message.client_msg_id); // the echo
    for (const [id, echo] of this.messages) if (echo.state && echo.message_id === message.message_id) this.messages.delete(id);
    this.messages.set(message.message_id, message);
    this.bySeq.set(message.seq, message.message_id);
    const seqs = [...this.bySeq.keys()];
    if (seqs.length > KEPT) {
      this.messages.delete(this.bySeq.get(seqs[0]));
      this.bySeq.delete(seqs[0]);
    }
    this.typing.delete(message.publisher_id);
    if (this === current) drawMessages();
  }

  /** A message was edited, redacted or reacted to: history knows how it is now. */
  async refresh(seq) {
    const id = this.bySeq.get(seq);
    if (!id) return;
    try {
      this.messages.set(id, await headgate.call("GET", `${this.path}/messages/${id}`));
      if (this === current) drawMessages();
    } catch (error) {
      problem(error);
    }
  }

  onEcho(echo) {
    if (echo.message_id && this.messages.has(echo.message_id)) this.messages.delete(echo.client_msg_id);
    else this.messages.set(echo.client_msg_id, { ...echo, publisher_id: me });
    if (this === current) drawMessages();
  }

  onPresence({ type, subscribers = [], joined = [], changed = [], left = [] }) {
    if (type === "presence") this.people = new Map(subscribers.map((user) => [user.user_id, user.state]));
    for (const { user_id, state } of [...joined, ...changed]) this.people.set(user_id, state);
    for (const { user_id } of left) this.people.delete(user_id);
    if (this === current) drawPeople();
  }

  onTyping(user) {
    this.typing.set(user, Date.now());
    setTimeout(() => this === current && drawTyping(), TYPING_MS + 50);
    if (this === current) drawTyping();
  }

  markRead() {
    if (this.head <= this.read) return;
    this.read = this.head;
    localStorage.setItem(this.key, String(this.read));
    this.subscription.read(this.read).catch(() => {}); // a server without read cursors: this device counts alone
  }

  get path() {
    return `/api/v1/topics/${encodeURIComponent(this.topic_id)}`;
  }
}

function show(channel) {
  current = channel;
  thread = undefined;
  channel.markRead();
  for (const draw of [drawChannels, drawMessages, drawPeople, drawTyping]) draw();
  $("text").focus();
}

function drawChannels() {
  const items = [...channels.values()].map((channel) => {
    const { unread } = channel;
    const attributes = { "aria-current": String(channel === current), onclick: () => show(channel) };
    const count = unread > 0 && el("span", { class: "unread", "aria-label": `${unread} unread` }, String(unread));
    return el("li", {}, el("button", attributes, count, channel.name));
  });
  $("channels").replaceChildren(...items);
}

function drawPeople() {
  const items = [...current.people].map(([user, state]) =>
    el("li", {}, el("button", { title: `Talk with ${user}`, onclick: tries(() => talkWith(user)) }, `${state === "away" ? "○" : "●"} ${user}`)),
  );
  $("people").replaceChildren(...items);
}

function drawTyping() {
  const users = [...current.typing].filter(([, at]) => Date.now() - at < TYPING_MS).map(([user]) => user);
  $("typing").textContent = users.length ? `${users.join(", ")} ${users.length > 1 ? "are" : "is"} typing` : "";
}

function drawMessages() {
  $("title").textContent = thread ? `Thread in ${current.name}` : current.name;
  $("leave-thread").hidden = !thread;
  const list = $("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  const all = [...current.messages.values()].sort((a, b) => (a.seq ?? Infinity) - (b.seq ?? Infinity));
  const shown = all.filter((one) => !thread || one.message_id === thread || one.parent_message_id === thread);
  list.replaceChildren(...shown.map((one) => row(one, all)));
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function row(message, all) {
  const { publisher_id, payload, redacted, version, state, message_id, reactions = {}, parent_message_id } = message;
  const text = redacted ? el("em", { class: "note" }, "taken back") : String(payload?.text ?? JSON.stringify(payload));
  const notes = [version > 1 && !redacted && "edited", state === "pending" && "sending", state === "failed" && `not sent: ${message.error?.message}`];
  const parent = parent_message_id && !thread && all.find((one) => one.message_id === parent_message_id);
  const said = el("div", {}, el("span", { class: "who" }, publisher_id), text);
  const note = notes.filter(Boolean).join(", ");
  const replyTo = parent && el("div", { class: "note" }, `in reply to ${parent.publisher_id}`);
  return el("li", { class: state === "pending" && "pending" }, replyTo, said, note && el("div", { class: "note" }, note), !state && !redacted && actions(message, reactions, all));
}

function actions(message, reactions, all) {
  const { message_id, publisher_id, payload, version } = message;
  const path = `${current.path}/messages/${message_id}`;
  const replies = all.filter((one) => one.parent_message_id === message_id).length;
  const react = (name) =>
    tries(async () => {
      const mine = `${message_id} ${name}`;
      await headgate.call(reacted.has(mine) ? "DELETE" : "PUT", `${path}/reactions/${encodeURIComponent(name)}`);
      if (!reacted.delete(mine)) reacted.add(mine);
    });
  const names = [...new Set([...REACTIONS, ...Object.keys(reactions)])];
  const buttons = names.map((name) => el("button", { "aria-label": `React with ${name}`, onclick: react(name) }, reactions[name] ? `${name} ${reactions[name]}` : name));
  const openThread = () => {
    thread = message_id;
    drawMessages();
    $("text").focus();
  };
  buttons.push(el("button", { onclick: openThread }, replies ? `Thread (${replies})` : "Reply"));
  if (publisher_id === me) {
    const edit = tries(async () => {
      const text = prompt("Edit", payload?.text ?? "");
      if (text) await headgate.call("PATCH", path, { body: { payload: { text }, version: version ?? 1 } });
    });
    buttons.push(el("button", { onclick: edit }, "Edit"), el("button", { onclick: tries(() => headgate.call("DELETE", path)) }, "Take back"));
  }
  return el("div", { class: "do" }, ...buttons);
}

async function talkWith(user) {
  const topic = await headgate.call("POST", "/api/v1/direct", { body: { user_id: user } });
  show(follow(topic.topic_id, `@${user}`));
}

function follow(topic_id, name) {
  if (!channels.has(topic_id)) channels.set(topic_id, new Channel(topic_id, name));
  return channels.get(topic_id);
}

async function loadChannels() {
  const { topics } = await headgate.call("GET", "/api/v1/topics", { query: { prefix: PREFIX } });
  for (const { topic_id, name } of topics) follow(topic_id, name);
  const direct = await headgate.call("GET", "/api/v1/topics", { query: { prefix: "dm:" } });
  for (const { topic_id } of direct.topics) follow(topic_id, "direct talk");
  if (!channels.size) await create("general");
  if (!current) show(channels.get(asked.get("channel")) ?? channels.values().next().value);
}

async function create(name) {
  const topic_id = PREFIX + (name.toLowerCase().replace(/[^a-z0-9._-]+/g, "-").slice(0, 100) || "channel");
  try {
    await headgate.call("POST", "/api/v1/topics", { body: { topic_id, name, settings: { presence: "list" } } });
  } catch (error) {
    if (error.code !== "topic_exists") throw error;
  }
  return follow(topic_id, name);
}

async function enter(user) {
  me = user;
  headgate = new Headgate({ url: server, user, device_id: deviceId(), awayWhenHidden: true });
  headgate.on("state", (state) => ($("state").textContent = { open: "online", offline: "offline", waiting: "connecting again" }[state] ?? state));
  headgate.on("echo", (echo) => channels.get(echo.topic_id)?.onEcho(echo));
  $("enter").hidden = true;
  $("chat").hidden = false;
  $("me").textContent = user;
  await loadChannels();
}

function deviceId() {
  const known = localStorage.getItem("headgate-chat-device") ?? Math.random().toString(36).slice(2);
  localStorage.setItem("headgate-chat-device", known);
  return known;
}

$("enter").addEventListener("submit", tries((event) => enter(new FormData(event.target).get("user").trim())));
$("create").addEventListener(
  "submit",
  tries(async (event) => {
    show(await create(new FormData(event.target).get("name").trim()));
    event.target.reset();
  }),
);
$("send").addEventListener(
  "submit",
  tries(async () => {
    const text = $("text").value.trim();
    $("text").value = "";
    if (text) await headgate.publish(current.topic_id, { text }, thread ? { parent_message_id: thread } : {});
  }),
);
$("text").addEventListener("input", () => current?.subscription.typing());
$("leave-thread").addEventListener("click", () => {
  thread = undefined;
  drawMessages();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden || !current) return;
  current.markRead();
  drawChannels();
});
if (asked.get("user")) tries(() => enter(asked.get("user")))();
