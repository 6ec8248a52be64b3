// Draws one channel: its messages, a thread, its people.
import { $, clock, day, el, keyed, named, sure, tone, visible } from "./dom.js";

const REACTIONS = ["👍", "❤️", "😄", "🎉"];
const LONG = 1_500; // characters of a message that are shown at once
const TOGETHER_MS = 5 * 60_000; // messages of one user within it have one head
const SAID = 3; // new messages that the announcer keeps

export class Room {
  /** `tries(run)` runs what may fail and shows why; `talkWith(user)` opens a direct talk. */
  constructor({ tries, talkWith, me }) {
    Object.assign(this, { tries, talkWith, me });
    this.open = undefined; // the message whose actions are shown
    this.editing = undefined;
    this.whole = new Set(); // long messages that are shown whole
    for (const list of [$("messages"), $("thread-messages")]) {
      list.addEventListener("keydown", (event) => this.#arrows(event, list));
    }
    $("log").addEventListener("scroll", () => this.#scrolled());
    $("to-end").addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.stays && this.toEnd()).observe($("log"));
    this.stays = true; // the newest message stays in view
  }

  show(channel) {
    Object.assign(this, { channel, thread: undefined, open: undefined, editing: undefined, stays: true });
    this.newFrom = undefined;
    this.draw();
  }

  /** The place of the line "New", where the user had read up to `seq`; undefined: no line. */
  newAbove(seq) {
    this.newFrom = seq;
  }

  get atEnd() {
    const log = $("log");
    return log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  }

  toEnd() {
    $("log").scrollTop = $("log").scrollHeight;
    $("to-end").hidden = true;
  }

  draw() {
    const { channel } = this;
    if (!channel) return;
    const rows = this.#rows(channel.main);
    this.#list($("messages"), rows);
    $("empty").hidden = rows.length > 0 || !channel.caughtUp;
    $("earlier").hidden = !channel.hasEarlier;
    if (this.stays) this.toEnd();
    this.drawThread();
  }

  drawThread() {
    $("thread-pane").hidden = !this.thread;
    if (!this.thread) return;
    const log = $("thread-log");
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    this.#list($("thread-messages"), this.#rows(this.channel.thread(this.thread)));
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  drawTyping() {
    const users = this.channel.typing.map(visible);
    const many = users.length > 3 ? ["Several people"] : users;
    $("typing").textContent = users.length ? `${many.join(", ")} ${users.length > 1 ? "are" : "is"} typing …` : "";
  }

  /** Says a new message to those who do not see it. */
  announce({ publisher_id, payload }) {
    const said = el("p", {}, `${visible(publisher_id)}: ${textOf(payload).slice(0, 300)}`);
    const box = $("announce");
    box.append(said);
    while (box.childElementCount > SAID) box.firstElementChild.remove();
  }

  /** More came while the user was reading above. */
  more() {
    if (!this.atEnd) $("to-end").hidden = false;
  }

  #scrolled() {
    this.stays = this.atEnd;
    if (this.stays) $("to-end").hidden = true;
  }

  /** Messages with what each has from its neighbours: a new day, the head of its user, the line "New". */
  #rows(messages) {
    let before;
    let isNew = this.newFrom === undefined;
    return messages.map((message) => {
      const { seq, ts, publisher_id } = message;
      const newDay = !before || new Date(before.ts).toDateString() !== new Date(ts).toDateString();
      const line = !isNew && (seq ?? 0) > this.newFrom && publisher_id !== this.me;
      isNew ||= line;
      const head = newDay || line || before.publisher_id !== publisher_id || ts - before.ts > TOGETHER_MS;
      before = message;
      return { message, head, day: newDay && day(ts), line };
    });
  }

  #list(list, rows) {
    const isThread = list.id === "thread-messages";
    const lastOwn = rows.findLast(({ message }) => message.publisher_id === this.me && message.seq)?.message;
    keyed(
      list,
      rows,
      ({ message }) => message.message_id ?? message.client_msg_id,
      (row) => JSON.stringify(this.#signature(row, isThread, lastOwn)),
      (row) => this.#item(row, isThread, lastOwn),
    );
    const places = [...list.querySelectorAll(".dots")];
    for (const button of places) button.tabIndex = -1;
    (places.find((button) => button === document.activeElement) ?? places.at(-1))?.setAttribute("tabindex", "0");
  }

