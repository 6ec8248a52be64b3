"""The hard limits of the house style and the map of the sources, checked on the files as they stand."""

import ast
import importlib.util
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("headgate", "ingest", "dispatcher", "gateway")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_NESTING = 3
NAMES_THAT_SAY_NOTHING = {"common", "utils", "util", "helpers", "helper", "manager", "data", "info", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
# `with` is not counted: it neither branches nor repeats
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.Match)


IN_ROOT = {  # what a download may leave behind is not ours to publish
    ".dockerignore", ".editorconfig", ".gitattributes", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile",
    "LICENSE", "Makefile", "README.md", "SECURITY.md", "docker-compose.yml", "pyproject.toml",
}  # fmt: skip


def files_of(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if "__pycache__" not in path.parts and ".cache" not in path.parts]


SOURCES = files_of(*PACKAGES, "clients/python/src")
ALL_PYTHON = [*SOURCES, *files_of("tests", "bench", "examples")]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions_in(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def depth_of(node: ast.AST) -> int:
    """How many blocks stand in each other below a node; functions and classes inside begin anew."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef | ast.Lambda):
            continue
        elif_of = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
        deepest = max(deepest, depth_of(child) + (isinstance(child, BLOCKS) and not elif_of))
    return deepest


def parsed(paths: list[Path]) -> Iterator[tuple[str, ast.Module]]:
    return ((name_of(path), ast.parse(path.read_text("utf-8"))) for path in paths)


def test_the_root_has_the_files_that_it_should() -> None:
    tracked = subprocess.run(["git", "ls-files", ":(glob)*"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("this is not a git repository")
    assert set(tracked.stdout.split()) == IN_ROOT


def test_files_are_short_enough() -> None:
    lines = {name_of(path): path.read_text("utf-8").count("\n") for path in ALL_PYTHON}
    assert {name: count for name, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_functions_are_short_enough() -> None:
    spans = {
        f"{name}:{function.lineno} {function.name}": (function.end_lineno or function.lineno) - function.lineno + 1
        for name, tree in parsed(ALL_PYTHON)
        for function in functions_in(tree)
    }
    assert {name: lines for name, lines in spans.items() if lines > MAX_FUNCTION_LINES} == {}


def test_functions_are_flat() -> None:
    depths = {
        f"{name}:{function.lineno} {function.name}": depth_of(function)
        for name, tree in parsed(SOURCES)
        for function in functions_in(tree)
    }
    assert {name: depth for name, depth in depths.items() if depth > MAX_NESTING} == {}


def test_modules_say_what_they_are_and_have_a_name_that_says_something() -> None:
    assert [name for name, tree in parsed(SOURCES) if not ast.get_docstring(tree)] == []
    assert [name_of(path) for path in SOURCES if path.stem in NAMES_THAT_SAY_NOTHING] == []


def test_imports_are_absolute() -> None:
    relative = [
        f"{name}:{node.lineno}"
        for name, tree in parsed(SOURCES)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize("package", PACKAGES)
def test_package_resolves_inside_the_repository(package: str) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / package / "__init__.py"


def test_every_source_has_its_row_in_the_architecture_page() -> None:
    page = ROOT / "docs" / "architecture.md"
    assert page.exists(), "docs/architecture.md holds the table `Find it in a minute`"
    section = re.search(r"^#+ Find it in a minute$(.*?)(?=^#+ |\Z)", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert section is not None, "docs/architecture.md has no section `Find it in a minute`"
    named = set(re.findall(r"`([\w./-]+\.py)`", section[1]))
    there = {name_of(path) for path in SOURCES if path.name != "__init__.py"}
    assert there - named == set(), "sources without a row"
    assert {name for name in named if not (ROOT / name).exists()} == set(), "rows without a file"


def test_nesting_is_counted_as_people_count_it() -> None:
    """The checker itself: else-ifs are not deeper, a function inside a function begins anew."""
    code = "def f():\n if a:\n  for b in c:\n   while d:\n    if e: pass\n"
    assert depth_of(next(functions_in(ast.parse(code)))) == 4
    chain = "def f():\n if a: pass\n elif b: pass\n elif c:\n  def g():\n   if d:\n    if e: pass\n"
    assert depth_of(next(functions_in(ast.parse(chain)))) == 1
