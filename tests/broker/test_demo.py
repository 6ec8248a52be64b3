"""`headgate demo`, as a new user and as a pipe: what it prints, how it ends."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from headgate.broker.demos import DEMOS, DemoRun
from headgate.cli.demo import demo, line_of
from headgate.cli.invocation import WrongCommand
from headgate.core.wire.event_names import EventName

ROOT = Path(__file__).parents[2]
ALWAYS = ["event", "demo", "at", "topic", "id", "subscriber", "attempts", "status"]


def lines(capfdbinary: pytest.CaptureFixture[bytes], *names: str) -> list[dict[str, Any]]:
    assert demo(list(names), as_json=True) == 0
    return [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]


def test_piped_it_is_ndjson_and_nothing_else(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    found = lines(capfdbinary)
    events = [line for line in found if "event" in line]
    assert all(list(line)[:8] == ALWAYS for line in events)
    assert [line for line in found if "event" not in line] == [found[-1]]
    assert found[-1]["summary"]["dead_letter_count"] == 3
    assert list(dict.fromkeys(line["demo"] for line in found)) == list(DEMOS)


def test_together_they_show_all_ten_events(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert {line["event"] for line in lines(capfdbinary) if "event" in line} == {
        str(name)
        for name in EventName
        if name is not EventName.MODE_SWITCHED  # of topics on the network
    }


def test_each_shows_what_it_is_for(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    by_demo: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines(capfdbinary):
        by_demo[line["demo"]].append(line)

    def names(demo: str, **where: object) -> list[str]:
        return [e["event"] for e in by_demo[demo] if "event" in e and all(e[k] == v for k, v in where.items())]

    assert names("basic", id=2) == ["message_enqueued", "delivering", "delivered"]
    assert names("retry", id=1)[1:] == ["delivering", "failed", "retry_scheduled"] * 2 + ["delivering", "delivered"]
    delivered = [e for e in by_demo["broadcast"] if e.get("event") == "delivered" and e["id"] == 1]
    assert {e["subscriber"]: e["attempts"] for e in delivered} == {"website": 1, "newsletter": 2, "archive": 1}
    swaps = [(e["old"], e["new"]) for e in by_demo["strategies"] if e["event"] == "strategy_swapped"]
    assert swaps == [("batched(3)", "immediate"), ("immediate", "batched(3)")]
    reasons = [e["reason"] for e in by_demo["strategies"] if e["event"] == "batch_flush"]
    assert reasons == ["size", "swap", "flush", "delay"]
    assert names("backpressure").count("dead_letter") == 3
    assert names("backpressure").count("backpressure") == 1
    assert by_demo["backpressure"][-2]["subscriber"] == "legacy", "the replay goes to it alone"


def test_twice_gives_the_same(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert lines(capfdbinary) == lines(capfdbinary)


def test_one_by_name_and_an_unknown_one(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert {line["demo"] for line in lines(capfdbinary, "retry")} == {"retry"}
    with pytest.raises(WrongCommand, match="there are basic, retry"):
        demo(["nonsense"])


def test_a_person_reads_narration_events_and_the_summary() -> None:
    shown: list[str] = []
    demo_run = DemoRun("backpressure", lambda line: shown.append(line_of(line).plain), shown.append)
    DEMOS["backpressure"](demo_run)
    text = "\n".join(shown)
    assert "refused: 3 messages wait in topic orders" in text
    assert "  0.75 s  dead_letter       orders #1     legacy      try 3  DEAD_LETTER" in text
    assert "dead_letter_count  3" in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize("name", list(DEMOS))
def test_each_example_runs_alone(name: str) -> None:
    done = subprocess.run(
        [sys.executable, f"examples/broker/{name}.py"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {json.loads(line)["demo"] for line in done.stdout.splitlines()} == {name}
    assert done.stderr == ""
