"""Bytes of a request as text: what is not UTF-8 is no id, and the replacement character is a character like others."""

import pytest

from headgate.core.wire.message_changes import is_reaction_name
from headgate.runtime.http.queries import read_query
from headgate.runtime.http.request_text import decoded
from headgate.runtime.token_claims import is_user_id


@pytest.mark.parametrize("raw", [b"\xff", b"a\xffb", b"\xed\xa0\x80", b"\xc3", b"\xf8\x88\x80\x80\x80"])
def test_what_is_not_utf_8_names_nobody_and_nothing(raw: bytes) -> None:
    text = decoded(raw)
    assert "\0" in text and not is_user_id(text) and not is_reaction_name(text)
    written = b"".join(b"%%%02x" % byte for byte in raw)
    assert read_query(b"user_id=" + written) == {"user_id": text}


@pytest.mark.parametrize("text", ["\ufffd", "a\ufffdb", "\u00e9", "x"])
def test_what_is_utf_8_is_itself(text: str) -> None:
    assert decoded(text.encode()) == text and is_user_id(text) and is_reaction_name(text)
    written = b"".join(b"%%%02x" % byte for byte in text.encode())
    assert read_query(b"user_id=" + written) == {"user_id": text}
