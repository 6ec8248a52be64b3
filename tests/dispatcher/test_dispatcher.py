"""The registry and router of a node, without a log: who is told what, and which request goes where."""

from collections.abc import Callable

import pytest

from dispatcher.dispatcher import Cluster, Dispatcher
from headgate.core.wire import link, link_hello
from headgate.core.wire.link_acks import AttachCursors, CursorsMoved, MoveCursors, OpenCursor, ReleaseCursor
from headgate.core.wire.link_messages import AskMessage
from headgate.core.wire.rights import Caller
from headgate.runtime.links.memory_link import MemoryLink, memory_link
from tests.dispatcher.bed import configured_shard, dispatcher_of, owner_of, shell_of, until

ANN = Caller("ann")


class Far:
    """The far end of a link to a dispatcher."""

    def __init__(self, dispatcher: Dispatcher, role: str | None = "gateway") -> None:
        self.wire: MemoryLink
        self.wire, near = memory_link()
        self.got: list[link.Message] = []
        self.reasons: list[str] = []
        self.wire.deliver_to(self.got.extend, self.reasons.append)
        self.peer = dispatcher.accept(near)
        if role is not None:
            self.wire.send(link_hello.Hello(1, 1, role, f"far-{role}", "", 0))

    async def answer(self) -> link.Message:
        await until(lambda: self.got)
        return self.got.pop(0)

    async def reason(self) -> str:
        await until(lambda: self.reasons)
        return self.reasons[0]


def a_dispatcher() -> Dispatcher:
    dispatcher = dispatcher_of(shell_of())
    dispatcher.log_was_read(Cluster("c", 3, 1))
    return dispatcher


async def test_a_hello_gets_the_cluster_and_the_owners() -> None:
    dispatcher = a_dispatcher()
    dispatcher.serve(owner_of(configured_shard()))
    dispatcher.claimed(link_hello.Owner(1, 9, "other:1"))
    dispatcher.claimed(link_hello.Owner(0, 1, "n:1"))
    far = Far(dispatcher)
    owners = [link_hello.Owner(0, 1, "n:1", True), link_hello.Owner(1, 9, "other:1")]
    assert await far.answer() == link_hello.Welcome(1, "n", "c", 3, 1, owners)
    assert await dispatcher.next_peer() is far.peer


async def test_before_the_log_was_read_a_hello_gets_no_cluster() -> None:
    far = Far(dispatcher_of(shell_of()))
    assert await far.answer() == link_hello.Welcome(1, "n", "", 0, 1, [])


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (link_hello.Hello(3, 9, "gateway", "g", "", 0), "link versions 3-9 here 1-2"),
        (link_hello.Hello(0, 0, "gateway", "g", "", 0), "link versions 0-0 here 1-2"),
        (link_hello.Hello(1, 1, "gateway", "g", "x", 0), "cluster x here c"),
        (link_hello.Hello(1, 1, "gateway", "g", "c", 4), "log generation 4 here 3"),
    ],
)
async def test_a_hello_of_another_version_or_log_ends_the_link(hello: link_hello.Hello, reason: str) -> None:
    dispatcher = a_dispatcher()
    far = Far(dispatcher, None)
    far.wire.send(hello)
    assert await far.reason() == reason
    assert dispatcher.peers == {}


async def test_a_link_begins_with_hello() -> None:
    far = Far(a_dispatcher(), None)
    far.wire.send(link.AskCount(1, 0, []))
    assert await far.reason() == "a link begins with HELLO"


async def test_a_question_about_a_message_goes_to_the_shard_that_it_names() -> None:
    """Its topic may be unknown: then the message's id named the shard."""
    dispatcher = dispatcher_of(shell_of())
    dispatcher.log_was_read(Cluster("c", 3, 8))
    far = Far(dispatcher)
    await far.answer()
    for shard in range(8):
        far.wire.send(AskMessage(shard, shard, "", ANN, bytes(16), "read"))
        assert await far.answer() == link.Refused(shard, "not_ready", f"shard {shard} is not served here now")


async def test_a_request_for_a_shard_that_is_not_served_is_refused() -> None:
    dispatcher = a_dispatcher()
    far = Far(dispatcher)
    await far.answer()
    far.wire.send(link.AskTopic(5, "t", ANN))
    assert await far.answer() == link.Refused(5, "not_ready", "shard 0 is not served here now")
    dispatcher.serve(owner_of(configured_shard()))
    assert await far.answer() == link_hello.Owners([link_hello.Owner(0, 1, "n:1", True)])
    far.wire.send(link.AskTopic(6, "t", ANN))
    answer = await far.answer()
    assert isinstance(answer, link.Refused)
    assert (answer.req, answer.code) == (6, "topic_not_found")


