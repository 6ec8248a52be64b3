/** The state machines as tables. An event that a state does not know raises an error and changes nothing. */

export type Table<State extends string, Event extends string> = Readonly<Record<State, Partial<Record<Event, State>>>>;

/** Returns the state after the event. Throws where the table has none. */
export function after<State extends string, Event extends string>(
  table: Table<State, Event>,
  state: State,
  event: Event,
): State {
  const next = table[state][event];
  if (!next) throw new Error(`${event} is not known in the state ${state}`);
  return next;
}

/**
 * The connection of a client.
 * `idle`: nothing was asked for yet. `fetching`: the credentials are being fetched. `opening`: until `welcome`.
 * `open`. `waiting`: for the next try. `offline`: until the browser says that it is online, or for a longer wait.
 * `stopped`: the server said that no try will help; `start` tries anew. `closed`: for good.
 */
export type ConnectionState = "idle" | "fetching" | "opening" | "open" | "waiting" | "offline" | "stopped" | "closed";
export type ConnectionEvent = "start" | "fetched" | "welcome" | "lost" | "due" | "offline" | "refused" | "close";

export const CONNECTION: Table<ConnectionState, ConnectionEvent> = {
  idle: { start: "fetching", close: "closed" },
  fetching: { fetched: "opening", lost: "waiting", refused: "stopped", close: "closed" },
  opening: { welcome: "open", lost: "waiting", refused: "stopped", close: "closed" },
  open: { lost: "waiting", refused: "stopped", close: "closed" },
  waiting: { due: "fetching", offline: "offline", close: "closed" },
  offline: { due: "fetching", close: "closed" },
  stopped: { start: "fetching", close: "closed" },
  closed: { close: "closed" },
};

/**
 * One subscription.
 * `pending`: to be asked for when the connection is open (or after a refusal that may pass). `asked`: until
 * `subscribed`. `live`: frames come. `paused`: the queue here was full, so it was unsubscribed; it is asked for again
 * from its position when half of the queue is free. `ended`: for good.
 */
export type SubscriptionState = "pending" | "asked" | "live" | "paused" | "ended";
export type SubscriptionEvent = "ask" | "granted" | "lost" | "full" | "drained" | "end";

export const SUBSCRIPTION: Table<SubscriptionState, SubscriptionEvent> = {
  pending: { ask: "asked", lost: "pending", end: "ended" },
  asked: { granted: "live", lost: "pending", end: "ended" },
  live: { lost: "pending", full: "paused", end: "ended" },
  paused: { lost: "paused", drained: "pending", end: "ended" },
  ended: { lost: "ended", end: "ended" },
};
