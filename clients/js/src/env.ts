/** The ports to the world outside: clock, randomness, network and page. Tests hand in their own. */

/** What this package needs of a WebSocket: the browser's, Node's from 22 on, or that of the package `ws`. */
export interface WebSocketLike {
  readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export type WebSocketClass = new (url: string, protocols?: string[]) => WebSocketLike;

export type PageEvent = "online" | "offline" | "visible" | "hidden";

/** What the browser says about network and visibility. */
export interface Page {
  /** Whether the browser says that there is no network. */
  offline(): boolean;
  /** Calls back at each change; returns the function that ends it. */
  listen(on: (event: PageEvent) => void): () => void;
}

export interface Env {
  /** Milliseconds of a clock that is never set: only differences mean something. */
  now(): number;
  /** Runs it once after so many milliseconds; returns the function that cancels it. */
  after(ms: number, run: () => void): () => void;
  /** From 0 up to, not including, 1. */
  random(): number;
  uuid(): string;
  fetch: typeof fetch;
  WebSocket: WebSocketClass | undefined;
  page: Page;
}

/** Returns the real world, with what the caller brings. */
export function realEnv(brought: Partial<Env> = {}): Env {
  return {
    now: () => performance.now(),
    after: (ms, run) => {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
    random: Math.random,
    uuid,
    fetch: (input, init) => globalThis.fetch(input, init),
    WebSocket: globalThis.WebSocket as WebSocketClass | undefined,
    page: browserPage(),
    ...given(brought),
  };
}

/** Returns an object without the members that are undefined. */
export function given<Members extends object>(members: Members): Members {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as Members;
}

/** 128 random bits. `crypto.randomUUID` is there only in secure contexts; a page on http has `getRandomValues`. */
function uuid(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function browserPage(): Page {
  const scope = globalThis as any;
  const listens = typeof scope.addEventListener === "function" && scope.document?.addEventListener;
  return {
    offline: () => scope.navigator?.onLine === false,
    listen: (on) => {
      if (!listens) return () => {};
      const end = new AbortController();
      const { signal } = end;
      const visibility = () => on(scope.document.visibilityState);
      scope.addEventListener("online", () => on("online"), { signal });
      scope.addEventListener("offline", () => on("offline"), { signal });
      scope.addEventListener("pageshow", visibility, { signal });
      scope.document.addEventListener("visibilitychange", visibility, { signal });
      return () => end.abort();
    },
  };
}
