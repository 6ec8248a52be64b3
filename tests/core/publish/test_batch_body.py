"""A batch's body is cut into what was written, as the standard library reads it; more than it may hold is not cut."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.publish.batch_body import cut_array, cut_lines
from headgate.core.wire.errors import Refusal
from tests.core.json_texts import VALUES, is_json, spaced


def refused(body: bytes, limit: int = 1_000) -> str:
    with pytest.raises(Refusal) as caught:
        cut_array(body, limit)
    return caught.value.code


@given(st.lists(VALUES, max_size=5), st.randoms(use_true_random=False))
def test_an_array_is_cut_into_its_elements_as_they_were_written(values: list[str], chance: object) -> None:
    body = spaced("[" + ",".join(values) + "]", chance)
    cut = cut_array(body.encode(), 5)
    assert [json.loads(part) for part in cut] == json.loads(body)
    assert all(part.decode() in body for part in cut)


@given(st.lists(VALUES, min_size=1, max_size=3), st.data())
def test_what_the_standard_library_refuses_is_refused(values: list[str], data: st.DataObject) -> None:
    text = "[" + ",".join(values) + "]"
    at = data.draw(st.integers(0, len(text) - 1))
    broken = (text[:at] + text[at + 1 :]).encode("utf-8", "surrogatepass")
    if is_json(broken) and broken.lstrip().startswith(b"["):
        assert [json.loads(part) for part in cut_array(broken, 9)] == json.loads(broken)
    else:
        assert refused(broken) == "bad_request"


@pytest.mark.parametrize("item", [b"0", b"[]", b'"\\ud800"'])
def test_1000_elements_are_cut_and_1001_are_too_large(item: bytes) -> None:
    assert cut_array(b"[" + b",".join([item] * 1_000) + b"]", 1_000) == [item] * 1_000
    assert refused(b"[" + b",".join([item] * 1_001) + b"]") == "too_large"
    assert cut_lines(b"\n".join([item] * 1_000), 1_000) == [item] * 1_000
    with pytest.raises(Refusal, match="too_large"):
        cut_lines(b"\n".join([item] * 1_001), 1_000)


def test_lines_are_cut_without_the_blank_ones() -> None:
    assert cut_lines(b"\n \t\r\n 1 2 \r\n\n{\r\n", 2) == [b"1 2", b"{"]
    assert cut_lines(b"", 1) == cut_lines(b"\r\n \n", 1) == []


@given(st.lists(st.text(alphabet="a \t\r{", max_size=4), max_size=8))
def test_lines_are_those_that_a_slow_reader_finds(lines: list[str]) -> None:
    body = "\n".join(lines).encode()
    assert cut_lines(body, 100) == [line for line in (part.strip(b" \t\r") for part in body.split(b"\n")) if line]


def test_a_byte_order_mark_is_named() -> None:
    for mark in (b"\xef\xbb\xbf", b"\xff\xfe"):
        with pytest.raises(Refusal, match="byte order mark"):
            cut_array(mark + b"[1]", 9)


def test_millions_of_elements_and_lines_cost_no_objects() -> None:
    size = 8 * 1024 * 1024
    started = time.process_time()
    for item in (b"0,", b"[],", b'"\\ud800",'):
        assert refused(b"[" + item * (size // len(item)) + b"0]") == "too_large"
    assert cut_lines(b"\n" * size, 1_000) == []
    assert time.process_time() - started < 2  # a list of them took 2 to 16 s each
