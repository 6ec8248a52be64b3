// A chat on headgate-client: signing in, the list of channels and talks, and what the user does.
import { Channel } from "./channel.js";
import { $, ask, el, keyed, named, sure, visible } from "./dom.js";
import { Headgate } from "./headgate-client.min.js";
import { drawPeople, Room } from "./room.js";
import { Unread } from "./unread.js";

const PREFIX = "chat.";
const TALK = "dm:";
const FIRST_CHANNEL = "general";
const REFRESH_MS = 60_000; // for what nobody tells: channels that others made
const TYPING_EVERY_MS = 1_500;
const PROBLEM_MS = 10_000;
const WAITING_MS = 12 * 3_600_000; // how long a message waits for the network
const STATES = { open: "online", offline: "offline", stopped: "stopped", closed: "stopped" };
const NOTICES = {
  offline: "You are offline. What you write is sent when you are back.",
  waiting: "The connection is lost; trying again. What you write is sent when it is back.",
};

const asked = new URLSearchParams(location.search);
const hidden = new URLSearchParams(location.hash.slice(1)); // what no server is to see: the token
const server = asked.get("server") ?? location.origin;

let headgate;
let me;
let unread;
let room;
let current; // the channel on the page
let refreshing;
let typedAt = 0;
let wasOpen = false;
let stoppedBy; // the error that ended the connection for good
const rows = new Map(); // topic_id -> {topic_id, name, owner_id, permissions, isTalk}
const channels = new Map(); // topic_id -> Channel, of those that were opened

function problem(error) {
  const text = error ? String(error.message || error.code || error) : "";
  $("problem").textContent = text;
  $("problem").hidden = !text;
  clearTimeout(problem.timer);
  if (text) problem.timer = setTimeout(problem, PROBLEM_MS);
}

/** Runs what may fail and shows why. */
const tries = (run) => async (event) => {
  event?.preventDefault?.();
  problem();
  try {
    await run(event);
  } catch (error) {
    problem(error);
  }
};

// ---- the list ----

/** Reads the topics and the inbox: what there is, what one is a member of, what is unread. One at a time. */
function refresh() {
  refreshing ??= readAll().finally(() => (refreshing = undefined));
  return refreshing;
}

async function readAll() {
  const [topics] = await Promise.all([allTopics(), unread.load()]);
  const found = new Set();
  for (const topic of topics) {
    found.add(topic.topic_id);
    rows.set(topic.topic_id, { ...topic, isTalk: false });
  }
  const talks = [...unread.topics.keys()].filter((topic_id) => topic_id.startsWith(TALK));
  for (const topic_id of talks) {
    found.add(topic_id);
    if (!rows.has(topic_id)) rows.set(topic_id, { topic_id, name: await partnerOf(topic_id), isTalk: true });
  }
  for (const topic_id of rows.keys()) if (!found.has(topic_id)) rows.delete(topic_id);
  drawList();
  await loadPeople();
}

async function allTopics() {
  const all = [];
  for (let page; page !== null && all.length < 5_000; ) {
    const answer = await headgate.call("GET", "/api/v1/topics", { query: { prefix: PREFIX, limit: 1_000, page } });
    all.push(...answer.topics);
    page = answer.next_page;
  }
  return all;
}

async function partnerOf(topic_id) {
  const { members } = await headgate.call("GET", `/api/v1/topics/${encodeURIComponent(topic_id)}/members`);
  return members.find(({ user_id }) => user_id !== me)?.user_id ?? me;
}

