"""Each invariant of changed messages fails on a planted fault."""

from collections.abc import Callable
from typing import Any

import pytest

from tests import conversation as c

AT = "2026-01-01T00:00:00.000Z"


def message(seq: int, payload: Any = "a", **more: Any) -> dict[str, Any]:
    return {"seq": seq, "message_id": f"m{seq}", "publisher_id": "ann", "payload": payload, **more}


def edit(seq: int, target: int, version: int, payload: Any, **more: Any) -> dict[str, Any]:
    about = {"kind": "edit", "target_seq": target, "version": version, "edited_at": AT}
    return message(seq, payload, **about, **more)


def reaction(seq: int, target: int, name: str, user: str = "ann", *, removed: bool = False) -> dict[str, Any]:
    about = {"kind": "reaction", "target_seq": target, "name": name, "removed": removed}
    return {**message(seq, None, **about), "publisher_id": user}


def redact(seq: int, target: int) -> dict[str, Any]:
    return message(seq, None, kind="redact", target_seq=target)


LIVE = [
    message(1, "a"), message(2, "b"), edit(3, 1, 2, "a2"), reaction(4, 1, "x"), reaction(5, 1, "x", "bo"),
    edit(6, 1, 3, "a3"), reaction(7, 1, "x", removed=True), reaction(8, 2, "y"), edit(9, 2, 2, "b2"), redact(10, 2),
]  # fmt: skip
HISTORY = [
    message(1, "a3", version=3, edited_at=AT, reactions={"x": 1}), message(2, None, redacted=True), *LIVE[2:8],
    edit(9, 2, 2, None, redacted=True), redact(10, 2),
]  # fmt: skip


def check(live: list[dict[str, Any]], history: list[dict[str, Any]] = HISTORY) -> None:
    views = {"live": c.folded("t", live), "replay": {f["seq"]: c.as_now(f) for f in history if "kind" not in f}}
    c.messages_agree("t", HISTORY, views)
    c.events_agree("t", "live", HISTORY, live)
    c.events_agree("t", "replay", HISTORY, history)


def test_views_that_agree() -> None:
    check(LIVE)
    late = [message(1, "a3", version=3, edited_at=AT, reactions={"x": 1}), *LIVE[1:]]
    check(late)
    check([LIVE[0], message(2, None, redacted=True), *LIVE[2:8], HISTORY[8], LIVE[9]])


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("E1", lambda live: live.insert(6, edit(6, 1, 3, "again"))),
        ("E1", lambda live: live.insert(6, edit(6, 1, 2, "stale"))),
        ("E1", lambda live: live.pop(2)),
        ("E2", lambda live: live.append(edit(11, 2, 3, "b3"))),
        ("E2", lambda live: live.append(reaction(11, 2, "z"))),
        ("E3", lambda live: live.pop()),
        ("E3", lambda live: live.pop(3)),
        ("E3", lambda live: live.pop(0) and live.insert(0, message(1, "other", version=3, edited_at=AT))),
        ("E3", lambda live: live.append(message(11))),
        ("E3", lambda live: live.__setitem__(4, reaction(5, 1, "x", "cy"))),
        ("E3", lambda live: live.__setitem__(2, edit(3, 1, 2, "other"))),
    ],
)
def test_a_view_that_differs_is_caught(name: str, spoil: Callable[[list[dict[str, Any]]], object]) -> None:
    live = list(LIVE)
    spoil(live)
    with pytest.raises(AssertionError, match=rf"^{name} "):
        check(live)


def test_a_replay_that_forgot_a_redaction_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"^E3 "):
        check(LIVE, [HISTORY[0], message(2, "b2", version=2, edited_at=AT), *HISTORY[2:]])


def test_an_edit_that_was_answered_and_is_not_there_is_caught() -> None:
    acked = {3: {"target_seq": 1, "version": 2, "payload": "a2"}, 9: {"target_seq": 2, "version": 2, "payload": "b2"}}
    c.applied_once("t", acked, HISTORY)
    for wrong in ({4: acked[3]}, {11: acked[3]}, {3: {**acked[3], "payload": "x"}}, {3: {**acked[3], "version": 3}}):
        with pytest.raises(AssertionError, match=r"^E4 "):
            c.applied_once("t", wrong, HISTORY)


def test_a_secret_that_is_left_is_caught() -> None:
    c.nowhere("files", ["s1", "s2"], {"a": b"other"})
    with pytest.raises(AssertionError, match=r"^E5 .*s2 stands in b"):
        c.nowhere("files", ["s1", "s2"], {"a": b"", "b": b"..s2.."})
