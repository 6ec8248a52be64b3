/** Headgate in browsers and Node. */

export { Headgate, type ClientEvents, type HeadgateOptions } from "./client.js";
export type { Fetched } from "./credentials.js";
export type { Env, Page, PageEvent, WebSocketClass, WebSocketLike } from "./env.js";
export { HeadgateError } from "./errors.js";
export type { CallOptions } from "./http.js";
export type { Publishing } from "./publish.js";
export type { ConnectionState, SubscriptionState } from "./states.js";
export type { Subscription } from "./subscription.js";
export type * from "./types.js";
