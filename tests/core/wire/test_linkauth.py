"""Security rules of links, by name."""

from typing import NamedTuple

import pytest

from headgate.core.wire import linkauth
from headgate.core.wire.linkauth import LinkRefused, Proven

SECRET = b"s" * 32
NONCE = b"c" * linkauth.NONCE_BYTES


class Opened(NamedTuple):
    """A handshake with everything that an observer of the network sees."""

    challenge: linkauth.Challenge
    answer: bytes
    proof: bytes
    client: Proven
    dispatcher: Proven


def opened(secret: bytes = SECRET, role: str = "gateway", node: str = "g1", nonce: bytes = b"d" * 32) -> Opened:
    challenge = linkauth.challenge("d1", nonce)
    answer, expected = linkauth.answer(secret, challenge.encode(), role, node, NONCE)
    proof, dispatcher = linkauth.check_answer(SECRET, challenge, answer)
    return Opened(challenge, answer, proof, linkauth.check_proof(expected, proof), dispatcher)


def test_both_ends_know_who_the_other_is() -> None:
    link = opened()
    assert (link.dispatcher.role, link.dispatcher.node) == ("gateway", "g1")
    assert (link.client.role, link.client.node) == ("", "d1")


def test_another_secret_is_refused_on_both_sides() -> None:
    with pytest.raises(LinkRefused, match="secrets differ"):
        opened(secret=b"other")
    _, expected = linkauth.answer(b"other", opened().challenge.encode(), "gateway", "g1", NONCE)
    with pytest.raises(LinkRefused, match="does not know the cluster secret"):
        linkauth.check_proof(expected, opened().proof)


def test_a_captured_answer_is_of_no_use_a_second_time() -> None:
    with pytest.raises(LinkRefused, match="secrets differ"):
        linkauth.check_answer(SECRET, linkauth.challenge("d1", b"e" * 32), opened().answer)


def test_a_captured_answer_is_of_no_use_at_another_dispatcher() -> None:
    """Not even where that one could be made to use the same nonce."""
    with pytest.raises(LinkRefused, match="secrets differ"):
        linkauth.check_answer(SECRET, linkauth.challenge("d2", b"d" * 32), opened().answer)


@pytest.mark.parametrize("who", [b"ingest\ng1", b"gateway\ng2"])
def test_a_captured_answer_is_of_no_use_in_another_role_or_name(who: bytes) -> None:
    forged = opened().answer.replace(b"gateway\ng1", who)
    with pytest.raises(LinkRefused, match="secrets differ"):
        linkauth.check_answer(SECRET, opened().challenge, forged)


def test_an_answer_is_no_proof() -> None:
    """The two directions are told apart, so that nobody can reflect one as the other."""
    link = opened()
    _, expected = linkauth.answer(SECRET, link.challenge.encode(), "gateway", "g1", NONCE)
    with pytest.raises(LinkRefused):
        linkauth.check_proof(expected, link.answer[32:64])


@pytest.mark.parametrize("at", range(0, 74, 7))
def test_every_byte_of_an_answer_is_covered(at: int) -> None:
    link = opened()
    changed = bytearray(link.answer)
    changed[at] ^= 1
    with pytest.raises(LinkRefused):
        linkauth.check_answer(SECRET, link.challenge, bytes(changed))


@pytest.mark.parametrize("proof", ["é".encode(), b"\xff" * 32, b"", b"x" * 10_000])
def test_a_proof_is_bytes_of_any_kind(proof: bytes) -> None:
    _, expected = linkauth.answer(SECRET, opened().challenge.encode(), "gateway", "g1", NONCE)
    with pytest.raises(LinkRefused):
        linkauth.check_proof(expected, proof)


@pytest.mark.parametrize(
    "data", [b"", b"HGL1", b"HGL2" + bytes(40), b"HGL1" + bytes(32), b"HGL1" + bytes(32) + b"x" * 129,
             b"HGL1" + bytes(32) + "ü".encode(), b"HGL1" + b"a" * 600],
)  # fmt: skip
def test_what_is_no_challenge(data: bytes) -> None:
    with pytest.raises(LinkRefused):
        linkauth.answer(SECRET, data, "gateway", "g1", NONCE)


@pytest.mark.parametrize(
    "who",
    [b"", b"\n", b"gateway", b"gateway\n", b"\ng1", b"Gate\ng", b"a" * 17 + b"\ng", b"a\n" + b"g" * 129, b"a\n\xff"],
)
def test_what_is_no_answer(who: bytes) -> None:
    with pytest.raises(LinkRefused, match="no link credentials"):
        linkauth.check_answer(SECRET, opened().challenge, bytes(64) + who)


@pytest.mark.parametrize(
    ("role", "node"), [("Gateway", "g"), ("", "g"), ("gateway", ""), ("gateway", "a b"), ("g", "ü")]
)
def test_a_name_that_cannot_be_sent_is_our_own_fault(role: str, node: str) -> None:
    with pytest.raises(ValueError, match="not "):
        linkauth.answer(SECRET, opened().challenge.encode(), role, node, NONCE)


def test_batches_are_taken_once_in_their_order_and_direction() -> None:
    link = opened()
    first, second = link.client.sent.mark(b"one"), link.client.sent.mark(b"two")
    assert link.dispatcher.received.check(first) == b"one"
    assert link.dispatcher.received.check(second) == b"two"


@pytest.mark.parametrize("attack", ["changed", "repeated", "left out", "reflected", "of another link", "cut", "none"])
def test_a_batch_that_the_far_end_did_not_send_is_refused(attack: str) -> None:
    link, other = opened(), opened(nonce=b"e" * 32)
    first, second = link.client.sent.mark(b"one"), link.client.sent.mark(b"two")
    seal = link.dispatcher.received
    if attack != "left out":
        seal.check(first)
    data = {
        "changed": second[:-1] + b"p",
        "repeated": first,
        "left out": second,
        "reflected": link.dispatcher.sent.mark(b"two"),
        "of another link": other.client.sent.mark(b"two"),
        "cut": second[:10],
        "none": b"",
    }[attack]
    with pytest.raises(LinkRefused, match="did not send"):
        seal.check(data)
