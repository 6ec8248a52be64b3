// What the user has not read, by topic. The server counts (the inbox) and says what is new (`inbox`) and what was read on another
// device (`read`); only the topic on the page is counted here, because the server gives no hints of a followed topic.

const PAGE = 1_000;
const MARK_EVERY_MS = 500;

export class Unread {
  /** `changed(unknown)` is called after every change; `unknown` says that there is a topic that the page does not know. */
  constructor(headgate, changed) {
    Object.assign(this, { headgate, changed });
    this.topics = new Map(); // topic_id -> {head, read, unread, told, marking}; `told` is the mark that the server has
  }

  /** Reads the inbox: the topics of the user with what is unread in each. What was read while offline is told now. */
  async load() {
    const seen = new Set();
    for (let page; page !== null; ) {
      const answer = await this.headgate.inbox({ limit: PAGE, ...(page && { page }) });
      for (const topic of answer.topics) {
        seen.add(topic.topic_id);
        this.#take(topic.topic_id, topic.head_seq, topic.unread, topic.read_seq);
      }
      page = answer.next_page ?? null;
    }
    for (const topic_id of this.topics.keys()) if (!seen.has(topic_id)) this.topics.delete(topic_id);
    for (const [topic_id, { read, told }] of this.topics) if (read > told) this.#mark(topic_id);
    this.changed(false);
  }

  /** The frame `inbox`: new messages in topics that are not followed. */
  hint(topics) {
    const unknown = topics.some(({ topic_id }) => !this.topics.has(topic_id));
    for (const { topic_id, head_seq, unread } of topics) this.#take(topic_id, head_seq, unread);
    this.changed(unknown);
  }

  /** The frame `read` of this user: another device has read so far. */
  readElsewhere({ topic_id, seq, unread }) {
    const topic = this.topics.get(topic_id);
    if (!topic) return;
    topic.told = Math.max(topic.told, seq);
    if (seq < topic.read) return;
    topic.read = seq;
    topic.unread = seq >= topic.head ? 0 : (unread ?? topic.unread);
    this.changed(false);
  }

  /** A message of the topic on the page. It is unread until `seen` says otherwise. */
  arrived(topic_id, seq, isOwn) {
    const topic = this.topics.get(topic_id);
    if (!topic || seq <= topic.head) return;
    topic.head = seq;
    if (!isOwn) topic.unread += 1;
    this.changed(false);
  }

  /** The user has seen everything up to `seq`: here at once, and at the server for every device. */
  seen(topic_id, seq) {
    const topic = this.topics.get(topic_id);
    if (!topic || seq <= topic.read) return;
    topic.read = seq;
    topic.head = Math.max(topic.head, seq);
    if (seq >= topic.head) topic.unread = 0;
    this.#mark(topic_id);
    this.changed(false);
  }

  has(topic_id) {
    return this.topics.has(topic_id);
  }

  of(topic_id) {
    return this.topics.get(topic_id)?.unread ?? 0;
  }

  /** Up to where the user has read, for the line above what is new. */
  readOf(topic_id) {
    return this.topics.get(topic_id)?.read ?? 0;
  }

  get total() {
    let sum = 0;
    for (const { unread } of this.topics.values()) sum += unread;
    return sum;
  }

  /** Takes what the server counted, unless more is known here already. */
  #take(topic_id, head, unread, read = 0) {
    const topic = this.topics.get(topic_id) ?? { head: 0, read: 0, unread: 0, told: 0, marking: false };
    this.topics.set(topic_id, topic);
    topic.told = Math.max(topic.told, read);
    if (head < topic.head) return;
    topic.head = head;
    topic.unread = topic.read >= head ? 0 : unread;
    topic.read = Math.max(topic.read, read);
  }

  /** Tells the server how far the user has read: one request at a time, the newest mark; what fails is told after `load`. */
  async #mark(topic_id) {
    const topic = this.topics.get(topic_id);
    if (topic.marking) return;
    topic.marking = true;
    try {
      while (topic.read > topic.told) {
        const seq = topic.read;
        await this.headgate.markRead(topic_id, seq);
        topic.told = Math.max(topic.told, seq);
        await new Promise((resolve) => setTimeout(resolve, MARK_EVERY_MS));
      }
    } catch {
      // offline, or no member any more: the next `load` says
    } finally {
      topic.marking = false;
    }
  }
}
