"""A crowd that comes back at once: what the members of `bench.herd` notice, and what production services do for them.

The services run in virtual time, with a rate of reads that is low enough to be felt.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from bench.returning_members import Herd, Polls, come_back
from headgate.core.wire.rights import Caller
from ingest.rates import RateLimits
from tests.contract.virtual import VirtualLoop, run
from tests.e2e.http import HttpAnswer, NoAnswer
from tests.integration.rates_bed import Answered, Cluster, play

TOPIC, MESSAGES, LIMIT, READS = "crowd", 20, 5, 3
MEMBERS, HOT_ENTER = 60, 50
SERVICE = Caller("root", admin=True, service=True)
OTHER = Caller("other", service=True)
PATIENCE_S = 600.0
UNHURT_S = 0.1
# The inbox, four pages and three acknowledgements come before the last message; READS of them at once.
LAST_AFTER_S = (8 - READS) * 60 / READS


def herd(*users: str, reads_per_min: float = READS) -> Herd:
    return Herd("", TOPIC, list(users), MESSAGES, LIMIT, reads_per_min)


# -- what a member notices


class ScriptedInbox:
    """Answers as an inbox with these messages does; `refusals` come first, one a request."""

    def __init__(self, *seqs: int, refusals: Sequence[HttpAnswer | Exception] = (), unread: int = MESSAGES) -> None:
        self.seqs = seqs
        self.acked = 0
        self.refusals = list(refusals)
        self.unread = unread
        self.asked: list[float] = []

    async def __call__(self, method: str, target: str, body: bytes | None) -> HttpAnswer:
        self.asked.append(asyncio.get_running_loop().time())
        if self.refusals:
            refusal = self.refusals.pop(0)
            if isinstance(refusal, Exception):
                raise refusal
            return refusal
        if method == "POST":
            self.acked = msgspec.json.decode(body or b"")["seq"]
            return HttpAnswer(204, {}, b"")
        if "/messages" not in target:
            topics = [{"topic_id": TOPIC, "mode": "inbox", "unread": self.unread}]
            return HttpAnswer(200, {}, msgspec.json.encode({"topics": topics}))
        left = self.seqs[self.acked :]
        frames = [{"topic_id": TOPIC, "seq": seq, "payload": {"n": seq}} for seq in left[:LIMIT]]
        return HttpAnswer(200, {}, msgspec.json.encode({"messages": frames, "more": len(left) > LIMIT}))


def refused(status: int, code: str, **headers: str) -> HttpAnswer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpAnswer(status, named, msgspec.json.encode({"code": code}))


def alone(inbox: ScriptedInbox, reads_per_min: float = 600) -> Polls:
    return run(VirtualLoop(), come_back(herd("ana", reads_per_min=reads_per_min), lambda user: inbox, PATIENCE_S))


ALL = tuple(range(1, MESSAGES + 1))


def test_a_member_reads_page_after_page_and_once_more() -> None:
    inbox = ScriptedInbox(*ALL)
    polls = alone(inbox)
    assert (polls.faults, polls.refused, polls.had_ms) == ([], {}, {0: 1})
    assert (sum(polls.page_ms.values()), sum(polls.other_ms.values()), inbox.acked) == (5, 5, MESSAGES)


@pytest.mark.parametrize(
    ("seqs", "fault"),
    [
        ((*ALL[:7], *ALL[8:]), "('crowd', 9) instead of ('crowd', 8): something is missing"),
        (ALL[:-1], "nothing is left behind message 19 of 20"),
        ((*ALL[:3], 3, *ALL[3:]), "('crowd', 3) instead of ('crowd', 4): a repeat or out of order"),
        ((*ALL, 20), "('crowd', 20) instead of ('crowd', 21): a repeat or out of order"),
        ((1, 2, 4, 3, *ALL[4:]), "('crowd', 4) instead of ('crowd', 3): something is missing"),
    ],
)
def test_a_message_that_is_missing_repeated_or_out_of_order_is_a_fault(seqs: tuple[int, ...], fault: str) -> None:
    assert alone(ScriptedInbox(*seqs)).faults == [f"ana: {fault}"]


def test_a_wrong_number_of_unread_messages_is_a_fault() -> None:
    (fault,) = alone(ScriptedInbox(*ALL, unread=MESSAGES - 1)).faults
    assert fault.startswith("ana: the inbox says [('inbox', 19)]")


def test_more_answers_than_the_rate_allows_are_a_fault() -> None:
    (fault,) = alone(ScriptedInbox(*ALL), reads_per_min=8).faults
    assert fault == "ana: 10 reads were answered in 0.0 s, 9.0 are allowed"
    assert alone(ScriptedInbox(*ALL), reads_per_min=9).faults == []


def test_a_member_waits_as_long_as_it_is_told() -> None:
    inbox = ScriptedInbox(
        *ALL,
        refusals=[
            refused(429, "rate_limited", retry_after="20"),
            refused(429, "rate_limited", retry_after="7"),
            refused(503, "overloaded", retry_after="2"),
            NoAnswer("reset"),
        ],
    )
    polls = alone(inbox)
    waits = [after - before for before, after in zip(inbox.asked, inbox.asked[1:5], strict=False)]
    assert waits[:3] == [20, 7, 2] and 0 <= waits[3] <= 1
    assert polls.refused == {"rate_limited": 2, "overloaded": 1}
    assert (polls.too_early, polls.unanswered, polls.without_wait, polls.faults) == (1, 1, 0, [])


def test_a_refusal_must_say_for_how_long() -> None:
    silent = [refused(429, "rate_limited"), refused(503, "not_ready"), refused(504, "outcome_unknown")]
    assert alone(ScriptedInbox(*ALL, refusals=silent)).without_wait == 2
    (fault,) = alone(ScriptedInbox(*ALL, refusals=[refused(404, "topic_not_found")])).faults
    assert "404" in fault


def test_a_member_that_is_not_done_in_time_is_a_fault() -> None:
    inbox = ScriptedInbox(*ALL, refusals=[refused(503, "overloaded", retry_after="60")] * 11)
    assert alone(inbox).faults == ["ana: message 0 of 20 after 600 s"]


def test_what_several_processes_saw_is_added() -> None:
    one = Polls({1: 2}, {3: 4}, {"overloaded": 1}, {5: 6}, 1, 2, 3, 0.5, ["a"])
    both = one + Polls({1: 1, 2: 1}, {}, {"rate_limited": 1}, {7: 1}, 1, 1, 1, 1.0, ["b"])
    assert both == Polls(
        {1: 3, 2: 1}, {3: 4}, {"overloaded": 1, "rate_limited": 1}, {5: 6, 7: 1}, 2, 3, 4, 1.5, ["a", "b"]
    )


# -- what production services do


def heard(answer: Answered) -> HttpAnswer:
    headers = {name.decode(): value.decode() for name, value in answer.headers.items()}
    return HttpAnswer(answer.status, headers, b"" if answer.body is None else msgspec.json.encode(answer.body))


async def called(cluster: Cluster, method: str, path: str, body: Any = None, caller: Caller = SERVICE) -> Any:
    answer = await cluster.call(0, method, path, body, caller)
    assert answer.status in (200, 201), answer
    return answer.body


async def filled(cluster: Cluster, users: list[str]) -> None:
    """Makes a topic of so many members that it is an inbox, with messages that all of them miss."""
    await cluster.create(TOPIC, SERVICE, hot_enter=HOT_ENTER, hot_exit=HOT_ENTER * 4 // 5)
    for user in users:
        await called(cluster, "PUT", f"/api/v1/topics/{TOPIC}/members/{user}", {"role": "member"})
    async with asyncio.timeout(60):
        while (await called(cluster, "GET", f"/api/v1/topics/{TOPIC}"))["mode"] != "inbox":
            await asyncio.sleep(0.5)
    items = [{"payload": {"n": n}} for n in ALL]
    for item in items[:LIMIT]:
        await called(cluster, "POST", f"/api/v1/topics/{TOPIC}/publish", item)
    await called(cluster, "POST", f"/api/v1/topics/{TOPIC}/publish/batch", items[LIMIT:])
    await asyncio.sleep(2)  # virtual: the pointers are written


async def others(cluster: Cluster) -> list[float]:
    """Publishes to a plain topic and reads it until cancelled; returns the seconds that each answer took."""
    took = []
    try:
        while True:
            for method, path, body in (("POST", "/publish", {"payload": 1}), ("GET", "", None)):
                asked = cluster.clock.now()
                await called(cluster, method, f"/api/v1/topics/plain{path}", body, OTHER)
                took.append(cluster.clock.now() - asked)
            await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        return took


def test_a_crowd_that_comes_back_at_once_gets_all_within_its_rate_and_others_do_not_wait() -> None:
    users = [f"user-{n}" for n in range(MEMBERS)]

    async def scene(cluster: Cluster) -> None:
        await filled(cluster, users)
        await cluster.create("plain", OTHER)
        beside = asyncio.create_task(others(cluster))

        def ask_as(user: str) -> Any:
            async def ask(method: str, target: str, body: bytes | None) -> HttpAnswer:
                asked = None if body is None else msgspec.json.decode(body)
                return heard(await cluster.call(0, method, target, asked, Caller(user)))

            return ask

        polls = await come_back(herd(*users), ask_as, PATIENCE_S)
        beside.cancel()
        took = await beside
        assert polls.faults == []
        assert sum(polls.had_ms.values()) == MEMBERS
        assert LAST_AFTER_S - 1 < max(polls.had_ms) / 1_000 < LAST_AFTER_S + 10
        assert list(polls.refused) == ["rate_limited"]
        assert polls.refused["rate_limited"] >= MEMBERS * (10 - READS)
        assert (polls.without_wait, polls.too_early) == (0, 0)
        assert len(took) > LAST_AFTER_S and max(took) < UNHURT_S

    play(scene, 1, limits=RateLimits(1e9, 100, 1e9, READS))