  #signature({ message, head, day: newDay, line }, isThread, lastOwn) {
    const { message_id: id, version, redacted, reactions, state, payload, error } = message;
    const { channel } = this;
    const marks = [this.open === id, this.editing === id && isThread === this.editsThread, this.whole.has(id)];
    const seen = message === lastOwn && this.#seen(message);
    return [id, state, error?.message, version, redacted, reactions, payload, head, newDay, line, marks, seen,
      !isThread && id && channel.replies(id), [...(channel.mine.get(id) ?? [])]]; // prettier-ignore
  }

  #item(row, isThread, lastOwn) {
    const { message, head, day: newDay, line } = row;
    const { publisher_id, state, message_id, ts, redacted, version, parent_message_id } = message;
    const notes = [!redacted && version > 1 && "edited", state === "pending" && "waiting to be sent"].filter(Boolean);
    const who = head && el("p", { class: "who" }, named(publisher_id), el("time", { datetime: new Date(ts).toISOString() }, clock(ts)));
    const isEdited = this.editing === message_id && isThread === this.editsThread && message_id;
    const seen = message === lastOwn && this.#seen(message);
    return el(
      "li",
      { class: ["message", head && "head", state].filter(Boolean).join(" "), "data-id": message_id ?? message.client_msg_id },
      newDay && el("p", { class: "day" }, newDay),
      line && el("p", { class: "new-line" }, "New"),
      head && el("span", { class: `face ${tone(publisher_id)}`, "aria-hidden": "true" }, [...visible(publisher_id)][0].toUpperCase()),
      el("div", { class: "body" },
        who,
        !isThread && parent_message_id && el("p", { class: "note" }, "A reply in a thread"),
        isEdited ? this.#editor(message) : this.#text(message),
        notes.length > 0 && el("span", { class: "note" }, notes.join(", ")),
        state === "failed" && this.#failed(message),
        seen && el("p", { class: "note" }, seen),
        this.#chips(message, isThread),
        this.open === message_id && message_id && this.#actions(message, isThread)),
      !state && !redacted && this.#dots(message)); // prettier-ignore
  }

  #text(message) {
    const { payload, redacted, message_id } = message;
    if (redacted) return el("p", { class: "text note" }, "This message was deleted.");
    const text = textOf(payload);
    if (text.length <= LONG || this.whole.has(message_id)) return el("p", { class: "text", dir: "auto" }, text);
    const show = () => this.#set(() => this.whole.add(message_id));
    const more = el("button", { class: "plain", "data-do": "whole", onclick: show }, `Show all of ${text.length.toLocaleString()} characters`);
    return el("div", {}, el("p", { class: "text", dir: "auto" }, `${text.slice(0, LONG)} …`), more);
  }

  #seen({ seq }) {
    const users = [...this.channel.seenBy].filter(([user, upTo]) => upTo >= seq && user !== this.me).map(([user]) => visible(user));
    if (!users.length) return false;
    return users.length > 3 ? `Seen by ${users.length} people` : `Seen by ${users.join(", ")}`;
  }

  #failed({ error, client_msg_id, payload, parent_message_id }) {
    const again = this.tries(() => this.channel.say(textOf(payload), parent_message_id, client_msg_id));
    return el("p", { class: "line" },
      el("span", { class: "problem" }, `Not sent: ${error?.message || error?.code}`),
      el("button", { "data-do": "again", onclick: again }, "Try again"),
      el("button", { "data-do": "drop", onclick: () => this.channel.forget(client_msg_id) }, "Drop it")); // prettier-ignore
  }

  #chips(message, isThread) {
    const { message_id, reactions = {} } = message;
    const mine = this.channel.mine.get(message_id) ?? new Set();
    const chips = Object.entries(reactions).filter(([, count]) => count > 0).map(([name, count]) =>
      el("button", {
        class: "chip", "aria-pressed": String(mine.has(name)), "data-do": `chip ${name}`,
        "aria-label": `${visible(name)}: ${count}`, onclick: this.tries(() => this.channel.react(message, name)),
      }, el("bdi", {}, visible(name).slice(0, 32)), ` ${count}`)); // prettier-ignore
    const replies = isThread || !message_id ? 0 : this.channel.replies(message_id);
    if (replies) {
      const words = replies === 1 ? "1 reply" : `${replies} replies`;
      chips.push(el("button", { class: "chip replies", "data-do": "replies", onclick: () => this.openThread(message_id) }, words));
    }
    return chips.length > 0 && el("div", { class: "line chips" }, chips);
  }

  #dots({ message_id, publisher_id }) {
    const isOpen = this.open === message_id;
    const toggle = () => this.#set(() => (this.open = isOpen ? undefined : message_id));
    const label = `Actions for the message of ${visible(publisher_id)}`;
    return el("button", { class: "dots icon", tabindex: "-1", "aria-expanded": String(isOpen), "aria-label": label, "data-do": "dots", onclick: toggle }, "⋯");
  }

  #actions(message, isThread) {
    const { message_id, publisher_id, parent_message_id } = message;
    const done = (run) => this.tries(async () => {
      await run();
      this.#set(() => (this.open = undefined));
    }); // prettier-ignore
    const buttons = REACTIONS.map((name) =>
      el("button", { "aria-label": `React with ${name}`, "data-do": name, onclick: done(() => this.channel.react(message, name)) }, name));
    if (!isThread) buttons.push(el("button", { "data-do": "reply", onclick: () => this.openThread(parent_message_id ?? message_id) }, "Reply"));
    if (publisher_id === this.me) {
      const edit = () => this.#set(() => Object.assign(this, { editing: message_id, editsThread: isThread, open: undefined }));
      const remove = async () => {
        if (await sure("Delete this message?", "It is taken from everybody, and cannot be brought back.", "Delete")) await this.channel.redact(message);
      };
      buttons.push(el("button", { "data-do": "edit", onclick: edit }, "Edit"));
      buttons.push(el("button", { class: "danger", "data-do": "delete", onclick: done(remove) }, "Delete"));
    } else buttons.push(el("button", { "data-do": "talk", onclick: this.tries(() => this.talkWith(publisher_id)) }, "Talk"));
    return el("div", { class: "line actions", role: "group", "aria-label": "Actions" }, buttons);
  }

  #editor(message) {
    const leave = () => this.#set(() => (this.editing = undefined));
    const input = el("textarea", { rows: "2", maxlength: "4000", "aria-label": "New text of the message", "data-do": "editor" });
    input.value = textOf(message.payload);
    const save = this.tries(async () => {
      const text = input.value.trim();
      if (text && text !== textOf(message.payload)) await this.channel.edit(message, text);
      leave();
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") leave();
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) save(event);
    });
    setTimeout(() => input.focus());
    return el("div", { class: "editor" }, input,
      el("div", { class: "line" }, el("button", { class: "main", onclick: save }, "Save"), el("button", { onclick: leave }, "Cancel"))); // prettier-ignore
  }

  openThread(message_id) {
    this.open = undefined;
    this.thread = message_id;
    $("people-pane").hidden = true;
    $("show-people").setAttribute("aria-expanded", "false");
    this.draw();
    $("thread-log").scrollTop = $("thread-log").scrollHeight;
    $("reply-text").focus();
    this.tries(() => this.channel.loadThread(message_id))();
  }

  #set(change) {
    change();
    this.draw();
  }

  /** Up and down go from message to message. */
  #arrows(event, list) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || !event.target.classList.contains("dots")) return;
    event.preventDefault();
    const places = [...list.querySelectorAll(".dots")];
    const next = places[places.indexOf(event.target) + step];
    if (!next) return;
    for (const button of places) button.tabIndex = button === next ? 0 : -1;
    next.focus();
  }
}

/** The text of a payload, whatever a program has published. */
export function textOf(payload) {
  return typeof payload?.text === "string" ? payload.text : (JSON.stringify(payload) ?? "");
}

/** Draws who is here and which members are not. */
export function drawPeople({ people, members }, me, act) {
  const person = ([user, state]) =>
    el("li", {}, el("button", { class: "row", "data-do": user, disabled: user === me, onclick: act(user) },
      el("span", { class: `dot ${state}`, "aria-hidden": "true" }), named(user), user === me && el("span", { class: "note" }, "you"),
      state !== "online" && el("span", { class: "note" }, state))); // prettier-ignore
  const here = [...people].sort(([a], [b]) => (a < b ? -1 : 1));
  const others = members.filter(({ user_id }) => !people.has(user_id)).map(({ user_id }) => [user_id, "offline"]);
  keyed($("here"), here, ([user]) => user, String, person);
  keyed($("members"), others, ([user]) => user, String, person);
  $("members-heading").hidden = !others.length;
}
