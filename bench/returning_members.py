"""Members of a topic who were away and come back at once: each asks for what it missed, page by page, over HTTP.

A member looks at its inbox, reads a page, acknowledges it, and goes on until a page is empty. It waits as long as
`Retry-After` says where it is refused. It must get each message once, in order, and no more answers than the rate of
reads allows. `python -m bench.returning_members` is one process of them: a `Herd` as a line of JSON in, `Polls` out.
"""

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec
import uvloop

from tests.e2e.harness import token
from tests.e2e.http import Http, HttpAnswer, NoAnswer

DEVICE: Final = "phone"
INBOX: Final = f"/api/v1/inbox?device_id={DEVICE}"
ACK: Final = "/api/v1/inbox/ack"
AGAIN_S: Final = 1.0  # where there was no answer, or an empty page with more behind it
_FREE: Final = ("rate_limited", "overloaded")  # such a refusal costs no read
ANSWER_S: Final = 60.0
SHOWN: Final = 5  # faults of a process

Ask = Callable[[str, str, bytes | None], Awaitable[HttpAnswer]]  # method, target, body


class Herd(msgspec.Struct, frozen=True):
    """Who comes back, to how many messages, numbered from 1."""

    url: str
    topic: str
    users: list[str]
    messages: int
    limit: int  # of a page
    reads_per_min: float
    seconds: float = 600.0  # for all of them
    within_s: float = 0.0  # each comes back at a random moment of so long a time

    @property
    def page(self) -> str:
        return f"/api/v1/inbox/messages?device_id={DEVICE}&limit={self.limit}"


class Polls(msgspec.Struct):
    """What members saw. `page_ms` and `other_ms` count answers by milliseconds, `refused` refusals by their code."""

    page_ms: dict[int, int] = {}
    other_ms: dict[int, int] = {}  # the inbox and acknowledgements
    refused: dict[str, int] = {}
    had_ms: dict[int, int] = {}  # from the begin until each member had its last message
    without_wait: int = 0  # refusals with 429 or 503 that do not say for how long
    too_early: int = 0  # refused by the rate again, after as long a wait as was asked for
    unanswered: int = 0  # connections that were lost or could not be made
    cpu_s: float = 0.0
    faults: list[str] = []

    def __add__(self, other: "Polls") -> "Polls":
        return Polls(
            _sum(self.page_ms, other.page_ms),
            _sum(self.other_ms, other.other_ms),
            _sum(self.refused, other.refused),
            _sum(self.had_ms, other.had_ms),
            self.without_wait + other.without_wait,
            self.too_early + other.too_early,
            self.unanswered + other.unanswered,
            self.cpu_s + other.cpu_s,
            self.faults + other.faults,
        )


class UnexpectedAnswer(Exception):
    """A member did not get what it was promised; the text says what it saw and what it expected."""


