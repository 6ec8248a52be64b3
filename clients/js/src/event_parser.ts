/** Reads the format of event streams (HTML standard, "Server-sent events") from text in any pieces. */

export interface StreamEvent {
  event: string;
  data: string;
}

/** An event that is longer is refused: no frame of the protocol comes near. In characters. */
const MAX_EVENT = 8 * 2 ** 20;

export class EventParser {
  private rest = "";
  private event = "";
  private data: string[] = [];
  private size = 0;

  /** Returns the events that end in this piece. Throws RangeError where one is too long. */
  push(piece: string): StreamEvent[] {
    const lines = (this.rest + piece).split(/\r\n|\n|\r(?!$)/); // a CR at the end may be half of a CRLF
    this.rest = lines.pop() ?? "";
    const events: StreamEvent[] = [];
    for (const line of lines) this.line(line, events);
    if (this.rest.length + this.size > MAX_EVENT) throw new RangeError("an event of the stream is too long");
    return events;
  }

  private line(line: string, events: StreamEvent[]): void {
    if (!line) {
      if (this.data.length) events.push({ event: this.event || "message", data: this.data.join("\n") });
      this.event = "";
      this.data = [];
      this.size = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.event = value;
    else if (field === "data") {
      this.data.push(value);
      this.size += value.length;
    }
  }
}
