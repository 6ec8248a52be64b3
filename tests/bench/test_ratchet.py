"""The ratchet: worse by more than a tenth fails, in the direction that is worse for the ratio; better is kept."""

import pytest

from bench import ratchet


def test_more_is_better_for_fanout_and_worse_for_the_others() -> None:
    before = {"fanout.websocket_1": 1.0, "connects.dev_connect": 4.0, "small.dev": 9.0}
    now = {"fanout.websocket_1": 0.89, "connects.dev_connect": 4.3, "small.dev": 10.0, "small.new": 3.0}
    verdicts = {verdict.name: verdict for verdict in ratchet.judge(before, now)}
    assert [name for name, verdict in verdicts.items() if verdict.is_worse] == ["fanout.websocket_1", "small.dev"]
    assert str(verdicts["small.dev"]).split() == ["small.dev", "9.00", "->", "10.00", "WORSE"]
    assert str(verdicts["connects.dev_connect"]).endswith("as before")
    better = ratchet.judge(before, {"fanout.websocket_1": 1.2, "connects.dev_connect": 3.0})
    assert all(str(verdict).endswith("better") for verdict in better)


async def test_what_is_worse_is_measured_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([{"small.dev": 12.0, "small.other": 1.0}, {"small.dev": 9.5, "small.other": 1.2}])

    async def run(rounds: int) -> dict[str, float]:
        return next(taken)

    monkeypatch.setattr(ratchet, "RUNS", {"small": run})
    found = await ratchet.measure(1, {"small.dev": 9.0, "small.other": 1.0})
    assert [(verdict.name, verdict.now) for verdict in found] == [("small.dev", 9.5), ("small.other", 1.0)]


def test_the_file_is_read_as_it_is_written_and_names_what_is_measured() -> None:
    ratios = {"fanout.sse_1": 1.01, "connects.dev_resume": 4.25}
    assert ratchet.read(ratchet.written(ratios)) == ratios
    kept = ratchet.read(ratchet.FILE.read_text("utf-8"))
    assert {name.partition(".")[0] for name in kept} == set(ratchet.RUNS)
    assert all(ratio > 0 for ratio in kept.values())
