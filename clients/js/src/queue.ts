/** A bounded queue, in order, that counts items and bytes. */

export class Queue<T> {
  private items: { value: T; bytes: number }[] = [];
  private head = 0;
  private bytes = 0;

  constructor(
    private readonly maxItems: number,
    private readonly maxBytes: number,
  ) {}

  get length(): number {
    return this.items.length - this.head;
  }

  /** Whether half of both bounds is free. */
  get drained(): boolean {
    return this.length <= this.maxItems / 2 && this.bytes <= this.maxBytes / 2;
  }

  /** Takes it, or returns false when it is full. An item that is larger than the whole bound passes when it is alone. */
  push(value: T, bytes: number): boolean {
    const count = this.length;
    if (count && (count >= this.maxItems || this.bytes + bytes > this.maxBytes)) return false;
    this.items.push({ value, bytes });
    this.bytes += bytes;
    return true;
  }

  shift(): T | undefined {
    const item = this.items[this.head];
    if (!item) return undefined;
    this.head += 1;
    this.bytes -= item.bytes;
    if (this.head * 2 > this.items.length) {
      this.items = this.items.slice(this.head); // amortised: each item is moved about once
      this.head = 0;
    }
    return item.value;
  }

  clear(): void {
    this.items = [];
    this.head = this.bytes = 0;
  }
}
