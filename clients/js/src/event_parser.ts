/** Reads the format of event streams (HTML standard, "Server-sent events") from text in any pieces. */

export interface StreamEvent {
  event: string;
  data: string;
}

/** An event that is longer is refused: no frame of the protocol comes near. In characters. */
const MAX_EVENT = 8 * 2 ** 20;

export class EventParser {
  private _rest = "";
  private _event = "";
  private _data: string[] = [];
  private _size = 0;

  /** Returns the events that end in this piece. Throws RangeError where one is too long. */
  push(piece: string): StreamEvent[] {
    const lines = (this._rest + piece).split(/\r\n|\n|\r(?!$)/); // a CR at the end may be half of a CRLF
    this._rest = lines.pop() ?? "";
    const events: StreamEvent[] = [];
    for (const line of lines) this._line(line, events);
    if (this._rest.length + this._size > MAX_EVENT) throw new RangeError("an event is too long");
    return events;
  }

  private _line(line: string, events: StreamEvent[]): void {
    if (!line) {
      if (this._data.length) events.push({ event: this._event || "message", data: this._data.join("\n") });
      this._event = "";
      this._data = [];
      this._size = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this._event = value;
    else if (field === "data") {
      this._data.push(value);
      this._size += value.length;
    }
  }
}
