"""What the publisher wrote is what is carried; what would break a reader is refused with its reason."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.wire.payload import (
    check_depth,
    compact,
    hide_escapes,
    members,
    parts,
    read_foreign,
    show_escapes,
    without_lone,
)
from tests.core.json_texts import BAD_STRINGS, VALUES, compacted, depth_of, is_json, spaced

LIMIT = 65_536


def reason(value: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(ValueError) as caught:
        read_foreign(value, limit)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "carried"),
    [
        (b' { "b" : 1.0E+05 , "a" : [ -0.0 , 1e999 ] } ', b'{"b":1.0E+05,"a":[-0.0,1e999]}'),
        (b"123456789012345678901234567890", b"123456789012345678901234567890"),
        (b'{"a":1,\n"a":2}', b'{"a":1,"a":2}'),
        (b'"a  b\\u00E9 \\/"', b'"a  b\\u00E9 \\/"'),
        (b"null\r\n", b"null"),
        (b'[ "\\ud800" , "\\udc00 x" ]', b'["\\ud800","\\udc00 x"]'),
        (b'[ "\\ud83d\\ude00" ]', b'["\\ud83d\\ude00"]'),
        ('{"k": "é ü"}'.encode(), '{"k":"é ü"}'.encode()),
    ],
)
def test_carries_the_text_as_written(written: bytes, carried: bytes) -> None:
    assert read_foreign(written, LIMIT) == carried


@pytest.mark.parametrize(
    "bad",
    [b"", b" ", b"NaN", b"[1,]", b"{'a':1}", b"1 2", b'"\\x"', b'"a\nb"', b'"\\ud800', b"\xef\xbb\xbf1", b"01", b"-",
     b'{"a"}', b'{"a":"\\ud800",}', b"Infinity", b'"\\u12"'],
)  # fmt: skip
def test_refuses_what_is_not_json(bad: bytes) -> None:
    assert reason(bad) == "not_json"


@pytest.mark.parametrize("bad", [b'"\xff"', b"\xff", b'"\xed\xa0\x80"', b'{"a":"\xc3"}', b'{"\xc0\xaf":1}'])
def test_refuses_what_is_not_utf8(bad: bytes) -> None:
    assert reason(bad) == "not_utf8"


def test_counts_depth_and_not_brackets() -> None:
    assert read_foreign(b"[" * 64 + b"]" * 64, LIMIT)
    assert reason(b"[" * 65 + b"]" * 65) == "too_deep"
    assert reason(b'{"a":' * 65 + b"1" + b"}" * 65) == "too_deep"
    assert read_foreign(b"[" + b",".join([b"[]"] * 100) + b"]", LIMIT)
    assert read_foreign(b'["' + b"[" * 100 + b'\\"[["]', LIMIT)


@pytest.mark.parametrize("deep", [b"[" * 100_000 + b"]" * 100_000, b'["\\ud800",' + b"[" * 5_000 + b"]" * 5_000 + b"]"])
def test_depth_that_no_parser_follows(deep: bytes) -> None:
    assert reason(deep, 1 << 20) == "too_deep"


def test_size_is_that_of_the_compacted_text() -> None:
    fits = b'"' + b"x" * (LIMIT - 2) + b'"'
    assert read_foreign(b"  " + fits + b"\n", LIMIT) == fits
    assert reason(b'"x' + fits[1:]) == "too_large"


def test_takes_apart_what_msgspec_does_not_read() -> None:
    text = b'{ "payload" : {"a":[1,"],"]} , "k\\u0041" : "\\ud800" ,"payload":[ 1 ] }'
    assert members(text) == {"payload": b"[ 1 ]", "kA": b'"\\ud800"'}
    assert parts(b'[ {"a":[1,2]} , "," , 3 ]') == [b'{"a":[1,2]}', b'","', b"3"]
    assert parts(b"[ ]") == []
    assert members(b"{}") == {}


def test_stand_in_keeps_pairs_and_escaped_backslashes() -> None:
    assert without_lone(b'"\\ud83d\\ude00\\\\ud800\\ud800"') == b'"\\ud83d\\ude00\\\\ud800\\u0041"'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 1, 3]), st.booleans())
def test_compact_equals_the_standard_library(value: object, indent: int | None, ascii_only: bool) -> None:
    written = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    expected = json.dumps(json.loads(written), separators=(",", ":"), ensure_ascii=ascii_only)
    assert compact(written) == expected.encode("utf-8", "replace")
    check_depth(written)


@given(st.lists(JSON, max_size=5), st.sampled_from([None, 2]))
def test_parts_are_the_items(items: list[object], indent: int | None) -> None:
    assert [json.loads(p) for p in parts(json.dumps(items, indent=indent).encode())] == items


def test_members_take_time_in_proportion_to_the_text() -> None:
    """A run of spaces in a string must not be tried at every length: 250 KB would hold the loop for minutes."""
    text = b'{"payload":"\\ud800' + b" " * 250_000 + b'x" , "a" : 1 }'
    assert list(members(text)) == ["payload", "a"]
    assert members(text)["a"] == b"1"


@given(VALUES, st.randoms(use_true_random=False))
def test_what_is_carried_is_what_a_slow_reader_finds(value: str, chance: object) -> None:
    written = spaced(value, chance)
    assert compact(written.encode()).decode() == compacted(written)
    assert show_escapes(hide_escapes(written.encode())).decode() == written


@given(BAD_STRINGS)
def test_what_the_standard_library_refuses_is_not_carried(text: str) -> None:
    if is_json(text.encode()):
        assert compact(text.encode()).decode() == text
    else:
        assert reason(text.encode()) == "not_json"


def _nested(items: list[str]) -> str:
    """Arrays and objects in turn, one level more."""
    if len(items) % 2:
        return "{" + ",".join(f'"]{at}":{item}' for at, item in enumerate(items)) + "}"
    return "[" + ",".join(items) + "]"


@given(st.recursive(st.just("[]"), lambda inner: st.lists(inner, max_size=3).map(_nested)), VALUES)
def test_depth_is_what_a_slow_reader_counts(nested: str, value: str) -> None:
    text = nested.replace("[]", f'[{value},"[\\"["]', 1)
    depth = depth_of(text)
    check_depth(text.encode(), depth)
    if depth > 1:
        with pytest.raises(ValueError, match="too_deep"):
            check_depth(text.encode(), depth - 1)


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b",".join([b"[" * 63 + b"]" * 63] * 66_000) + b"]",
        b"[" + b",".join([b"[]"] * 2_800_000) + b"]",
        b"[" + b",".join([b'["["]'] * 1_400_000) + b"]",
        b'["' + b"\\ud800" * 1_400_000 + b'"]',
        b'["' + b'\\"[' * 2_800_000 + b'"]' + b"[]" * 70,
    ],
)
def test_eight_megabytes_of_anything_take_a_fraction_of_a_second(text: bytes) -> None:
    started = time.process_time()
    check_depth(text)
    with contextlib.suppress(ValueError):
        compact(text)
    assert time.process_time() - started < 1
