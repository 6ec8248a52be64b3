"""Reads what mutmut leaves in a folder: which mutants were tried, and how the survivors differ from the source.

mutmut writes each source with all of its mutants (`x_name__mutmut_3` beside `x_name__mutmut_orig`), and a `.meta` file
with the exit status of the tests for each; null where it was not tried.
"""

import ast
import difflib
import json
import re
import textwrap
from pathlib import Path
from typing import Final, NamedTuple

SURVIVED: Final = (0, 5, 33)  # the tests pass; no test was found; no test runs this function
_MUTANT: Final = re.compile(r"(.+)__mutmut_(\w+)")


class Mutant(NamedTuple):
    """One survivor; `where` is the file and the function."""

    where: str
    difference: str


class Module(NamedTuple):
    """One module's numbers."""

    module: str
    all: int
    tried: int
    caught: int


class Report(NamedTuple):
    """The numbers of each module, and the survivors."""

    modules: list[Module]
    survivors: list[Mutant]

    @property
    def all(self) -> int:
        """How many mutants there are."""
        return sum(each.all for each in self.modules)

    @property
    def tried(self) -> int:
        """How many had their tests run."""
        return sum(each.tried for each in self.modules)

    @property
    def caught(self) -> int:
        """How many a test noticed."""
        return sum(each.caught for each in self.modules)


def report_of(folder: Path) -> Report:
    """Returns the report of the modules in `folder`."""
    modules: list[Module] = []
    survivors: list[Mutant] = []
    for path in sorted(folder.glob("*.py.meta")):
        statuses: dict[str, int | None] = json.loads(path.read_text("utf-8"))["exit_code_by_key"]
        tried = [status for status in statuses.values() if status is not None]
        caught = [status for status in tried if status not in SURVIVED]
        modules.append(Module(path.name.removesuffix(".py.meta"), len(statuses), len(tried), len(caught)))
        functions = _functions(path.with_suffix(""))
        for name, status in statuses.items():
            if status in SURVIVED:
                survivors.append(_survivor(path.name.removesuffix(".meta"), name.rpartition(".")[2], functions))
    return Report(modules, survivors)


def _functions(path: Path) -> dict[str, str]:
    text = path.read_text("utf-8")
    lines = text.splitlines()
    return {
        node.name: textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def _survivor(file: str, name: str, functions: dict[str, str]) -> Mutant:
    function = _MUTANT.sub(r"\1", name)
    before, after = functions[f"{function}__mutmut_orig"], functions[name].replace(name, f"{function}__mutmut_orig")
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    plain = ".".join(part for part in function.removeprefix("x").removeprefix("_").split("ǁ") if part)
    return Mutant(f"{file} {plain}", "\n".join(f"  {line}" for line in changed))
