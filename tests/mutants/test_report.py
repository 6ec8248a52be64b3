"""The report of a run of mutmut, from files as mutmut writes them."""

import json
from pathlib import Path

from tests.mutants.__main__ import text_of
from tests.mutants.report import Module, Mutant, report_of

MODULE = '''
class Wheel:
    def xǁWheelǁadd__mutmut_orig(self, due):
        """Adds."""
        return due + 1

    def xǁWheelǁadd__mutmut_1(self, due):
        """Adds."""
        return due - 1

    def xǁWheelǁadd__mutmut_2(self, due):
        """Adds."""
        return due + 2

def x_free__mutmut_orig():
    return 1

def x_free__mutmut_1():
    return 2
'''


def test_survivors_are_shown_as_differences_and_what_was_not_tried_is_counted(tmp_path: Path) -> None:
    statuses = {
        "a.wheel.xǁWheelǁadd__mutmut_1": 0,
        "a.wheel.xǁWheelǁadd__mutmut_2": 1,
        "a.wheel.x_free__mutmut_1": None,
    }
    (tmp_path / "wheel.py").write_text(MODULE)
    (tmp_path / "wheel.py.meta").write_text(json.dumps({"exit_code_by_key": statuses}))
    report = report_of(tmp_path)
    assert report.modules == [Module("wheel", 3, 2, 1)]
    assert report.survivors == [Mutant("wheel.py Wheel.add", "  -    return due + 1\n  +    return due - 1")]
    assert text_of(report).endswith("wheel: 1 of 2 caught, 3 in all\n3 mutants, 2 tried, 1 caught, 1 survive\n")


def test_a_function_that_no_test_runs_counts_as_a_survivor(tmp_path: Path) -> None:
    (tmp_path / "wheel.py").write_text(MODULE)
    (tmp_path / "wheel.py.meta").write_text(json.dumps({"exit_code_by_key": {"a.wheel.x_free__mutmut_1": 33}}))
    assert report_of(tmp_path).survivors == [Mutant("wheel.py free", "  -    return 1\n  +    return 2")]
