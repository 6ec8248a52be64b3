"""One contract suite over both directories: over links, and in memory."""

import asyncio
from collections.abc import Callable

import pytest

from headgate.core.wire import link, link_hello
from headgate.core.wire.errors import Refusal
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.memory_directory import MemoryDirectory
from headgate.runtime.links.memory_link import memory_link
from headgate.runtime.links.port import Directory

SHARDS = 4


class User:
    """Notes the news of a directory."""

    def __init__(self) -> None:
        self.pushed: list[tuple[int, link.Message]] = []
        self.owners: list[tuple[int, bool]] = []

    def on_push(self, shard_epoch: int, message: link.Message) -> None:
        self.pushed.append((shard_epoch, message))

    def on_owner(self, shard: int, up: bool) -> None:
        self.owners.append((shard, up))


class Rig:
    """A directory whose owners count topics, and refuse to count `refuse`."""

    def __init__(self) -> None:
        self.user = User()
        self.heard: list[link.Message] = []
        self.directory: Directory

    def answer(self, request: link.Request) -> link.Answer:
        assert isinstance(request, link.AskCount)
        if "refuse" in request.topic_ids:
            return link.Refused(request.req, "forbidden", "no")
        return link.Counts(request.req, [len(request.topic_ids)])

    def push(self, message: link.Message) -> None:
        raise NotImplementedError

    def lose(self) -> None:
        raise NotImplementedError


class OverLinks(Rig):
    """One dispatcher at the far end of a link owns every shard under epoch 1."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = directory = LinkDirectory("gateway", "g")
        directory.deliver_to(self.user)
        near, self._far = memory_link("g", "d")
        self._far.deliver_to(self._take)
        directory.add(near)
        owners = [link_hello.Owner(shard, 1, "d:1", True) for shard in range(SHARDS)]
        self._far.send(link_hello.Welcome(link.VERSION_HIGH, "d", "c", 1, SHARDS, owners))

    def _take(self, messages: list[link.Message]) -> None:
        for message in messages:
            if isinstance(message, link.AskCount):
                self._far.send(self.answer(message))
            elif not isinstance(message, link_hello.Hello):
                self.heard.append(message)

    def push(self, message: link.Message) -> None:
        self._far.send(message)

    def lose(self) -> None:
        self._far.close("gone")


class InMemory(Rig):
    def __init__(self) -> None:
        super().__init__()
        self.directory = self._memory = MemoryDirectory(SHARDS, self.answer, self.heard.append)
        self._memory.deliver_to(self.user)
        self._memory.regain_owners()

    def push(self, message: link.Message) -> None:
        self._memory.push(message)

    def lose(self) -> None:
        self._memory.lose_owners()


RIGS = pytest.mark.parametrize("make", [OverLinks, InMemory])


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def ready(make: Callable[[], Rig]) -> Rig:
    rig = make()
    await settle()
    return rig


@RIGS
async def test_every_shard_has_its_owner(make: Callable[[], Rig]) -> None:
    rig = await ready(make)
    assert rig.directory.shards == SHARDS
    assert rig.directory.missing() is None
    assert all(rig.directory.linked(shard) for shard in range(SHARDS))
    assert rig.user.owners == [(shard, True) for shard in range(SHARDS)]
    assert {rig.directory.shard_of(f"t{n}") for n in range(100)} == set(range(SHARDS))


@RIGS
async def test_a_request_is_answered_once_with_its_number(make: Callable[[], Rig]) -> None:
    rig = await ready(make)
    answers: list[link.Answer] = []
    for topics in (["a"], ["a", "b"]):
        rig.directory.request(0, lambda req, topics=topics: link.AskCount(req, 0, topics), answers.append)  # type: ignore[misc]
    await settle()
    assert answers == [link.Counts(1, [1]), link.Counts(2, [2])]


@RIGS
async def test_a_refused_answer_raises_where_a_future_was_asked_for(make: Callable[[], Rig]) -> None:
    rig = await ready(make)
    assert await rig.directory.ask(1, lambda req: link.AskCount(req, 1, ["a"])) == link.Counts(1, [1])
    with pytest.raises(Refusal, match="no") as refused:
        await rig.directory.ask(1, lambda req: link.AskCount(req, 1, ["refuse"]))
    assert refused.value.code == "forbidden"


@RIGS
async def test_messages_and_pushes_arrive(make: Callable[[], Rig]) -> None:
    rig = await ready(make)
    rig.directory.send(2, link.Leave("t", 7, 1))
    rig.push(link.Changed("t"))
    await settle()
    assert rig.heard == [link.Leave("t", 7, 1)]
    assert rig.user.pushed == [(1, link.Changed("t"))]


@RIGS
async def test_without_owners_requests_are_refused_and_messages_dropped(make: Callable[[], Rig]) -> None:
    rig = await ready(make)
    rig.lose()
    await settle()
    assert rig.user.owners[SHARDS:] == [(shard, False) for shard in range(SHARDS)]
    assert rig.directory.missing() is not None
    assert not rig.directory.linked(0)
    rig.directory.send(0, link.Leave("t", 7, 1))
    with pytest.raises(Refusal, match="away") as refused:
        await rig.directory.ask(0, lambda req: link.AskCount(req, 0, ["a"]))
    assert (refused.value.code, rig.heard) == ("not_ready", [])
