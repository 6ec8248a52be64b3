"""What a peer sends that it should not: a dispatcher answers, refuses or ends that link, and never more than that."""

import asyncio

import pytest

from headgate.core.wire import link, link_ephemeral, link_hello, link_members
from headgate.core.wire.control import CreateTopic, encode_body
from headgate.core.wire.errors import Refusal
from headgate.core.wire.position import Position
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Verdict
from headgate.runtime.testing.encoded_link import encoded_link
from tests.dispatcher.test_links_and_requests import Bed, running


async def until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def private(bed: Bed) -> Verdict:
    control = CreateTopic(topic_id="p", name="p", permissions="PRIVATE", owner_id="ann")
    return await bed.control("p", encode_body(control))


@pytest.mark.parametrize(
    ("caller", "code"),
    [
        (Caller("ann"), None),
        (Caller("bob", subscribe=("p*",)), None),
        (Caller("bob"), "topic_not_found"),
        (Caller("bob", publish=("p",)), "forbidden"),
        (Caller("ann", only=True), "topic_not_found"),
    ],
)
async def test_a_live_subscription_is_authorised_again_by_the_owner(caller: Caller, code: str | None) -> None:
    async with running() as bed:
        epoch = (await private(bed)).epoch
        shard = bed.directory.shard_of("p")
        ask = bed.directory.ask(shard, lambda req: link_members.Authorize(req, "p", epoch, caller))
        if code is None:
            assert isinstance(await ask, link_members.Authorized)
        else:
            with pytest.raises(Refusal, match=code):
                await ask
        with pytest.raises(Refusal, match="topic_not_found"):  # a topic of that name, and not the one that is followed
            await bed.directory.ask(shard, lambda req: link_members.Authorize(req, "p", epoch + 1, Caller("ann")))


async def test_a_link_speaks_for_the_role_it_was_opened_in() -> None:
    async with running() as bed:
        near, far = encoded_link()
        far.role = "ingest"
        reasons: list[str] = []
        near.deliver_to(on_close=reasons.append)
        bed.service.accept(far)
        near.send(link_hello.Hello(1, 1, "gateway", "g9", "", 0))
        await until(lambda: reasons)
        assert reasons == ["a link that was opened as ingest says that it is gateway"]


@pytest.mark.parametrize(
    "odd",
    [
        link.AskCount(5, -1, ["t"]),
        link.AskCount(5, 1 << 60, ["t"]),
        link.AskVerdict(5, 0, -(1 << 60)),
        link.AskTopics(5, 0, Caller(""), "\x00", "", -5),
        link.AskTopic(5, "", Caller("ann")),
        link.AskTopic(5, "x" * 100_000, Caller("ann")),
        link.AskHistory(5, "t", Caller("ann"), -(1 << 62), 1 << 62, -7, -1),
        link.Fetch(5, "t", -1, -1, -1, -1),
        link.AskSubscribe(5, "t\n", Caller("ann"), Position("no such form", -1, -1), True),
        link_ephemeral.Relay(5, "t", 0, b"\xff"),
        link.TopicsAnswer(5, []),
        link.Refused(5, "no such code", "x"),
        link_members.Authorized(5),
    ],
    ids=repr,
)
async def test_an_odd_message_costs_neither_its_link_nor_its_neighbours(odd: link.Message) -> None:
    async with running() as bed:
        await bed.create("t")
        near, far = encoded_link()
        got: list[link.Message] = []
        reasons: list[str] = []
        near.deliver_to(got.extend, reasons.append)
        bed.service.accept(far)
        near.send(link_hello.Hello(1, 1, "gateway", "g9", "", 0))
        near.send(odd)
        near.send(link.AskTopic(6, "t", Caller("ann")))
        await until(lambda: any(isinstance(m, link.TopicAnswer) for m in got))
        assert reasons == []
        assert (await bed.subscribe("t")).seq == 0, "others go on"


@pytest.mark.parametrize(
    "odd", [link.Attach(0, True, True, [link.AttachTopic("t", -1, -1, -1)]), link.Leave("t", 0, 1 << 40),
            link_hello.Refuse(-1, 1 << 62), link.Changed("t"), link_hello.Owners([link_hello.Owner(99, 1, "x", True)]),
            link_hello.Welcome(1, "d", "c", 1, 0, [])],
    ids=repr,
)  # fmt: skip
async def test_an_odd_message_without_an_answer_is_passed_over(odd: link.Message) -> None:
    async with running() as bed:
        await bed.create("t")
        near, far = encoded_link()
        got: list[link.Message] = []
        near.deliver_to(got.extend)
        bed.service.accept(far)
        near.send(link_hello.Hello(1, 1, "gateway", "g9", "", 0))
        near.send(odd)
        near.send(link.AskTopic(6, "t", Caller("ann")))
        await until(lambda: any(isinstance(m, link.TopicAnswer) for m in got))
        assert (await bed.subscribe("t")).count >= 1
