"""`python -m tests`: every test module is in one of its three runs, and what fails beside others is tried alone."""

import textwrap
from pathlib import Path

import pytest

import tests.__main__ as runs
from tests.__main__ import AGAIN_AT_MOST, main, parts

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


UNSTEADY = """
    from pathlib import Path
    import pytest

    @pytest.mark.parametrize("number", range(COUNT))
    def test_second_time_lucky(number):
        mark = Path(__file__).with_suffix(f".{number}")
        before = mark.exists()
        mark.touch()
        assert before
"""
PASSES = "def test_passes(): pass"


def planted(folder: Path, monkeypatch: pytest.MonkeyPatch, *sources: str) -> None:
    """Lets the three runs have one module each, with this text."""
    paths = [folder / f"test_planted_{number}.py" for number in range(3)]
    for path, source in zip(paths, sources, strict=True):
        path.write_text(textwrap.dedent(source).replace("COUNT", "1"), "utf-8")
    monkeypatch.setattr(runs, "parts", lambda: tuple([str(path)] for path in paths))


def test_what_fails_beside_others_and_passes_alone_is_unsteady(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    planted(tmp_path, monkeypatch, UNSTEADY, UNSTEADY, PASSES)
    assert main([]) == 0
    assert capfd.readouterr().out.count("::test_second_time_lucky[0]: failed beside others, passed alone") == 2


@pytest.mark.parametrize(
    "sources",
    [
        ("def test_never(): assert False", PASSES, PASSES),
        (PASSES, PASSES, UNSTEADY),
        (UNSTEADY.replace("COUNT", str(AGAIN_AT_MOST + 1)), PASSES, PASSES),
    ],
    ids=["fails_twice", "it_computes", "too_many"],
)
def test_what_else_fails_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: tuple[str, str, str]
) -> None:
    planted(tmp_path, monkeypatch, *sources)
    assert main([]) == 1
