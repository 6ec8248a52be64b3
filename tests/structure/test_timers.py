"""Timers: none is asked when it fires. On uvloop one that is due within half a millisecond has no `when`."""

import ast

from tests.structure.sources import shipped


def asked(tree: ast.AST) -> list[int]:
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "when"]


def test_no_timer_is_asked_when_it_fires() -> None:
    assert asked(ast.parse("timer.when() > 1")) == [1]
    assert {module: lines for module, tree in shipped().trees.items() if (lines := asked(tree))} == {}
