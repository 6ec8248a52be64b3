"""`headgate canary`: round trips through a real server, and what it counts when a server misbehaves."""

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from headgate.cli import canary_trips
from headgate.cli.canary import client_of
from headgate.cli.canary_trips import RoundTrips
from headgate.runtime.canary_metrics import CanaryMetrics
from headgate.runtime.settings import load
from headgate.runtime.settings_model import CanarySettings
from headgate_client import Problem, SubscriptionEnded, Unreachable
from tests.cli.conftest import Command, Headgate
from tests.contract.virtual import VirtualLoop, run
from tests.vectors.served import free_port

SECRET = "x" * 40


class CanaryTwin:
    """A stand-in for the client: it publishes to itself, and each message comes, or does not, as `fate` says."""

    def __init__(self) -> None:
        self.fate: Callable[[int], list[float]] = lambda number: [0.1]  # after how many seconds it comes, how often
        self.answer: Callable[[int], Exception | None] = lambda number: None
        self.made: list[str] = []
        self.starts: list[Any] = []
        self.error: asyncio.Future[None] | None = None
        self.seqs: dict[str, int] = {}
        self.marks: list[tuple[str, int]] = []
        self.on_frame: Any = None

    def connect(self, on_frame: Any) -> "CanaryTwin":
        self.on_frame = on_frame
        return self

    async def __aenter__(self) -> "CanaryTwin":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def request(self, method: str, path: str, *, body: Any) -> None:
        if body["topic_id"] in self.made:
            raise Problem(409, {"code": "topic_exists"})
        self.made.append(body["topic_id"])

    def subscribe(self, *topics: str, from_: Any) -> "CanaryTwin":
        self.starts.append(from_)
        self.error = asyncio.get_running_loop().create_future()
        for topic_id in topics:
            self.on_frame({"type": "subscribed", "topic_id": topic_id, "epoch": 7}, b"")
        return self

    def __aiter__(self) -> "CanaryTwin":
        return self

    async def __anext__(self) -> None:
        assert self.error is not None
        await self.error

    async def ready(self) -> None:
        pass

    async def mark_read(self, topic_id: str, seq: int) -> None:
        self.marks.append((topic_id, seq))
        if len(self.marks) == 1:
            raise Unreachable("away")

    async def publish(self, topic_id: str, payload: Any) -> None:
        loop = asyncio.get_running_loop()
        seq = self.seqs[topic_id] = self.seqs.get(topic_id, 0) + 1
        frame = {"type": "message", "topic_id": topic_id, "seq": seq, "payload": payload}
        for delay in self.fate(payload["number"]):
            loop.call_later(delay, self.on_frame, frame, b"")
        if (error := self.answer(payload["number"])) is not None:
            raise error


def counted(metrics: CanaryMetrics) -> dict[str, float]:
    """What is not 0, by name without the first part; publishes by outcome."""
    found = {}
    for family in metrics.families():
        for sample in family.samples:
            if sample.value and sample.name.endswith("_total"):
                found[sample.labels.get("outcome") or sample.name.split("_")[2]] = sample.value
    return found


@pytest.fixture
def on_virtual_time() -> Callable[[CanaryTwin, float], tuple[dict[str, float], RoundTrips]]:
    loop = VirtualLoop()

    def go(served: CanaryTwin, seconds: float) -> tuple[dict[str, float], RoundTrips]:
        metrics = CanaryMetrics()
        settings = CanarySettings(topics=2, every_s=1.0, late_s=1.0, lost_s=10.0)
        trips = RoundTrips(settings, served.connect, metrics, loop)  # type: ignore[arg-type]

        async def scene() -> None:
            tasks = [asyncio.create_task(trips.run()), asyncio.create_task(trips.give_up())]
            await asyncio.sleep(seconds - 0.5)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        run(loop, scene())
        return counted(metrics), trips

    return go


Go = Callable[[CanaryTwin, float], tuple[dict[str, float], RoundTrips]]


