"""What applying and routing a record costs: single messages, bundles, repeats. `python -m bench.sequencer`

One core, no log and no link: `apply` with a warm window, the route to one gateway, the index beside it.
"""

import time

from dispatcher.dispatcher_options import DEFAULT_HISTORY
from dispatcher.history import History
from dispatcher.index import HistoryIndex
from dispatcher.index_file import LogIdentity
from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.effects import Deliver
from headgate.core.sequencer.routes import Routes
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.control import Config, CreateTopic, encode_body
from headgate.core.wire.envelope import KEYED, Item, encode_bundle, encode_control, encode_message
from headgate.core.wire.ids import keyed_id, make_epoch
from headgate.core.wire.records import Record

COUNT = 100_000
TOPICS = 100
TAIL = b'"message_id":"7f1ddbbd-e5e6-8f4d-96c8-a2ea4da39d30","publisher_id":"bench","payload":{"n":123456}}'


def log_of(bundle: int) -> list[Record]:
    """A shard's log: its config, TOPICS topics, COUNT messages."""
    config = Config(cluster_id="c", generation=1, shards=1, shard=0)
    records = [Record(0, 1, b"hg:config", encode_control(encode_body(config), 0))]
    for n in range(TOPICS):
        control = CreateTopic(topic_id=f"t{n}", name="n", permissions="PUBLIC", owner_id="o")
        records.append(Record(n + 1, 1, b"t%d" % n, encode_control(encode_body(control), 0)))
    for n in range(COUNT // bundle):
        topic = n % TOPICS
        key, epoch = b"t%d" % topic, make_epoch(1, topic + 1)
        items = [Item(keyed_id(key, "p", str(n * bundle + i)), KEYED, TAIL) for i in range(bundle)]
        value = encode_message(items[0], epoch) if bundle == 1 else encode_bundle(items, epoch)
        records.append(Record(TOPICS + 1 + n, 1_000 + n, key, value))
    return records


def run(records: list[Record], *, index: bool) -> float:
    """Applies the log; returns CPU microseconds a message."""
    shard, rows = Shard(), dict[bytes, Row]()
    routes: Routes[str] = Routes()
    for n in range(TOPICS):
        routes.add("gateway", f"t{n}", make_epoch(1, n + 1), 0)
    history = History(0, 0)
    history.opened(HistoryIndex(":memory:", LogIdentity("c", 1, 0)))
    started = time.process_time()
    for at in range(0, len(records), 200):
        for record, applied in apply_many(shard, rows, records[at : at + 200]):
            for effect in applied.effects:
                if type(effect) is Deliver:
                    routes.push(effect)
                    if index:
                        history.add(record.offset, effect)
        routes.take()
        history.advance(records[min(at + 200, len(records)) - 1].offset + 1, None)
        if len(history.recent) >= DEFAULT_HISTORY.batch:
            history.write()
    spent = time.process_time() - started
    history.close()
    return spent / COUNT * 1e6


def main() -> None:
    """Prints the table."""
    for name, bundle in (("single records", 1), ("bundles of 20", 20)):
        records = log_of(bundle)
        bare, indexed = (min(run(records, index=index) for _ in range(3)) for index in (False, True))
        print(
            f"{name:16} apply and route {bare:5.2f} us a message ({1e6 / bare:9,.0f}/s), "
            f"with the index {indexed:5.2f} us ({1e6 / indexed:9,.0f}/s)"
        )


if __name__ == "__main__":
    main()
