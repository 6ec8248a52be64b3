// An application in TypeScript: it is compiled against the types of the package, and not run.
import { Headgate, HeadgateError, type Message, type Gap } from "headgate-client";
const hg = new Headgate({ url: "http://x", token: async () => "t" });
const sub = hg.subscribe<{ text: string }>("room", { from: { last: 5 }, ack: "manual", onGap: (gap: Gap) => (gap.recoverable ? gap.refetch() : undefined) });
for await (const message of sub) { const text: string | undefined = message.payload?.text; sub.ack(message); console.log(text, message.key, sub.position?.seq); }
const { seq } = await hg.publish("room", { text: "x" }, { wait: "sequenced", key: "k" });
hg.on("state", (state, error?: HeadgateError) => console.log(state, error?.code, seq));
const all: Message[] = (await hg.history("room")).messages;
console.log(all);
for (const { topic_id, epoch, cursor_seq: seq } of (await hg.inbox()).topics) hg.subscribe(topic_id, { from: { epoch, seq } });
// @ts-expect-error: null where it was redacted
const redacted: string = (await hg.history("room")).messages.map(({ payload }: Message<{ text: string }>) => payload.text)[0]!;
console.log(redacted);
// @ts-expect-error: not a form of from
hg.subscribe("x", { from: "yesterday" });
// @ts-expect-error: internal
sub.asking("x");
