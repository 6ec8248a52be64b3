// Elements and lists. Every text becomes a text node: nothing from the network is ever read as HTML.

export const $ = (id) => document.getElementById(id);

/** Builds an element. Attributes that begin with `on` are listeners; false and undefined are left out. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== false && child !== ""));
  return made;
}

/** A name from the network: its direction of writing stays inside, invisible characters do not hide it. */
export function named(text, kind = "name") {
  return el("bdi", { class: kind, title: String(text).length > 24 && text }, visible(text));
}

/** Returns a name as it can be read: without controls of direction, and never empty. */
export function visible(text) {
  const clean = String(text).replace(/[\p{Cc}\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]/gu, "").trim();
  return clean || "(no name)";
}

/**
 * Makes the children of a list those of `items`. A node stays as it is while its signature stays the same, so nothing that is
 * read, selected or focused moves; where a node is made anew, the control of the same `data-do` has the focus again.
 */
export function keyed(list, items, keyOf, signatureOf, build) {
  const before = list.known ?? new Map();
  const known = new Map();
  let place = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const signature = signatureOf(item);
    let entry = before.get(key);
    if (!entry || entry.signature !== signature) {
      const node = build(item);
      const focused = entry?.node.contains(document.activeElement) && document.activeElement.dataset.do;
      if (entry) {
        if (place === entry.node) place = node;
        entry.node.replaceWith(node);
      }
      entry = { signature, node };
      if (focused) [...node.querySelectorAll("[data-do]")].find((control) => control.dataset.do === focused)?.focus();
    }
    before.delete(key);
    known.set(key, entry);
    if (entry.node === place) place = place.nextElementSibling;
    else list.insertBefore(entry.node, place);
  }
  for (const { node } of before.values()) node.remove();
  list.known = known;
}

/** The time of a message: the clock, with the day where it is another one. */
export function clock(ts) {
  return new Date(ts).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

export function day(ts) {
  const then = new Date(ts);
  if (then.toDateString() === new Date().toDateString()) return "Today";
  return then.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long", year: "numeric" });
}

/** Which of six colours a name has. */
export function tone(name) {
  let sum = 0;
  for (const letter of String(name)) sum = (sum * 31 + letter.codePointAt(0)) % 9973;
  return `tone-${sum % 6}`;
}

/** Opens a dialog; resolves with its form's values, or with nothing where it was left. */
export function ask(dialog) {
  return new Promise((resolve) => {
    const form = dialog.querySelector("form");
    form.reset();
    form.querySelector("[value=cancel]").onclick = () => dialog.close("cancel");
    dialog.onclose = () => resolve(dialog.returnValue === "ok" ? new FormData(form) : undefined);
    dialog.returnValue = "";
    dialog.showModal();
  });
}

/** Asks whether something is to be done that cannot be undone. */
export async function sure(title, text, yes) {
  $("sure-title").textContent = title;
  $("sure-text").textContent = text;
  $("sure-yes").textContent = yes;
  return (await ask($("sure"))) !== undefined;
}