class ReturningMember:
    """One device of one user; `got` is how many messages it has. `begun`: when the first came, by the loop's clock."""

    def __init__(self, user: str, herd: Herd, ask: Ask, polls: Polls, begun: float) -> None:
        self.user = user
        self.got = 0
        self.reads = 0  # answers that cost one
        self._herd = herd
        self._ask = ask
        self._polls = polls
        self._begun = begun
        self._now = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Returns when it has all, has said so, and another page was empty. Raises UnexpectedAnswer."""
        await asyncio.sleep(random.uniform(0, self._herd.within_s))
        back = self._now()
        await self._look()
        while True:
            page = await self._final("GET", self._herd.page)
            self._take(page["messages"])
            if page["messages"]:
                ack = {"device_id": DEVICE, "topic_id": self._herd.topic, "seq": self.got}
                await self._final("POST", ACK, msgspec.json.encode(ack))
            elif page["more"]:
                await asyncio.sleep(AGAIN_S)
            else:
                break
        if self.got < self._herd.messages:
            raise UnexpectedAnswer(f"nothing is left behind message {self.got} of {self._herd.messages}")
        self._check_rate(self._now() - back)

    async def _look(self) -> None:
        topics = (await self._final("GET", INBOX))["topics"]
        found = [(topic["mode"], topic["unread"]) for topic in topics if topic["topic_id"] == self._herd.topic]
        if found != [("inbox", self._herd.messages)]:
            raise UnexpectedAnswer(f"the inbox says {found}, unread are {self._herd.messages} in mode inbox")

    def _take(self, frames: list[dict[str, Any]]) -> None:
        for frame in frames:
            place, expected = (frame["topic_id"], frame["seq"]), (self._herd.topic, self.got + 1)
            if place != expected:
                what = "a repeat or out of order" if place < expected else "something is missing"
                raise UnexpectedAnswer(f"{place} instead of {expected}: {what}")
            if frame["payload"] != {"n": frame["seq"]}:
                raise UnexpectedAnswer(f"message {frame['seq']} has another payload: {frame['payload']}")
            self.got += 1
        if frames and self.got == self._herd.messages:
            _count(self._polls.had_ms, self._now() - self._begun)

    async def _final(self, method: str, target: str, body: bytes | None = None) -> Any:
        """Asks until the answer is final; returns what is in it. Raises UnexpectedAnswer."""
        was_told = False
        while True:
            asked = self._now()
            try:
                answer = await self._ask(method, target, body)
            except (NoAnswer, TimeoutError):
                self._polls.unanswered += 1
                await asyncio.sleep(random.uniform(0, AGAIN_S))
                continue
            if answer.status in (200, 204):
                self.reads += 1
                is_page = target == self._herd.page
                _count(self._polls.page_ms if is_page else self._polls.other_ms, self._now() - asked)
                return msgspec.json.decode(answer.body) if answer.body else None
            await asyncio.sleep(self._told_to_wait(answer, was_told))
            was_told = answer.status == 429

    def _told_to_wait(self, answer: HttpAnswer, was_told: bool) -> float:
        """Counts a refusal; returns the seconds after which it may ask again."""
        if answer.status not in (429, 503, 504):
            raise UnexpectedAnswer(f"an answer that no member expects: {answer.status} {answer.body[:300]!r}")
        code = msgspec.json.decode(answer.body)["code"]
        self.reads += code not in _FREE
        self._polls.refused[code] = self._polls.refused.get(code, 0) + 1
        self._polls.too_early += was_told and answer.status == 429
        told = answer.headers.get("retry-after")
        if told is None:
            self._polls.without_wait += answer.status != 504
            return AGAIN_S
        return float(told)

    def _check_rate(self, seconds: float) -> None:
        """The rate of reads lets through what a minute has at once, and no more than its share of the time since."""
        most = self._herd.reads_per_min * (1 + seconds / 60) + 1
        if self.reads > most:
            raise UnexpectedAnswer(f"{self.reads} reads were answered in {seconds:.1f} s, {most:.1f} are allowed")


async def come_back(herd: Herd, ask_as: Callable[[str], Ask], seconds: float) -> Polls:
    """Lets all come back now, and waits for them so long at most; `ask_as` gives each user its connection."""
    polls, begun = Polls(), asyncio.get_running_loop().time()
    members = [ReturningMember(user, herd, ask_as(user), polls, begun) for user in herd.users]
    tasks = [asyncio.create_task(member.run()) for member in members]
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    for member, outcome in zip(members, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
        if isinstance(outcome, UnexpectedAnswer):
            polls.faults.append(f"{member.user}: {outcome}")
        elif isinstance(outcome, asyncio.CancelledError):
            polls.faults.append(f"{member.user}: message {member.got} of {herd.messages} after {seconds:.0f} s")
        elif outcome is not None:
            raise outcome
    return polls


async def over_http(herd: Herd, clients: dict[str, Http]) -> Polls:
    """Lets all come back now, each on a connection of its own."""
    begun = time.process_time()
    polls = await come_back(herd, lambda user: clients[user].request, herd.seconds)
    polls.cpu_s = time.process_time() - begun
    for client in clients.values():
        await client.__aexit__(None, None, None)
    polls.faults[SHOWN:] = [f"and {len(polls.faults) - SHOWN} members more"] if len(polls.faults) > SHOWN else []
    return polls


def _count(counts: dict[int, int], seconds: float) -> None:
    ms = int(seconds * 1_000)
    counts[ms] = counts.get(ms, 0) + 1


def _sum(*parts: dict[Any, int]) -> dict[Any, int]:
    pairs: Iterable[tuple[Any, int]] = (pair for part in parts for pair in part.items())
    found: dict[Any, int] = {}
    for key, count in pairs:
        found[key] = found.get(key, 0) + count
    return found


def main() -> None:
    """One process: it is ready when it has said so, and begins with the next line."""
    herd = msgspec.json.decode(sys.stdin.buffer.readline(), type=Herd)
    clients = {
        user: Http(herd.url, {"Authorization": f"Bearer {token(user)}"}, timeout_s=ANSWER_S) for user in herd.users
    }
    print("ready", flush=True)
    sys.stdin.buffer.readline()
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(over_http(herd, clients))))


if __name__ == "__main__":
    main()
