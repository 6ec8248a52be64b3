"""Link messages as bytes: every one comes back, newer ones can be read, one that cannot be sent is named alone."""

import msgspec
import pytest

from headgate.core.wire import link, link_ephemeral, link_hello, linkcodec
from headgate.core.wire.errors import Refusal
from headgate.core.wire.position import Position
from headgate.core.wire.rights import Caller


def test_a_batch_comes_back_in_order() -> None:
    batch: list[link.Message] = [
        link_hello.Hello(1, 1, "gateway", "g1", "", 0),
        link_hello.Welcome(1, "d1", "c", 1, 8, [link_hello.Owner(0, 5, "h:1", True)]),
        link.AskSubscribe(1, "t", Caller("ann", ("a*",)), Position("seq", -1, 7), True),
        link.Messages("t", 5, 1, [10, 11], [b"a", b"b"]),
        link.Attach(0, True, False, [link.AttachTopic("t", 5, 1, 2)]),
        link.Refused(1, "forbidden", "no", {"first_seq": 4}),
    ]
    assert linkcodec.decode_batch(linkcodec.encode_batch(batch)) == batch


def test_a_field_of_the_next_version_is_passed_over() -> None:
    longer = msgspec.msgpack.encode([[18 + 1, "t", 5, "deleted", "a field of version 2"]])
    assert linkcodec.decode_batch(longer) == [link.Ended("t", 5, "deleted")]


@pytest.mark.parametrize("junk", [b"", b"\xc1", msgspec.msgpack.encode({"a": 1}), msgspec.msgpack.encode([[99, 1]])])
def test_anything_else_is_refused(junk: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        linkcodec.decode_batch(junk)


@pytest.mark.parametrize(
    "message",
    [
        link.AskSubscribe(7, "t", Caller("ann", subscribe=("\ud83d*",))),
        link.AskTopic(7, "\udc80", Caller("ann")),
        link.AskVerdict(7, 0, 1 << 70),
        link.TopicsAnswer(7, [object()]),  # type: ignore[list-item]
        link_ephemeral.Relay(7, "t", 1, b"x" * (linkcodec.MAX_BYTES + 1)),
    ],
    ids=["a claim", "a name", "a number", "a type", "a size"],
)
def test_a_message_that_cannot_be_sent_says_why_and_answers_whoever_waits(message: link.Message) -> None:
    with pytest.raises(linkcodec.Unsendable, match=type(message).__name__) as caught:
        linkcodec.encode(message)
    assert len(str(caught.value)) < 300
    answer = caught.value.answer
    assert answer is not None and (answer.req, answer.code) == (7, "internal")
    assert caught.value.of_request is isinstance(message, link.Request)
    assert linkcodec.decode_batch(linkcodec.encode_batch([answer])) == [answer]


def test_nobody_waits_for_a_message_without_a_number() -> None:
    with pytest.raises(linkcodec.Unsendable) as caught:
        linkcodec.encode(link.Changed("\ud800"))
    assert caught.value.answer is None


def test_the_messages_of_a_batch_are_counted_before_one_is_decoded() -> None:
    part = linkcodec.encode(link.Changed("t"))
    assert len(linkcodec.decode_batch(linkcodec.batch_of([part] * linkcodec.MAX_BATCH))) == linkcodec.MAX_BATCH
    for many in (
        linkcodec.batch_of([part] * (linkcodec.MAX_BATCH + 1)),
        b"\xdd" + (1 << 31).to_bytes(4, "big") + part,
    ):
        with pytest.raises(msgspec.DecodeError, match="at most 4096"):
            linkcodec.decode_batch(many)


def test_a_refusal_of_a_newer_version_harms_nobody() -> None:
    known = linkcodec.refusal_of(link.Refused(1, "gone", "no", {"first_seq": 4, "retry_after_ms": 5}))
    assert (known.code, known.detail, known.extra, known.retry_after_ms) == ("gone", "no", {"first_seq": 4}, 5)
    strange = linkcodec.refusal_of(link.Refused(1, "brand_new", "no", {"detail": 1, "code": 2, "retry_after_ms": "x"}))
    assert (strange.code, strange.status, strange.extra, strange.retry_after_ms) == ("internal", 500, {}, None)


def test_a_refusal_comes_over_a_link_whole() -> None:
    for told in (Refusal("rate_limited", "no", retry_after_ms=70), Refusal("gone", "no", first_seq=4)):
        back = linkcodec.refusal_of(linkcodec.refused_with(1, told))
        assert vars(back) == vars(told)