def test_one_message_a_second_to_its_topics_in_turn(on_virtual_time: Go) -> None:
    served = CanaryTwin()
    found, trips = on_virtual_time(served, 20.0)
    assert found == {"accepted": 20, "received": 20}
    assert served.seqs == {"headgate-canary-0": 10, "headgate-canary-1": 10} == dict.fromkeys(served.made, 10)
    assert trips.not_publishing() is None and trips.not_receiving() is None


def test_it_marks_what_came_as_read_and_what_failed_again(on_virtual_time: Go) -> None:
    """It is the owner of its topics: their unread messages would be an inbox backlog that raises an alert."""
    served = CanaryTwin()
    found, _ = on_virtual_time(served, 25.0)
    assert found["received"] == 25
    first, second = served.made
    assert served.marks == [(second, 5), (first, 5), (second, 10), (first, 10)]


def test_what_does_not_come_is_lost_and_what_comes_late_is_late(on_virtual_time: Go) -> None:
    served = CanaryTwin()
    served.fate = lambda number: {3: [], 4: [2.0], 5: [12.0]}.get(number, [0.1])
    found, _ = on_virtual_time(served, 30.0)
    assert found == {"accepted": 30, "received": 29, "late": 2, "lost": 2, "found": 1, "disordered": 1}


def test_repeats_and_disorder(on_virtual_time: Go) -> None:
    served = CanaryTwin()
    served.fate = lambda number: {3: [0.1, 0.2], 4: [2.5]}.get(number, [0.1])
    found, _ = on_virtual_time(served, 20.0)
    assert found == {"accepted": 20, "received": 20, "repeated": 1, "late": 1, "disordered": 1}


def test_publishes_that_fail_are_counted_by_outcome_and_are_not_lost(on_virtual_time: Go) -> None:
    served = CanaryTwin()
    problems = {3: Problem(503, {"code": "log_unavailable"}), 4: Unreachable("away"), 5: Problem(502, {})}
    served.answer = problems.get
    served.fate = lambda number: [] if number in problems else [0.1]
    found, _ = on_virtual_time(served, 30.0)
    assert found == {"accepted": 27, "received": 27, "log_unavailable": 1, "unreachable": 1, "other": 1}


def test_when_its_subscription_ends_it_begins_again_at_what_it_awaits(on_virtual_time: Go) -> None:
    served = CanaryTwin()

    def end(number: int) -> list[float]:
        if number == 3:
            assert served.error is not None
            served.error.set_exception(SubscriptionEnded("headgate-canary-1", "deleted"))
            return []
        return [0.1]

    served.fate = end
    found, _ = on_virtual_time(served, 20.0)
    assert (found["restarts"], found["lost"]) == (1, 1), "what was owed is not forgotten"
    assert served.starts[0] == "live" and set(served.starts[1]) == {"ts"}


def test_it_is_not_ready_while_nothing_is_accepted_or_comes(on_virtual_time: Go) -> None:
    served = CanaryTwin()
    served.fate = lambda number: []
    served.answer = lambda number: Unreachable("nobody is there")
    _, trips = on_virtual_time(served, 40.0)
    assert "nobody is there" in (trips.not_publishing() or "")
    assert trips.not_receiving() == "nothing came in the last 30 s"


