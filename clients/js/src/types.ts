/** What goes over the wire and what a caller may ask for. Members of frames have the names of the protocol page. */

/** Where a subscription begins (docs/reference/websocket.md, "Where a subscription begins"). */
export type From =
  | "live"
  | "earliest"
  | "cursor"
  | { epoch: number; seq: number }
  | { seq: number }
  | { ts: number }
  | { last: number };

/** A place in a topic: "I have this one: send what follows". */
export interface Position {
  epoch: number;
  seq: number;
}

/** A frame as it came, parsed. */
export type Frame = { type: string } & Record<string, unknown>;

/** A message of a topic, an edit, a redaction or a reaction (`kind`). Messages of ephemeral topics have no `seq`. */
export interface Message<Payload = any> {
  topic_id: string;
  seq?: number;
  ts: number;
  message_id: string;
  publisher_id: string;
  /** Null of a redacted message, a redaction and a reaction. */
  payload: Payload | null;
  /** Of the publisher: messages of one key go to one member of a consumer group, in order. */
  key?: string;
  kind?: "edit" | "redact" | "reaction";
  target_seq?: number;
  version?: number;
  edited_at?: string;
  redacted?: boolean;
  reactions?: Record<string, number>;
  name?: string;
  removed?: boolean;
  parent_message_id?: string;
  parent_version?: number;
  attachments?: { url: string; name?: string; content_type?: string; size?: number }[];
  /** Deliveries of this message to this device, this one included; from 2 on it is a redelivery. */
  attempt?: number;
  /** Set by this client on messages that it published itself and whose answer has come. */
  client_msg_id?: string;
}

/** Messages that do not come by themselves. Numbers are `null` where nobody knows them. */
export interface Gap {
  topic_id: string;
  from_seq: number | null;
  to_seq: number | null;
  count: number | null;
  /**
   * Of the server: `slow_consumer`, `retention`, `shed`; a resume that was refused: `epoch_changed`, `ephemeral`,
   * `ahead`; of this client: `missing` (a number was left out), `client_queue` (the queue here was full and the topic is
   * ephemeral).
   */
  reason: string;
  /** Whether history still has them. */
  recoverable: boolean;
  /** Reads the missing messages from history, oldest first. Return it from `onGap` and they are delivered in place. */
  refetch(): AsyncIterable<Message>;
}

export interface PresenceUser {
  user_id: string;
  state: "online" | "away";
  connections?: number;
  since?: string;
}

/** A frame `presence` (the whole list) or `presence_diff`. */
export interface Presence {
  type: "presence" | "presence_diff";
  topic_id: string;
  count: number;
  subscribers?: PresenceUser[];
  joined?: PresenceUser[];
  left?: PresenceUser[];
  changed?: PresenceUser[];
}

/**
 * A user has read a topic up to `seq`: another member who read what this user published, or this user on another device
 * (with `unread`).
 */
export interface Read {
  topic_id: string;
  user_id: string;
  seq: number;
  unread?: number;
}

/** A topic of the inbox. `cursor_seq` is how far this device is, `read_seq` how far the user has read on any. */
export interface InboxTopic {
  topic_id: string;
  /** With the last `seq` that was read it is a place to follow the topic from: `{ epoch, seq }`. */
  epoch: number;
  mode: "direct" | "inbox";
  head_seq: number;
  cursor_seq: number;
  read_seq: number;
  unread: number;
}

/** A page of the inbox; pass `next_page` as `page`. The last one has null. */
export interface InboxPage {
  topics: InboxTopic[];
  next_page: string | null;
}

/** Where a message of one's own is: shown at once as `pending`, then `published` with its `seq`, or `failed`. */
export interface Echo<Payload = any> {
  state: "pending" | "published" | "failed";
  topic_id: string;
  client_msg_id: string;
  payload: Payload;
  parent_message_id?: string;
  message_id?: string;
  seq?: number;
  epoch?: number;
  error?: Error;
}

/** The answer to a publish. */
export interface Published {
  topic_id: string;
  message_id: string;
  client_msg_id: string;
  seq?: number;
  epoch?: number;
  duplicate?: boolean;
  delivered_to: number;
  delivered_to_basis: string;
  dropped: boolean | "backpressure";
}

export interface PublishOptions {
  client_msg_id?: string;
  priority?: "NORMAL" | "LOW";
  /** Messages of one key go to one member of a consumer group, in order. */
  key?: string;
  parent_message_id?: string;
  parent_version?: number;
  attachments?: Message["attachments"];
  /** What the answer waits for. Default `sequenced`: it has the final `seq`. */
  wait?: "accepted" | "sequenced" | "delivered";
  /** Milliseconds after which retries end. Default: `publishTimeoutMs` of the client. */
  timeoutMs?: number;
  /** `false`: does not wait for earlier publishes of this client to the topic. Default true. */
  ordered?: boolean;
}

type Messages = Iterable<Message> | AsyncIterable<Message>;

export interface SubscribeOptions<Payload = any> {
  /** Default `live`; with `ack` `cursor`. */
  from?: From;
  /**
   * At least once for each device. `"auto"` (or true) acknowledges a message when `onMessage` has returned (its promise
   * resolved) or the iterator asks for the next one; an `onMessage` that throws is a `nack`. `"manual"`: `ack` and `nack`
   * of the subscription.
   */
  ack?: boolean | "auto" | "manual";
  /** `true`: `presence_diff` too; `false`: no presence. Left out: the first list. */
  presence?: boolean;
  /** Called with one message at a time; a promise is awaited. Without it the subscription is an async iterator. */
  onMessage?: (message: Message<Payload>) => unknown;
  /** Called in its place between the messages. What it returns is delivered there, for example `gap.refetch()`. */
  onGap?: (gap: Gap) => void | Messages | Promise<void | Messages>;
  onPresence?: (presence: Presence) => void;
  onTyping?: (user_id: string) => void;
  /** Called when all messages up to the head of the time of subscribing were handed over. */
  onCaughtUp?: (position: { seq: number | null }) => void;
  /** Called at each grant, after reconnects too, with the frame `subscribed`. */
  onSubscribed?: (frame: Frame) => void;
  /** Called once at the end: with an error unless `close` was called. */
  onEnd?: (error?: Error) => void;
  /** Bound of the messages that wait for the application. Default 1,000. */
  queueMessages?: number;
  /** Bound of their frames' text in characters. Default 8 Mi. */
  queueBytes?: number;
}
