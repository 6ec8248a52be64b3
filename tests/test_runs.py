"""The two runs of `python -m tests` have every test module between them, and none twice."""

from pathlib import Path

from tests.__main__ import parts

ROOT = Path(__file__).parents[1]


def modules(paths: list[str]) -> list[Path]:
    return [
        module
        for path in paths
        for module in ([ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("test_*.py"))
    ]


def test_every_test_module_is_in_one_of_the_runs() -> None:
    waiting, computing = parts()
    found = modules(waiting) + modules(computing)
    assert len(found) == len(set(found))
    assert set(found) == set((ROOT / "tests").rglob("test_*.py"))


def test_what_uses_a_real_kafka_is_in_the_run_that_waits() -> None:
    """It is fetched once then: two runs would fetch it at the same time."""
    _, computing = parts()
    assert [module for module in modules(computing) if "kafka_bootstrap" in module.read_text("utf-8")] == [
        Path(__file__)
    ]
