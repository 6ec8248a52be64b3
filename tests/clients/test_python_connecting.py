"""How the Python client connects, on values: close codes, waits, states, transports, event streams in pieces."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate_client.connection_state import TRANSITIONS, IllegalStep, State, Step, after
from headgate_client.event_parser import EventParser
from headgate_client.reconnection import (
    AT_ONCE_AFTER_S,
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    STABLE_S,
    Backoff,
    after_close,
)
from headgate_client.transport import NotOpened, TransportChoice, Way

POLICY = json.loads(Path(__file__).with_name("reconnect_policy.json").read_text("utf-8"))  # the JS client's too


def seeded(seed: int) -> Callable[[], float]:
    """The random source that the policy names."""
    state = [seed]

    def draw() -> float:
        state[0] = (1_664_525 * state[0] + 1_013_904_223) % 2**32
        return state[0] / 2**32

    return draw


class TestReconnection:
    @pytest.mark.parametrize(("action", "verdict"), [("stop", "stop"), ("backoff", "back_off"), ("now", "at_once")])
    def test_the_class_of_a_close_code_says_what_to_do(self, action: str, verdict: str) -> None:
        codes = POLICY["verdicts"][verdict]
        assert {after_close(code) for code in codes} == {action}
        assert {after_close(code, reconnect=False) for code in codes} == {"stop"}

    @pytest.mark.parametrize("addresses", POLICY["windows_ms"])
    def test_waits_grow_to_a_bound_with_full_jitter_and_each_address_is_tried_in_each_window(
        self, addresses: str
    ) -> None:
        windows = POLICY["windows_ms"][addresses]
        highest, lowest = Backoff(lambda: 1.0, tries=int(addresses)), Backoff(lambda: 0.0, tries=int(addresses))
        assert [highest.next_s() * 1_000 for _ in windows] == windows
        assert {lowest.next_s() for _ in windows} == {0.0}
        highest.reset()
        assert highest.next_s(1_500) * 1_000 == windows[0] + 1_500

    def test_the_same_random_numbers_make_the_same_waits_in_every_client(self) -> None:
        waits = POLICY["waits"]
        backoff = Backoff(seeded(waits["seed"]), tries=waits["addresses"])
        for each in waits["each"]:
            assert backoff.next_s(each["retry_after_ms"]) * 1_000 == pytest.approx(each["wait_ms"], abs=0.001)

    def test_the_constants_are_those_of_the_policy(self) -> None:
        named = (FIRST_WAIT_S, LONGEST_WAIT_S, STABLE_S, AT_ONCE_AFTER_S)
        assert [value * 1_000 for value in named] == [
            POLICY[name] for name in ("first_ms", "max_ms", "stable_ms", "at_once_after_ms")
        ]

    def test_the_first_wait_after_a_welcome_is_the_part_of_the_window_that_it_tells(self) -> None:
        told = POLICY["told"]
        backoff, waits = Backoff(lambda: 0.5, tries=told["addresses"]), []
        for jitter in told["jitters"]:
            backoff.spread(jitter)
            waits.append(backoff.next_s() * 1_000)
        assert waits == pytest.approx(told["waits_ms"])
        assert backoff.next_s() == LONGEST_WAIT_S / 2, "it is told for one wait"

    def test_all_clients_come_back_spread_and_soon_where_welcome_told_their_jitters(self) -> None:
        wanted, waits = POLICY["spread_by_welcome"], []
        for n in range(wanted["clients"]):
            backoff = Backoff(lambda: 0.0)
            backoff.spread((n + 1) * ((math.sqrt(5) - 1) / 2) % 1)
            waits.append(backoff.next_s())
        waits.sort()
        most = max(sum(first <= wait < first + 0.1 for wait in waits) for first in waits)
        assert most / wanted["of"] <= wanted["largest_share_in_100_ms"]
        assert waits[int(len(waits) * 0.95)] * 1_000 <= wanted["p95_ms"]

    def test_the_clients_of_one_of_two_gateways_that_dies_come_back_spread_and_soon(self) -> None:
        wanted = POLICY["spread"]
        random = seeded(wanted["seed"])
        waits = sorted(Backoff(random).next_s() for _ in range(wanted["clients"]))
        most = max(sum(first <= wait < first + 0.1 for wait in waits) for first in waits)
        assert most / wanted["of"] <= wanted["largest_share_in_100_ms"]
        assert waits[int(len(waits) * 0.95)] * 1_000 <= wanted["p95_ms"]

    def test_every_state_can_be_closed_and_no_other_step_leaves_the_end(self) -> None:
        assert {after(state, Step.CLOSE) for state in State} == {State.CLOSED}
        assert {step for state, step in TRANSITIONS if state is State.STOPPED} == {Step.CLOSE}
        assert {step for state, step in TRANSITIONS if state is State.CLOSED} == {Step.CLOSE}

    def test_a_step_that_the_table_does_not_have_is_an_error(self) -> None:
        with pytest.raises(IllegalStep, match="opened while idle"):
            after(State.IDLE, Step.OPENED)

    def test_every_state_is_reached(self) -> None:
        assert set(TRANSITIONS.values()) | {State.IDLE} == set(State)


def gone_through(choice: TransportChoice, count: int, error: NotOpened) -> list[Way]:
    """The ways of so many connections, none of which opens."""
    ways: list[Way] = []
    for _ in range(count):
        way = choice.next(needs_websocket=False)
        choice.not_opened(way, error, needs_websocket=False)
        ways.append(way)
    return ways


class TestTransportChoice:
    def test_after_two_websockets_that_could_not_be_opened_streams_are_tried_and_a_websocket_every_third_time(
        self,
    ) -> None:
        tried = gone_through(TransportChoice("auto"), 8, NotOpened("reset"))
        assert tried == ["websocket", "websocket", "sse", "sse", "websocket", "sse", "sse", "websocket"]

    def test_an_answer_that_would_come_again_says_it_at_once(self) -> None:
        assert gone_through(TransportChoice("auto"), 3, NotOpened("", 403)) == ["websocket", "sse", "sse"]
        choice = TransportChoice("auto")
        assert choice.not_opened("websocket", NotOpened("", 403), needs_websocket=False)
        assert not choice.not_opened("websocket", NotOpened("", 403), needs_websocket=False), (
            "tried already, and none opened"
        )
        choice.opened("sse")
        assert choice.not_opened("websocket", NotOpened("", 403), needs_websocket=False), "streams go on"
        assert not TransportChoice("auto").not_opened("websocket", NotOpened("", 403), needs_websocket=True)
        assert not TransportChoice("websocket").not_opened("websocket", NotOpened("", 403), needs_websocket=False)

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
    def test_a_busy_server_does_not_block_websockets(self, status: int) -> None:
        assert gone_through(TransportChoice("auto"), 4, NotOpened("", status)) == ["websocket"] * 4

    def test_where_a_websocket_was_open_or_is_needed_there_are_no_streams(self) -> None:
        choice = TransportChoice("auto")
        choice.opened("websocket")
        assert gone_through(choice, 4, NotOpened("reset")) == ["websocket"] * 4
        choice = TransportChoice("auto")
        gone_through(choice, 2, NotOpened("reset"))
        assert choice.next(needs_websocket=True) == "websocket"

    @pytest.mark.parametrize("wanted", ["websocket", "sse"])
    def test_one_that_was_named_is_the_only_one(self, wanted: Way) -> None:
        assert gone_through(TransportChoice(wanted), 4, NotOpened("", 403)) == [wanted] * 4


class TestEventParser:
    TEXT = b'retry: 5\n\nid: 7:1\nevent: welcome\ndata: {"a":1}\n\n: comment\r\n\r\ndata: x\ndata:y\n\ndata: z\r\r'

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
    def test_events_in_any_pieces(self, size: int) -> None:
        parser, found = EventParser(100), []
        for at in range(0, len(self.TEXT), size):
            found += parser.push(self.TEXT[at : at + size])
        assert found + parser.push(b"\n") == [b'{"a":1}', b"x\ny", b"z"]

    def test_an_event_that_is_too_long_is_refused(self) -> None:
        parser = EventParser(10)
        assert parser.push(b"data: 1234\n\n") == [b"1234"]
        with pytest.raises(ValueError, match="longer than 10 bytes"):
            parser.push(b"data: 12345")
        parser = EventParser(10)
        with pytest.raises(ValueError, match="longer than 10 bytes"):
            for _ in range(4):
                parser.push(b"data: 1234\n")
