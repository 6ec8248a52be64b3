// An application in TypeScript: it is compiled against the types of the package, and not run.
import { Headgate, HeadgateError, type Message, type Gap } from "headgate-client";
const hg = new Headgate({ url: "http://x", token: async () => "t" });
const sub = hg.subscribe<{ text: string }>("room", { from: { last: 5 }, ack: "manual", onGap: (gap: Gap) => (gap.recoverable ? gap.refetch() : undefined) });
for await (const message of sub) { const text: string = message.payload.text; sub.ack(message); console.log(text, sub.position?.seq); }
const { seq } = await hg.publish("room", { text: "x" }, { wait: "sequenced" });
hg.on("state", (state, error?: HeadgateError) => console.log(state, error?.code, seq));
const all: Message[] = (await hg.history("room")).messages;
console.log(all);
// @ts-expect-error: not a form of from
hg.subscribe("x", { from: "yesterday" });
// @ts-expect-error: internal
sub.asking("x");
