"""A newcomer with the README alone finds the places in the code that matter most, in two steps."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
ROW = re.compile(r"^\| (.+\?) \| `([\w/.]+)` \| `(\w+)` \|$", re.MULTILINE)
QUESTIONS = {
    "Where does a message get its number?",
    "Where does a subscribe wait for its owner?",
    "Where is a slow client parked?",
    "Where is a new error code added?",
}


def names_in(path: Path) -> set[str]:
    """The functions, methods, classes and constants that a file defines."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def section() -> str:
    found = re.search(r"^## Start reading here$(.*?)^## ", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_readme_leads_to_the_page() -> None:
    assert "](docs/architecture.md#start-reading-here)" in (ROOT / "README.md").read_text("utf-8")


def test_the_page_answers_the_four_questions() -> None:
    assert {question for question, _, _ in ROW.findall(section())} >= QUESTIONS


@pytest.mark.parametrize(("question", "file", "name"), ROW.findall(section()))
def test_an_answer_names_a_file_that_defines_what_it_says(question: str, file: str, name: str) -> None:
    assert name in names_in(ROOT / file), question


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:headgate|ingest|dispatcher|gateway|tests)/[\w/.-]+\.py)`", PAGE.read_text("utf-8")))
    assert len(named) > len(QUESTIONS)
    assert [name for name in sorted(named) if "NAME" not in name and not (ROOT / name).exists()] == []
