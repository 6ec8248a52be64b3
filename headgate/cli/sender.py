"""Sends batches until every item is answered; waits and repeats after 429, 503, 504 and a lost connection."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from headgate.cli.client import NDJSON, Answer, Client, Unreachable
from headgate.cli.lines import Line

WAIT_OUT: Final = frozenset({408, 429, 503, 504})
PATIENCE_S: Final = 300.0  # after so long without any answer the rest is reported with its last problem
FIRST_WAIT_S: Final = 0.25
LONGEST_WAIT_S: Final = 15.0


class _AnswerHead(msgspec.Struct):
    status: int
    retry_after_ms: int | None = None


class _Results(msgspec.Struct):
    results: list[msgspec.Raw]


class Sender:
    """Publishes items in order to one path. An item keeps its client_msg_id, so sending it again never doubles it."""

    def __init__(self, client: Client, path: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._path = path
        self._sleep = sleep
        self._reached = False

    def send(self, items: Sequence[Line]) -> list[bytes]:
        """Returns one answer or problem for each item. Raises Unreachable when there was no server from the start."""
        answers = [item.problem for item in items]
        waited, wait = 0.0, FIRST_WAIT_S
        while left := [i for i, answer in enumerate(answers) if answer is None]:
            last, after = self._attempt(items, left, answers)
            if not last:
                break
            if len(last) < len(left):  # some were answered: the patience begins again
                waited, wait = 0.0, FIRST_WAIT_S
            if waited >= PATIENCE_S:
                for i, problem in last.items():
                    answers[i] = problem
                break
            pause = min(max(after, wait * random.uniform(0.5, 1.0)), PATIENCE_S)  # noqa: S311 - jitter
            self._sleep(pause)
            waited, wait = waited + pause, min(wait * 2, LONGEST_WAIT_S)
        return [answer or b"" for answer in answers]

    def _attempt(
        self, items: Sequence[Line], left: list[int], answers: list[bytes | None]
    ) -> tuple[dict[int, bytes], float]:
        """Sends what is left once. Returns the items to repeat, with their problems, and the shortest wait (s)."""
        try:
            answer = self._client.post(self._path, b"\n".join(items[i].body for i in left), NDJSON)
        except Unreachable as error:
            if not self._reached and not error.connected:
                raise
            problem = {"status": 504, "code": "outcome_unknown", "detail": str(error), "retryable": True}
            return dict.fromkeys(left, msgspec.json.encode(problem)), 0.0
        self._reached = True
        if answer.status == 413 and len(left) > 1:  # a server with smaller batches than ours
            return self._halves(items, left, answers)
        if answer.status != 200:
            return self._refused(answer, left, answers)
        return _sorted(answer, left, answers)

    def _halves(
        self, items: Sequence[Line], left: list[int], answers: list[bytes | None]
    ) -> tuple[dict[int, bytes], float]:
        half = len(left) // 2
        first, after = self._attempt(items, left[:half], answers)
        if first:  # the second half must not overtake it
            return first | dict.fromkeys(left[half:], next(iter(first.values()))), after
        return self._attempt(items, left[half:], answers)

    def _refused(self, answer: Answer, left: list[int], answers: list[bytes | None]) -> tuple[dict[int, bytes], float]:
        problem = msgspec.json.encode(answer.problem() | {"status": answer.status})
        if answer.status in WAIT_OUT:
            return dict.fromkeys(left, problem), answer.retry_after_s
        for i in left:
            answers[i] = problem
        return {}, 0.0


def _sorted(answer: Answer, left: list[int], answers: list[bytes | None]) -> tuple[dict[int, bytes], float]:
    """Puts the final results in their places and returns the others."""
    results = msgspec.json.decode(answer.body, type=_Results).results
    if len(results) != len(left):
        raise Unreachable("the server", f"it answered {len(results)} of {len(left)} items", connected=True)
    waiting: dict[int, bytes] = {}
    after = answer.retry_after_s
    for i, raw in zip(left, results, strict=True):
        head = msgspec.json.decode(raw, type=_AnswerHead)
        if head.status in WAIT_OUT:
            waiting[i] = bytes(raw)
            after = max(after, (head.retry_after_ms or 0) / 1_000)
        else:
            answers[i] = bytes(raw)
    return waiting, after
