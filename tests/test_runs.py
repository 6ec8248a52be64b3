"""The three runs of `python -m tests` have every test module between them, and none twice."""

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
    found = [module for paths in parts() for module in modules(paths)]
    assert len(found) == len(set(found))
    assert set(found) == set((ROOT / "tests").rglob("test_*.py"))


def test_what_uses_a_real_kafka_is_in_a_run_that_waits() -> None:
    """Each run that uses it starts a broker."""
    _, _, computing = parts()
    assert [module for module in modules(computing) if "kafka_bootstrap" in module.read_text("utf-8")] == [
        Path(__file__)
    ]
