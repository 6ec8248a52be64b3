"""The run `writes`: what a deployment takes for ten minutes, with bursts, and what it delivers meanwhile."""

from collections import Counter
from typing import Final

from bench.crowd import Crowd, Report
from bench.latency import quantile
from bench.slo.place import RATES, Place, dues, open_loop, progress
from bench.slo.rows import Found

TOPICS: Final = 200
FOLLOWED: Final = 20  # of the topics, by ten sockets each: as many deliveries as writes
BATCH: Final = 20
STEADY, BURST, BURST_S, EVERY_S = 6_000, 10_000, 5.0, 60.0
LATE_S: Final = 90.0  # for the last answers: where the rate is too high the figure says so, not the run
VALUE: Final = "x" * 960  # 1 KB with what is around it


async def writes(place: Place) -> list[Found]:
    """6,000 messages of 1 KB a second for ten minutes, 10,000 a second in 5 s of each; as many deliveries meanwhile."""
    topics = [f"writes-{n}" for n in range(TOPICS)]
    for topic in topics:
        answer = await place.admin.create(topic, settings=RATES)
        assert answer.status == 201, answer
    minutes = max(1, round(10 * place.scale))
    length = EVERY_S if place.scale >= 1 else max(2 * BURST_S, EVERY_S * place.scale)
    parts = [(STEADY / BATCH, length - BURST_S), (BURST / BATCH, BURST_S)] * minutes
    sent, refused = Counter[str](), Counter[str]()

    async def one(n: int, due: float) -> None:
        names = [topics[(n * BATCH + i) % TOPICS] for i in range(BATCH)]
        results = await place.admin.batch([{"topic_id": name, "payload": {"at": due, "v": VALUE}} for name in names])
        for name, result in zip(names, results, strict=True):
            if result["status"] == 200:
                sent[name] += 1
            else:
                refused[str(result.get("code", result["status"]))] += 1

    async with Crowd(place.gateways, 1) as crowd:
        for topic in topics[:FOLLOWED]:
            await crowd.open(topic, [f"{topic}-{n}" for n in range(TOPICS // FOLLOWED)])
        due = dues(*parts)
        took = await open_loop("writes", due, one, LATE_S)
        late = await _checked(place, crowd, topics, sent, refused.total())
    steady, bursts = splits(took, due, length)
    seconds = max(at + ms / 1_000 for ms, at in zip(took, due, strict=True))
    taken, offered = sent.total(), BATCH * len(due) / (length * minutes)
    each = f"batches of {BATCH}, {taken:,} messages of 1 KB in {length * minutes:.0f} s, {offered:,.0f}/s on average"
    each += f"; refused: {dict(refused)}" if refused.total() else "; none refused"
    answered = f"answered p95 {quantile(steady, 0.95):.0f} ms, in bursts of {BURST:,}/s {quantile(bursts, 0.95):.0f} ms"
    scale = f"{each}; {answered}; all answered after {seconds:.1f} s, every topic's number checked"
    return [
        Found("writes_per_s", round(taken / seconds), scale),
        Found("burst_p95", round(quantile(bursts, 0.95), 1), f"{minutes} bursts of {BURST_S:g} s; {each}"),
        Found("reads_per_s", round(late.late.total() / seconds), f"beside these writes: {late}"),
    ]


async def _checked(place: Place, crowd: Crowd, topics: list[str], sent: Counter[str], refused: int) -> Report:
    """Every message has its number, and every follower had every message. Raises AssertionError, SystemExit.

    One that was answered 504 may have a number.
    """
    late, seqs = Report([]), dict[str, int]()
    progress("checking every topic's number and every follower")
    for topic in topics:
        seqs[topic] = await place.seq(topic, sent[topic])
    more = sum(seqs.values()) - sent.total()
    assert 0 <= more <= refused, f"{more} messages have a number beside {sent.total()}; {refused} were refused"
    for topic in topics[:FOLLOWED]:
        late += await crowd.report(topic, seqs[topic])
    wanted = sum(seqs[topic] for topic in topics[:FOLLOWED]) * (TOPICS // FOLLOWED)
    assert late.late.total() == wanted, f"{late.late.total()} deliveries of {wanted}"
    return late


def splits(took: list[float], due: list[float], length: float) -> tuple[list[float], list[float]]:
    """Returns the milliseconds of the steady parts and those of the bursts."""
    parts: tuple[list[float], list[float]] = [], []
    for ms, at in zip(took, due, strict=True):
        parts[at % length >= length - BURST_S].append(ms)
    return parts
