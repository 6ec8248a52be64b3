"""The order of the tests of a mutant."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.mutants.order import pytest_collection_modifyitems


def item(file: str, name: str) -> Any:
    return SimpleNamespace(path=Path("tests/core/fanout", file), name=name)


def test_the_tests_of_the_changed_module_come_first_and_those_of_memory_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MUTANT_UNDER_TEST", "headgate.core.fanout.wheel.xǁWheelǁadd__mutmut_3")
    items = [
        item("test_hub.py", "a"),
        item("test_wheel.py", "b"),
        item("test_wheel.py", "a_million"),
        item("x.py", "c"),
    ]
    pytest_collection_modifyitems(items)
    assert [(each.path.name, each.name) for each in items] == [
        ("test_wheel.py", "b"),
        ("test_hub.py", "a"),
        ("x.py", "c"),
    ]
