"""Security rules of links, by name."""

import pytest

from headgate.core import linkauth

SECRET = b"s" * 32
NOW = 1_700_000_000_000


def test_a_good_offer_gives_its_nonce_and_a_proof_the_client_accepts() -> None:
    nonce = linkauth.check_offer(SECRET, linkauth.offer(SECRET, "n1", NOW, "abc"), NOW + 1_000)
    assert nonce == "abc"
    assert linkauth.check_proof(SECRET, nonce, linkauth.proof(SECRET, nonce))


def test_another_secret_is_refused_on_both_sides() -> None:
    with pytest.raises(ValueError, match="secrets differ"):
        linkauth.check_offer(SECRET, linkauth.offer(b"other", "n1", NOW, "abc"), NOW)
    assert not linkauth.check_proof(SECRET, "abc", linkauth.proof(b"other", "abc"))


@pytest.mark.parametrize("part", [1, 2, 3])
def test_every_part_of_an_offer_is_covered(part: int) -> None:
    parts = linkauth.offer(SECRET, "n1", NOW, "abc").split(" ")
    parts[part] = "1" + parts[part]
    with pytest.raises(ValueError, match="secrets differ"):
        linkauth.check_offer(SECRET, " ".join(parts), NOW)


def test_an_old_offer_is_refused() -> None:
    with pytest.raises(ValueError, match="61 s apart"):
        linkauth.check_offer(SECRET, linkauth.offer(SECRET, "n1", NOW, "abc"), NOW + 61_000)


@pytest.mark.parametrize("header", ["", "Bearer x", "Headgate-HMAC a b c", "Headgate-HMAC a b c d"])
def test_anything_else_is_no_credential(header: str) -> None:
    with pytest.raises(ValueError, match="no link credentials"):
        linkauth.check_offer(SECRET, header, NOW)


def test_an_offer_is_no_proof() -> None:
    """The two directions are told apart, so that nobody can reflect one as the other."""
    mac = linkauth.offer(SECRET, "n1", NOW, "abc").split(" ")[4]
    assert not linkauth.check_proof(SECRET, "abc", mac)
