"""An owner that cannot reach one gateway: members find messages in the inbox, and get all of them once it is back."""

import asyncio

import pytest

import dispatcher.unreachable_gateways as module
from headgate.core.wire import link
from headgate.core.wire.link_inbox import AskInbox, InboxAnswer, InboxTopic
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.ports import Link
from headgate.runtime.testing.encoded_link import encoded_link
from tests.dispatcher.test_links_and_requests import ANN, Bed, Pushes, running

CUT, BEFORE = 20, 5


async def linked(bed: Bed, directory: LinkDirectory) -> Link:
    near, far = encoded_link()
    bed.service.accept(far)
    directory.add(near)
    async with asyncio.timeout(5):
        while directory.missing() is not None:
            await asyncio.sleep(0.01)
    return near


async def inbox(bed: Bed) -> list[InboxTopic]:
    shard = bed.directory.shard_of_user(ANN.user_id)
    answer = await bed.directory.ask(shard, lambda req: AskInbox(req, ANN.user_id, "phone", "", 10))
    assert isinstance(answer, InboxAnswer)
    return answer.topics


async def head(bed: Bed, seq: int) -> InboxTopic:
    """Waits until the inbox of ann says that the topic is at `seq`."""
    async with asyncio.timeout(5):
        while True:
            found = await inbox(bed)
            if found and found[0].head_seq >= seq:
                return found[0]
            await asyncio.sleep(0.01)


async def test_members_behind_a_cut_off_gateway_find_messages_in_the_inbox_and_get_them_once_in_order_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AWAY_S", 0.1)
    async with running() as bed:
        made = await bed.create("t")
        directory, pushes = LinkDirectory("gateway", "gateway-7"), Pushes()
        directory.deliver_to(pushes)
        wire = await linked(bed, directory)
        shard = directory.shard_of("t")
        await directory.ask(shard, lambda req: link.AskSubscribe(req, "t", ANN))
        for n in range(BEFORE):
            await bed.publish("t", made.epoch, str(n))
        while len(pushes.seqs("t")) < BEFORE:
            await asyncio.sleep(0.01)
        unreachable = bed.service.dispatcher.unreachable
        wire.close("the network is cut")
        for n in range(CUT):
            await bed.publish("t", made.epoch, f"cut-{n}")
        found = await head(bed, BEFORE + CUT)
        assert (found.topic_id, found.unread, found.mode) == ("t", BEFORE + CUT, "direct")
        assert pushes.seqs("t") == list(range(1, BEFORE + 1)), "the gateway has none of them"
        await asyncio.sleep(0.15)
        assert unreachable.names() == {"gateway-7"}
        await linked(bed, directory)
        assert unreachable.names() == set()
        attach = link.Attach(shard, True, True, [link.AttachTopic("t", made.epoch, BEFORE, 1)])
        directory.send(shard, attach)
        async with asyncio.timeout(5):
            while len(pushes.seqs("t")) < BEFORE + CUT:
                await asyncio.sleep(0.01)
        await bed.publish("t", made.epoch, "after")
        await asyncio.sleep(0.1)
        assert pushes.seqs("t") == list(range(1, BEFORE + CUT + 2))