def test_a_slow_server_is_not_given_more_than_some_publishes_at_once(
    on_virtual_time: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(CanaryTwin):
        async def publish(self, topic_id: str, payload: Any) -> None:
            await asyncio.sleep(1e6)

    monkeypatch.setattr(canary_trips, "IN_FLIGHT", 4)
    assert on_virtual_time(Stuck(), 10.0)[0] == {"skipped": 6}


def test_it_publishes_for_its_time_and_waits_for_what_is_on_its_way() -> None:
    served, loop, metrics = CanaryTwin(), VirtualLoop(), CanaryMetrics()
    served.fate = lambda number: {10: [], 9: [4.0]}.get(number, [0.1])
    settings = CanarySettings(topics=2, every_s=1.0, late_s=1.0, lost_s=10.0)
    trips = RoundTrips(settings, served.connect, metrics, loop)  # type: ignore[arg-type]

    async def scene() -> float:
        tasks = [asyncio.create_task(trips.run()), asyncio.create_task(trips.give_up())]
        await trips.end_after(9.5)
        ended = loop.time()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return ended

    began = loop.time()
    took = run(loop, scene()) - began
    assert 19.0 <= took <= 20.5, "the last message is given up 10 s after it was sent"
    assert counted(metrics) == {"accepted": 10, "received": 9, "late": 1, "lost": 1}


def test_late_above_lost_is_refused(at_once: Command) -> None:
    done = at_once("canary", "--canary.late_s", "9", "--canary.lost_s", "8")
    assert done.status == 2 and "canary.late_s is 9" in done.err


async def test_its_token_is_good_for_its_topics_and_no_other() -> None:
    import jwt  # noqa: PLC0415

    from headgate.runtime.token_claims import Claims  # noqa: PLC0415

    settings = load({"auth.secret": SECRET, "auth.token_life_s": "60"}, None, {})
    client = client_of(settings, lambda *_: None)
    credential = await client._api._credentials.get()
    assert credential is not None
    claims: Claims = jwt.decode(credential.text, SECRET, algorithms=["HS256"])
    assert claims["sub"] == "headgate-canary" and claims["exp"] - claims["iat"] <= 61
    assert "headgate-canary-*" in json.dumps(claims) and "admin" not in claims
    await client.close()


def test_round_trips_through_a_real_server(headgate: Headgate) -> None:
    port, admin, own = free_port(), free_port(), free_port()
    secret = {"HEADGATE_AUTH__SECRET": SECRET}
    server = headgate.start("dev", "--port", str(port), "--admin.port", str(admin), **secret)
    every = ("--canary.every_s", "0.05", "--admin.host", "127.0.0.1", "--admin.port", str(own))
    process = headgate.start("canary", "--url", f"http://127.0.0.1:{port}", *every, **secret)
    try:
        deadline = time.monotonic() + 40.0
        while _metric(own, "received_total") < 20:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        assert _status(own, "/readyz") == 200 and _status(own, "/livez") == 200
        assert _metric(own, 'publishes_total{outcome="accepted"}') >= 20
        assert [_metric(own, f"{name}_total") for name in ("lost", "repeated", "disordered")] == [0.0] * 3
        assert _metric(own, "delivery_seconds_count") >= 20
        process.terminate()
        assert process.wait(20) == 0
    finally:
        for each in (process, server):
            each.kill()
            each.communicate()


def test_a_run_with_an_end_says_whether_all_was_well(headgate: Headgate) -> None:
    port, admin = free_port(), free_port()
    secret = {"HEADGATE_AUTH__SECRET": SECRET}
    url = ("--url", f"http://127.0.0.1:{port}", "--canary.every_s", "0.05", "--canary.late_s", "20")
    ends = ("--canary.run_s", "1", "--canary.lost_s", "30", "--admin.port")
    nobody = headgate("canary", *url, *ends, str(free_port()), HEADGATE_AUTH__SECRET=SECRET)
    assert nobody.status == 1 and nobody.out.startswith("none of 0 messages was accepted")
    server = headgate.start("dev", "--port", str(port), "--admin.port", str(admin), **secret)
    try:
        deadline = time.monotonic() + 40.0
        while _ready(admin) != 200:
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.1)
        done = headgate("canary", *url, *ends, str(free_port()), HEADGATE_AUTH__SECRET=SECRET)
        assert (done.status, done.out) == (0, "good\n"), done.err
        shown = headgate.start(
            "canary", *url, "--canary.run_s", "600", "--admin.port", str(own := free_port()), **secret
        )
        while _metric(own, "received_total") < 1:
            assert time.monotonic() < deadline and shown.poll() is None
            time.sleep(0.1)
        shown.terminate()
        out, _ = shown.communicate(timeout=20)
        assert shown.returncode == 1 and b"stopped before its time" in out
    finally:
        server.kill()
        server.communicate()


def _ready(port: int) -> int:
    try:
        return _status(port, "/readyz")
    except OSError:  # not there yet, or 503
        return 0


def _status(port: int, path: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return int(answer.status)


def _metric(port: int, name: str) -> float:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return 0.0
    (found,) = re.findall(rf"^headgate_canary_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found)
