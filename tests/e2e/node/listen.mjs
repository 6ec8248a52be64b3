// Opens npm's EventSource on the URL of argv[3] and writes what it tells, one JSON object a line. Its module is looked
// for from the folder of argv[2]. No reconnect, cursor or filter of ours.
import { createRequire } from "node:module";

const { EventSource } = createRequire(`${process.argv[2]}/`)("eventsource");
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const source = new EventSource(process.argv[3]);

source.onopen = () => tell({ on: "open" });
source.onerror = () => tell({ on: "error", state: source.readyState });
source.onmessage = (event) => tell({ on: "message", id: event.lastEventId, data: JSON.parse(event.data) });
for (const name of ["welcome", "subscribed", "caught_up", "gap", "unsubscribed", "disconnect"]) {
  source.addEventListener(name, (event) => tell({ on: name, data: JSON.parse(event.data) }));
}

setInterval(() => {}, 60_000); // the client's own timers do not keep Node alive, as a page or a service would
