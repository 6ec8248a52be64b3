"""kill -9 of `headgate dev --data DIR` in mid-publish: what was answered 200 is there after the restart, once."""

import asyncio
from itertools import count

from tests.e2e import ledger
from tests.e2e.clients import Publisher
from tests.e2e.conftest import Figures
from tests.e2e.harness import Stage, until
from tests.e2e.http import NoAnswer

WORKERS = 6
ROUNDS = 3
BATCH = 20


class Worker:
    """Publishes to its own topic, singles and batches in turn, and remembers what was answered."""

    def __init__(self, number: int) -> None:
        self.topic = f"worker.{number}"
        self.offered: dict[str, int] = {}  # client_msg_id -> number, in the order of sending
        self.acked: dict[str, str] = {}  # client_msg_id -> message_id
        self._numbers = count()

    async def run(self, url: str) -> None:
        """Publishes until the server is gone."""
        async with Publisher(url) as publisher:
            for turn in count():
                try:
                    await self._turn(publisher, 1 if turn % 2 else BATCH)
                except NoAnswer:
                    return

    async def retry(self, publisher: Publisher) -> int:
        """Publishes what was never answered once more, under the same ids; returns how many there were."""
        unknown = [cmid for cmid in self.offered if cmid not in self.acked]
        for cmid in unknown:
            answer = await publisher.publish(self.topic, self.offered[cmid], cmid, wait="sequenced")
            assert answer.status == 200, f"a retry after the restart: {answer}"
            self.acked[cmid] = answer.body["message_id"]
        return len(unknown)

    async def _turn(self, publisher: Publisher, size: int) -> None:
        numbers = [next(self._numbers) for _ in range(size)]
        items = [{"topic_id": self.topic, "payload": n, "client_msg_id": f"{self.topic}-{n}"} for n in numbers]
        self.offered |= {str(item["client_msg_id"]): n for item, n in zip(items, numbers, strict=True)}
        if size == 1:
            answer = await publisher.publish(self.topic, numbers[0], str(items[0]["client_msg_id"]))
            results = [answer.body | {"status": answer.status}]
        else:
            results = await publisher.batch(items)
        for item, result in zip(items, results, strict=True):
            assert result["status"] == 200, f"dev refused a publish: {result}"
            self.acked[str(item["client_msg_id"])] = result["message_id"]


async def test_every_publish_answered_200_survives_kill_9_and_is_in_history_once(
    stage: Stage, figures: Figures
) -> None:
    dev = stage.dev(data=True, auth__mode="open")
    workers = [Worker(number) for number in range(WORKERS)]
    recovered = []
    for _ in range(ROUNDS):
        dev.start()
        await dev.ready()
        before = sum(len(worker.acked) for worker in workers)
        tasks = [asyncio.create_task(worker.run(dev.url)) for worker in workers]

        def published(enough: int = before + 1_500) -> bool:
            return sum(len(worker.acked) for worker in workers) >= enough

        await until("1,500 publishes are answered", published, 60, 0.005)
        dev.kill9()
        await asyncio.gather(*tasks)
        recovered.append(sum(len(worker.acked) for worker in workers) - before)
    acked = [dict(worker.acked) for worker in workers]
    dev.start()
    restart = await dev.ready()
    async with Publisher(dev.url) as publisher:
        for worker, known in zip(workers, acked, strict=True):
            history = await publisher.history(worker.topic)
            ledger.dense(worker.topic, [m["seq"] for m in history])
            ledger.acknowledged_once(worker.topic, known, history)
            names = [f"{worker.topic}-{m['payload']}" for m in history]
            ledger.nothing_invented(worker.topic, set(worker.offered), names)
            numbers = [m["payload"] for m in history]
            answered = set(known)
            ledger.rising(worker.topic, [n for n, name in zip(numbers, names, strict=True) if name in answered])
        unknown = sum([await worker.retry(publisher) for worker in workers])
        for worker in workers:
            history = await publisher.history(worker.topic)
            ledger.dense(worker.topic, [m["seq"] for m in history])
            ledger.acknowledged_once(worker.topic, worker.acked, history)
            assert len(history) == len(worker.offered), "P2: a retry under the same id makes no second message"
    figures.say(
        f"{ROUNDS} kills of `headgate dev --data`, {WORKERS} publishers: {sum(map(len, acked))} answered 200 "
        f"({'+'.join(map(str, recovered))}), all in history once; {unknown} unanswered ones retried: one seq each; "
        f"ready {restart:.1f} s after the start"
    )