function drawList() {
  const all = [...rows.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const isMine = ({ topic_id }) => unread.has(topic_id);
  const lists = {
    channels: all.filter((row) => !row.isTalk && isMine(row)),
    talks: all.filter((row) => row.isTalk),
    others: all.filter((row) => !row.isTalk && !isMine(row)),
  };
  for (const [id, list] of Object.entries(lists)) keyed($(id), list, (row) => row.topic_id, signatureOf, (row) => rowOf(row, id === "others"));
  $("others-block").hidden = !lists.others.length;
  const { total } = unread;
  document.title = total ? `(${total}) Headgate chat` : "Headgate chat";
}

function signatureOf({ topic_id, name, permissions }) {
  return JSON.stringify([name, permissions, unread.of(topic_id), unread.has(topic_id), current?.topic_id === topic_id]);
}

function rowOf(row, isOther) {
  const { topic_id, name, permissions, isTalk } = row;
  const count = unread.of(topic_id);
  const mark = isTalk ? "@" : permissions === "PRIVATE" ? "◆" : "#";
  const attributes = {
    class: count ? "row has-unread" : "row",
    "aria-current": current?.topic_id === topic_id ? "page" : undefined,
    "data-do": topic_id,
    onclick: tries(() => show(row)),
  };
  const badge = count > 0 && el("span", { class: "count" }, count > 99 ? "99+" : String(count), el("span", { class: "quiet" }, " unread"));
  return el("li", {}, el("button", attributes, el("span", { class: "mark", "aria-hidden": "true" }, mark), named(name), isOther && el("span", { class: "note" }, "join"), badge));
}

// ---- one channel ----

async function show(row) {
  if (!unread.has(row.topic_id)) await join(row);
  const channel = channels.get(row.topic_id) ?? channelOf(row);
  if (channel !== current) {
    leaveCurrent();
    current = channel;
    room.show(channel);
    room.newAbove(unread.of(row.topic_id) ? unread.readOf(row.topic_id) : undefined);
    for (const pane of ["thread-pane", "people-pane"]) $(pane).hidden = true;
    $("show-people").setAttribute("aria-expanded", "false");
    $("text").value = channel.draft;
    channel.open();
  }
  $("chat").dataset.view = "room";
  drawHead();
  drawList();
  room.draw();
  room.drawTyping();
  markSeen();
  if (matchMedia("(min-width: 45rem)").matches) $("text").focus();
  else $("log").focus();
  await loadPeople();
}

async function loadPeople() {
  drawHead();
  await current?.loadMembers(rows.get(current.topic_id)?.owner_id === me);
}

function leaveCurrent() {
  if (!current) return;
  current.draft = $("text").value;
  current.close();
}

function channelOf({ topic_id }) {
  const channel = new Channel(headgate, me, topic_id, {
    problem,
    changed: (what) => {
      if (channel !== current) return;
      if (what === "typing") room.drawTyping();
      else if (what === "people") drawHead();
      else if (what === "newcomers") loadPeople().catch(problem);
      else {
        room.draw();
        room.drawTyping();
        markSeen();
      }
    },
    arrived: (message) => onArrived(channel, message),
    ended: (error) => onEnded(channel, error),
  });
  channels.set(topic_id, channel);
  return channel;
}

function onArrived(channel, message) {
  const isOwn = message.publisher_id === me;
  if (!message.kind) unread.arrived(channel.topic_id, message.seq ?? 0, isOwn);
  if (channel !== current || !channel.caughtUp) return;
  if (!message.kind && !isOwn) {
    room.announce(message);
    room.more();
  }
  markSeen();
}

function onEnded(channel, error) {
  channels.delete(channel.topic_id);
  if (channel === current) {
    current = undefined;
    $("chat").dataset.view = "list";
    document.body.classList.remove("in-room");
    $("room").inert = true;
  }
  const why = { deleted: "was deleted", forbidden: "is not open to you any more" }[error.code] ?? `has ended: ${error.message}`;
  problem(new Error(`${visible(rows.get(channel.topic_id)?.name ?? "The channel")} ${why}.`));
  refresh().catch(problem);
}

/** The user sees what is on the page while the page is to be seen and the newest message is in view. */
function markSeen() {
  const isShown = !document.hidden && $("log").offsetParent !== null;
  if (current?.caughtUp && isShown && room.stays) unread.seen(current.topic_id, current.head);
}

function drawHead() {
  if (!current) return;
  const row = rows.get(current.topic_id);
  const name = row?.name ?? "";
  $("room").inert = false;
  $("title").replaceChildren(named(name));
  $("text").placeholder = `Message ${visible(name)}`;
  const isOwner = row?.owner_id === me;
  const { people, memberCount } = current;
  const here = people.size === 1 ? "1 here" : `${people.size} here`;
  $("about").textContent = row?.isTalk ? "Direct talk" : `${here}, ${memberCount === 1 ? "1 member" : `${memberCount} members`}`;
  $("leave").textContent = isOwner ? "Delete the channel" : "Leave the channel";
  $("leave").parentElement.hidden = Boolean(row?.isTalk);
  $("add-member").hidden = !isOwner || Boolean(row?.isTalk);
  drawPeople(current, me, (user) => tries(() => talkWith(user)));
}

// ---- what the user does ----

/** Becomes a member. An owner is one already, whatever the inbox has heard yet, and would lose his role. */
async function join({ topic_id, owner_id, isTalk }) {
  if (owner_id !== me && !isTalk) {
    const path = `/api/v1/topics/${encodeURIComponent(topic_id)}/members/${encodeURIComponent(me)}`;
    await headgate.call("PUT", path, { body: { role: "member" } });
  }
  await unread.load();
}

async function create(name, isPrivate) {
  const slug = name.toLowerCase().normalize("NFKD").replace(/[^a-z0-9._-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 100);
  const topic_id = PREFIX + (slug || Array.from(name, (letter) => letter.codePointAt(0).toString(16)).join("-").slice(0, 100));
  const permissions = isPrivate ? "PRIVATE" : "PUBLIC";
  try {
    await headgate.call("POST", "/api/v1/topics", { body: { topic_id, name, permissions, settings: { presence: "list" } } });
  } catch (error) {
    if (error.code !== "topic_exists" || isPrivate) throw error;
  }
  await refresh();
  const row = rows.get(topic_id);
  if (!row) throw new Error("There is a private channel of that name.");
  return row;
}

async function talkWith(user) {
  const { topic_id } = await headgate.call("POST", "/api/v1/direct", { body: { user_id: user } });
  const settings = { presence: "list" }; // so that both see who is here
  await headgate.call("PATCH", `/api/v1/topics/${encodeURIComponent(topic_id)}`, { body: { settings } }).catch(() => {});
  rows.set(topic_id, { topic_id, name: user, isTalk: true });
  await unread.load();
  await show(rows.get(topic_id));
}

async function leave() {
  const { topic_id, path } = current;
  const { name, owner_id } = rows.get(topic_id);
  const isOwner = owner_id === me;
  const title = isOwner ? `Delete ${visible(name)}?` : `Leave ${visible(name)}?`;
  const text = isOwner ? "All its messages go, for everybody." : "You can join again where the channel is public.";
  if (!(await sure(title, text, isOwner ? "Delete" : "Leave"))) return;
  const channel = current;
  current = undefined;
  channel.close();
  channels.delete(topic_id);
  await headgate.call("DELETE", isOwner ? path : `${path}/members/${encodeURIComponent(me)}`);
  await refresh();
  $("chat").dataset.view = "list";
  const next = [...rows.values()].find((row) => unread.has(row.topic_id));
  if (next && matchMedia("(min-width: 45rem)").matches) await show(next);
  else $("room").inert = true;
}

function send(field, parent) {
  const text = field.value.trim();
  if (!text || !current) return;
  field.value = "";
  typedAt = 0;
  grow(field);
  room.stays = room.stays || !parent;
  current.say(text, parent).catch((error) => {
    if (error.code !== "queue_full") return; // the message itself says that it was not sent
    field.value = text;
    problem(error);
  });
}

function typed() {
  if (Date.now() - typedAt < TYPING_EVERY_MS || !$("text").value) return;
  typedAt = Date.now();
  current?.subscription?.typing();
}

function grow(field) {
  field.rows = Math.min(6, field.value.split("\n").length);
}

function toggle(pane, isShown) {
  $(pane).hidden = !isShown;
  if (pane === "people-pane") $("show-people").setAttribute("aria-expanded", String(isShown));
  if (pane === "thread-pane" && !isShown) room.thread = undefined;
}

// ---- signing in ----

async function enter(user, token) {
  headgate = new Headgate({
    url: server, user, token, awayWhenHidden: true, device_id: deviceId(), publishTimeoutMs: WAITING_MS,
    ...(asked.has("stream") && { streamUrl: asked.getAll("stream") }),
  }); // prettier-ignore
  headgate.on("state", onState);
  await new Promise((resolve, reject) => {
    headgate.on("state", (state, error) => (state === "open" ? resolve() : error && reject(error)));
    headgate.connect();
  });
  me = headgate.user_id;
  if (!token) sessionStorage.setItem("headgate-chat-user", me);
  $("private").hidden = !token; // without tokens everybody has every right
  unread = new Unread(headgate, (unknown) => {
    if (unknown) refresh().catch(problem);
    drawList();
  });
  room = new Room({ tries, talkWith, me });
  headgate.on("echo", (echo) => channels.get(echo.topic_id)?.echo(echo));
  headgate.on("inbox", (topics) => unread.hint(topics));
  headgate.on("read", onRead);
  $("me").textContent = visible(me);
  await refresh();
  if (!rows.size) await create(FIRST_CHANNEL).catch(problem);
  $("door").hidden = true;
  $("chat").hidden = false;
  setInterval(() => !document.hidden && headgate.state === "open" && refresh().catch(() => {}), REFRESH_MS);
  const wanted = rows.get(asked.get("channel")) ?? rows.get(PREFIX + FIRST_CHANNEL) ?? rows.values().next().value;
  if (wanted && (asked.has("channel") || matchMedia("(min-width: 45rem)").matches)) await tries(() => show(wanted))();
  else $("room").inert = true;
}

function onState(state, error) {
  if (error) stoppedBy = error;
  if (state === "open" && wasOpen && unread) refresh().catch(problem);
  wasOpen ||= state === "open";
  drawState();
}

/** The browser knows at once that there is no network; the connection notices it later. */
function drawState() {
  const state = navigator.onLine || headgate.state === "stopped" ? headgate.state : "offline";
  $("state").textContent = STATES[state] ?? "connecting …";
  $("state").className = state;
  const stopped = `The server has ended the connection: ${stoppedBy?.message ?? ""}`;
  $("notice").textContent = state === "stopped" ? stopped : (NOTICES[state] ?? NOTICES.waiting);
  $("notice").hidden = !wasOpen || state === "open";
}

function onRead(frame) {
  if (frame.user_id === me) unread.readElsewhere(frame);
  else channels.get(frame.topic_id)?.receipt(frame.user_id, frame.seq);
}

function deviceId() {
  const known = localStorage.getItem("headgate-chat-device") ?? `browser-${Math.random().toString(36).slice(2)}`;
  localStorage.setItem("headgate-chat-device", known);
  return known;
}

/** Enters, or says why not and leaves the door open. */
async function atTheDoor(user, token) {
  $("door-problem").textContent = "";
  try {
    await enter(user, token);
  } catch (error) {
    headgate?.close();
    $("door-problem").textContent = String(error.message || error.code || error);
    $("by-token").hidden = !(error.code === "unauthenticated" || token || !$("by-token").hidden);
    $("by-name").hidden = !$("by-token").hidden;
  }
}

async function begin() {
  const token = hidden.get("token");
  if (token) history.replaceState(null, "", location.pathname + location.search);
  const user = asked.get("user") ?? sessionStorage.getItem("headgate-chat-user");
  if (token) return atTheDoor(undefined, token);
  const answer = await fetch(`${server}/api/v1/topics?limit=1`).catch(() => undefined);
  const needsToken = answer?.status === 401;
  $("by-token").hidden = !needsToken;
  $("by-name").hidden = needsToken;
  if (user && !needsToken) await atTheDoor(user);
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("by-token").hidden ? undefined : $("token").value.trim();
  const user = $("user").value.trim();
  if (token || (user && !$("by-name").hidden)) atTheDoor(token ? undefined : user, token);
});
$("sign-out").addEventListener("click", () => {
  sessionStorage.removeItem("headgate-chat-user");
  location.assign(location.pathname + (asked.has("server") ? `?server=${encodeURIComponent(server)}` : ""));
});
$("new-channel").addEventListener("click", tries(async () => {
  const values = await ask($("create"));
  if (values) await show(await create(values.get("name").trim(), values.has("private")));
})); // prettier-ignore
$("new-talk").addEventListener("click", tries(async () => {
  const values = await ask($("talk"));
  if (values?.get("user").trim()) await talkWith(values.get("user").trim());
})); // prettier-ignore
$("add-member").addEventListener("submit", tries(async () => {
  const user = $("member").value.trim();
  await headgate.call("PUT", `${current.path}/members/${encodeURIComponent(user)}`, { body: { role: "member" } });
  $("add-member").reset();
  await loadPeople();
})); // prettier-ignore
$("leave").addEventListener("click", tries(leave));
$("earlier").addEventListener("click", tries(async () => {
  const log = $("log");
  const fromEnd = log.scrollHeight - log.scrollTop;
  room.stays = false;
  await current.loadEarlier();
  log.scrollTop = log.scrollHeight - fromEnd;
})); // prettier-ignore
$("back").addEventListener("click", () => {
  $("chat").dataset.view = "list";
  document.querySelector("#side [aria-current]")?.focus();
  refresh().catch(problem);
});
$("show-people").addEventListener("click", () => {
  const isShown = $("people-pane").hidden;
  if (isShown) toggle("thread-pane", false);
  toggle("people-pane", isShown);
  if (isShown) $("close-people").focus();
});
$("close-people").addEventListener("click", () => {
  toggle("people-pane", false);
  $("show-people").focus();
});
$("close-thread").addEventListener("click", () => {
  toggle("thread-pane", false);
  $("text").focus();
});
for (const [form, field, parent] of [["send", "text", () => undefined], ["reply", "reply-text", () => room.thread]]) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    send($(field), parent());
  });
  $(field).addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send($(field), parent());
  });
  $(field).addEventListener("input", () => grow($(field)));
}
$("text").addEventListener("input", typed);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]") || event.target.closest(".editor")) return;
  if (!$("thread-pane").hidden) $("close-thread").click();
  else if (!$("people-pane").hidden) $("close-people").click();
});
document.addEventListener("visibilitychange", () => room && markSeen());
$("log").addEventListener("scroll", () => room && markSeen());
for (const event of ["online", "offline"]) addEventListener(event, () => headgate && drawState());
addEventListener("beforeunload", (event) => {
  if ([...channels.values()].some(({ echoes }) => [...echoes.values()].some(({ state }) => state === "pending"))) event.preventDefault();
});
begin();