async def test_messages_about_cursors_go_to_the_shard_of_their_user(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher = a_dispatcher()
    far = Far(dispatcher)
    await far.answer()
    messages: list[link.Message] = [
        OpenCursor(5, "ann", "d", "t"),
        MoveCursors(6, 0, []),
        AttachCursors(0, True, True, []),
    ]
    messages.append(ReleaseCursor("ann", "d", "t", "c"))
    for message in messages:
        far.wire.send(message)
    assert [await far.answer() for _ in range(2)] == [
        link.Refused(req, "not_ready", "shard 0 is not served here now") for req in (5, 6)
    ]
    dispatcher.serve(owner_of(configured_shard()))
    await far.answer()
    waiting: list[Callable[[], None]] = []

    def later(again: Callable[[], None]) -> bool:
        waiting.append(again)
        return len(waiting) <= 2

    monkeypatch.setattr(far.peer, "must_wait", lambda *, large: True)
    monkeypatch.setattr(far.peer, "later", later)
    for message in messages[:2] * 2:
        far.wire.send(message)
    refused = [await far.answer() for _ in range(2)]
    assert [(answer.req, answer.code) for answer in refused if isinstance(answer, link.Refused)] == [
        (5, "overloaded"), (6, "overloaded"),
    ]  # fmt: skip
    waiting[1]()
    assert await far.answer() == CursorsMoved(6)
    dispatcher.stop_serving(0)
    await far.answer()
    waiting[0]()
    assert await far.answer() == link.Refused(5, "not_ready", "shard 0 is not served here now")


async def test_a_shard_that_is_released_is_announced_and_answers_nothing_more() -> None:
    dispatcher = a_dispatcher()
    owner = owner_of(configured_shard())
    dispatcher.serve(owner)
    far = Far(dispatcher)
    await far.answer()
    api = dispatcher.api(0)
    assert api is not None
    dispatcher.stop_serving(0)
    assert await far.answer() == link_hello.Owners([link_hello.Owner(0, 0, "n:1", True)])
    assert (owner.closed, dispatcher.api(0), dispatcher.owners) == (True, None, {})
    api.handle(far.peer, link.AskTopic(5, "t", ANN))  # a request that waited for room meanwhile
    assert await far.answer() == link.Refused(5, "not_ready", "shard 0 was given up")


async def test_a_refused_shard_is_evidence_of_a_newer_owner() -> None:
    dispatcher = a_dispatcher()
    far = Far(dispatcher)
    far.wire.send(link_hello.Refuse(0, 77))
    await until(dispatcher.newer_epochs.changed.is_set)
    assert dispatcher.newer_epochs.of(0) == 77


async def test_only_claims_of_other_nodes_are_announced() -> None:
    dispatcher = a_dispatcher()
    far = Far(dispatcher)
    await far.answer()
    dispatcher.claimed(link_hello.Owner(0, 8, "n:1"))
    dispatcher.claimed(link_hello.Owner(0, 9, "other:1"))
    assert await far.answer() == link_hello.Owners([link_hello.Owner(0, 9, "other:1")])
    assert far.got == []


async def test_claims_of_known_processes_are_announced_together_one_for_each_address() -> None:
    dispatcher = a_dispatcher()
    far = Far(dispatcher)
    await far.answer()
    for shard in range(3):
        dispatcher.claimed(link_hello.Owner(shard, 8 + shard, "other:1"), is_known=True)
    dispatcher.claimed(link_hello.Owner(3, 20, "third:1"), is_known=True)
    dispatcher.claimed(link_hello.Owner(4, 21, "new:1"))
    hints = [link_hello.Owner(2, 10, "other:1"), link_hello.Owner(3, 20, "third:1")]
    assert [await far.answer(), await far.answer()] == [
        link_hello.Owners([link_hello.Owner(4, 21, "new:1")]),
        link_hello.Owners(hints),
    ]
    assert far.got == []
    dispatcher.claimed(link_hello.Owner(0, 30, "other:1"), is_known=True)
    assert await far.answer() == link_hello.Owners([link_hello.Owner(0, 30, "other:1")])


async def test_a_welcome_names_each_other_address_once() -> None:
    dispatcher = a_dispatcher()
    for shard in range(3):
        dispatcher.claimed(link_hello.Owner(shard, 8 + shard, "other:1"))
    welcome = await Far(dispatcher).answer()
    assert isinstance(welcome, link_hello.Welcome)
    assert welcome.owners == [link_hello.Owner(2, 10, "other:1")]


async def test_a_changed_topic_is_told_to_ingests_alone() -> None:
    dispatcher = a_dispatcher()
    gateway, ingest = Far(dispatcher), Far(dispatcher, "ingest")
    await gateway.answer()
    await ingest.answer()
    dispatcher.topic_changed("t")
    assert await ingest.answer() == link.Changed("t")
    assert gateway.got == []


async def test_a_closed_link_leaves_no_route_behind() -> None:
    dispatcher = a_dispatcher()
    owner = owner_of(configured_shard())
    dispatcher.serve(owner)
    far = Far(dispatcher)
    await far.answer()
    owner.routes.add(far.peer, "t", 1, 0)
    far.wire.close("bye")
    await until(lambda: not dispatcher.peers)
    assert (owner.routes.count("t"), far.peer.open) == (0, False)
