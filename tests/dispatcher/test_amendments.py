"""Gateways are told how a message is now before they get the event that changed it."""

import json

import pytest

from headgate.core.wire.link import Messages
from headgate.core.wire.link_messages import Amended
from tests.dispatcher.members_bed import Far
from tests.dispatcher.messages_bed import MessagesBed


async def test_an_amendment_comes_before_its_event() -> None:
    bed = MessagesBed()
    bed.publish("a")
    far = bed.hosting()
    bed.edit(1, "b")
    amended, messages = far.taken()
    assert isinstance(amended, Amended) and isinstance(messages, Messages)
    assert (amended.topic_id, amended.epoch, amended.seq, amended.redacted) == ("t", bed.row.epoch, 1, False)
    assert json.loads(amended.frame)["payload"] == "b"
    assert json.loads(messages.frames[0])["kind"] == "edit"


async def test_frames_that_were_not_sent_yet_are_amended_in_place() -> None:
    bed = MessagesBed()
    far = bed.hosting()
    send, bed.owner.send_open = bed.owner.send_open, lambda: None  # type: ignore[method-assign]
    bed.publish("secret")
    bed.edit(1, "secret too")
    bed.redact(1)
    bed.publish("other")
    send()
    *_, messages = far.taken()
    assert isinstance(messages, Messages)
    assert [json.loads(frame)["payload"] for frame in messages.frames] == [None, None, None, "other"]
    assert b"secret" not in b"".join(messages.frames)


async def test_many_changes_of_one_message_make_one_amendment() -> None:
    bed = MessagesBed()
    bed.publish("a")
    far = bed.hosting()
    send, bed.owner.send_open = bed.owner.send_open, lambda: None  # type: ignore[method-assign]
    for n in range(20):
        bed.react(1, "+1", f"u{n}")
    send()
    (amended, _) = far.taken()
    assert isinstance(amended, Amended)
    assert json.loads(amended.frame)["reactions"] == {"+1": 20}


async def test_a_topic_that_nobody_hosts_and_an_old_gateway_get_none() -> None:
    bed = MessagesBed()
    bed.publish("a")
    bed.edit(1, "b")
    assert bed.owner.amendments._targets == {}
    old = bed.hosting(version=1)
    bed.edit(1, "c", 2)
    assert [type(message) for message in old.taken()] == [Messages]


@pytest.mark.parametrize("redacted", [True, False])
async def test_a_congested_link_gets_a_small_one_of_a_redaction_alone(redacted: bool) -> None:
    """Its route is behind now: the page with the event tells the gateway of any change."""
    bed = MessagesBed()
    bed.publish("a")
    far = bed.hosting()
    far.congested = True
    if redacted:
        bed.redact(1)
    else:
        bed.edit(1, "b")
    assert far.taken() == ([Amended("t", bed.row.epoch, 1, b"", True)] if redacted else [])
    assert len(far.behind) == 1
    page = Messages("t", bed.row.epoch, 2, [1], [bed.page().frames[1]])
    bed.owner.amendments.before_page(far, page, 1)
    assert far.taken() == [Amended("t", bed.row.epoch, 1, b"", redacted)]


async def test_a_message_that_is_not_at_hand_is_amended_without_its_frame() -> None:
    bed = MessagesBed()
    bed.publish("a")
    bed.write()
    file = bed.owner.history.file
    assert file is not None
    file._db.execute("UPDATE frames SET frame = NULL")
    far = bed.hosting()
    bed.redact(1)
    (amended, _) = far.taken()
    assert amended == Amended("t", bed.row.epoch, 1, b"", True)
    assert isinstance(far, Far)


async def test_a_page_of_a_route_that_was_behind_comes_after_what_its_events_changed() -> None:
    """The owner before may have died with the amendments; what the gateway was sent before is stale in its ring."""
    bed = MessagesBed()
    for _ in range(3):
        bed.publish("a")
    bed.edit(1, "b")
    bed.redact(2)
    bed.react(3, "+1")
    far, epoch = Far(), bed.row.epoch
    page = Messages("t", epoch, 3, [1] * 4, bed.page(after_seq=2).frames)
    bed.owner.amendments.before_page(far, page, 2)
    assert far.taken() == [Amended("t", epoch, 1, b"", False), Amended("t", epoch, 2, b"", True)]
    bed.owner.amendments.before_page(Far(version=1), page, 2)
