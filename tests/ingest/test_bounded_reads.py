"""ingest.bounded_reads: so many requests of a kind are answered at once; one more costs its caller nothing."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller
from headgate.runtime.http.call import Call, Reply
from ingest import bounded_reads
from ingest.alias_endpoints import AliasEndpoints
from ingest.bounded_reads import BoundedReads
from ingest.history import HistoryEndpoint
from ingest.inbox_endpoints import InboxEndpoints
from ingest.inbox_marks import InboxMarks
from ingest.rates import RateLimits
from ingest.user_turns import UserTurns
from tests.ingest.parts import ANA, Parts, call, play

BO = Caller("bo")


def test_one_more_than_there_is_room_for_costs_no_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_reads, "MAX_READS", 2)

    async def scene(parts: Parts) -> None:
        reads = BoundedReads("inboxes", parts.rates, parts.shell.rng)
        with reads.one(ANA), reads.one(ANA):
            for _ in range(10):
                with pytest.raises(Refusal) as full, reads.one(BO):
                    pass
                assert full.value.code == "overloaded" and 1 <= (full.value.retry_after_ms or 0) <= 5_000
            with pytest.raises(Refusal, match="rate_limited"), reads.one(ANA):
                pass
        assert len(reads) == 0
        for _ in range(2):
            with reads.one(BO):
                pass
        with pytest.raises(Refusal, match="rate_limited"), reads.one(BO):
            pass
        assert len(reads) == 0

    play(scene, RateLimits(reads_per_user_per_min=2))


def test_requests_that_wait_for_an_owner_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_reads, "MAX_READS", 1)

    async def scene(parts: Parts) -> None:
        reads = BoundedReads("inboxes", parts.rates, parts.shell.rng)
        marks = InboxMarks(parts.owners, parts.messages)
        inbox = InboxEndpoints(parts.owners, marks, reads, parts.clock, UserTurns())
        aliases = AliasEndpoints(None, None, None, marks, reads)  # type: ignore[arg-type]  # for its acknowledgements
        monkeypatch.setattr(parts.directory, "ask", lambda *_: asyncio.get_running_loop().create_future())
        mark = {"topic_id": "t", "seq": 1}
        requests: list[tuple[Callable[[Call], Awaitable[Reply]], Call]] = [
            (inbox.listed, call()),
            (inbox.missed, call()),
            (inbox.ack, call(mark)),
            (aliases.ack, call({"message_id": "00000000-0000-8000-8000-000000000000"})),
        ]
        for handler, asked in requests:
            waiting = asyncio.ensure_future(handler(asked))
            await asyncio.sleep(0.1)
            for other, request in requests:
                with pytest.raises(Refusal, match="overloaded"):
                    await other(request._replace(caller=BO))
            with pytest.raises(Refusal, match="not_ready"):  # its owner says nothing
                await waiting
        assert len(reads) == 0

    play(scene)


def test_requests_for_history_are_bounded_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_reads, "MAX_READS", 1)

    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        reads = BoundedReads("history", parts.rates, parts.shell.rng)
        endpoint = HistoryEndpoint(parts.access, parts.owners, reads, parts.shell)
        monkeypatch.setattr(parts.directory, "ask", lambda *_: asyncio.get_running_loop().create_future())
        asked = call()._replace(path_parameters={"topic_id": "t"})
        waiting = asyncio.ensure_future(endpoint.page(asked))
        await asyncio.sleep(0.1)
        with pytest.raises(Refusal, match="overloaded: too many requests about history"):
            await endpoint.page(asked._replace(caller=BO))
        with pytest.raises(Refusal, match="not_ready"):  # its owner says nothing
            await waiting
        assert len(reads) == 0

    play(scene)
