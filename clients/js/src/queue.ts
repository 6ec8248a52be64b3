/** A bounded queue, in order, that counts items and bytes. */

export class Queue<T> {
  private _items: { value: T; bytes: number }[] = [];
  private _head = 0;
  private _bytes = 0;

  constructor(
    private readonly _maxItems: number,
    private readonly _maxBytes: number,
  ) {}

  get length(): number {
    return this._items.length - this._head;
  }

  /** Whether half of both bounds is free. */
  get isHalfFree(): boolean {
    return this.length <= this._maxItems / 2 && this._bytes <= this._maxBytes / 2;
  }

  /**
   * Takes it, or returns false when it is full. An item that is larger than the whole bound passes when it is alone, and one
   * that `mustPass` always.
   */
  push(value: T, bytes: number, mustPass = false): boolean {
    const count = this.length;
    if (count && !mustPass && (count >= this._maxItems || this._bytes + bytes > this._maxBytes)) return false;
    this._items.push({ value, bytes });
    this._bytes += bytes;
    return true;
  }

  shift(): T | undefined {
    const item = this._items[this._head];
    if (!item) return undefined;
    this._head += 1;
    this._bytes -= item.bytes;
    if (this._head * 2 > this._items.length) {
      this._items = this._items.slice(this._head); // amortised: each item is moved about once
      this._head = 0;
    }
    return item.value;
  }

  clear(): void {
    this._items = [];
    this._head = this._bytes = 0;
  }
}
