"""One name, one meaning: no class name and no file name is used twice in the shipped packages without a reason."""

from collections.abc import Collection
from pathlib import Path

from tests.structure.sources import Sources, shipped

CLASSES_ALLOWED = {
    "Subscription": "the field's word twice: a client's in the gateway, and a public name of the in-process broker",
}

FILES_ALLOWED = {
    "__init__.py": "Python's own name",
    "service.py": "builds the objects of a role and starts its tasks, in every role",
    "app.py": "the HTTP application of a service",
    "history.py": "one endpoint: its handler (ingest), its command (cli), the pages that an owner reads (dispatcher)",
    "ports.py": "the protocols that a package asks of others, beside their user",
    "publish.py": "one endpoint: its handler and its command",
    "topics.py": "the endpoints of topics: their handlers and their commands",
}


def classes_twice(sources: Sources) -> dict[str, list[str]]:
    return {name: where for name, where in sources.classes().items() if len(where) > 1}


def files_twice(sources: Sources) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sources.paths.values():
        found.setdefault(path.name, []).append(path.relative_to(sources.root).as_posix())
    return {name: where for name, where in found.items() if len(where) > 1}


def without(found: dict[str, list[str]], allowed: Collection[str]) -> dict[str, list[str]]:
    return {name: where for name, where in found.items() if name not in allowed}


def test_a_class_name_is_defined_once() -> None:
    assert without(classes_twice(shipped()), CLASSES_ALLOWED) == {}


def test_a_file_name_is_used_once() -> None:
    assert without(files_twice(shipped()), FILES_ALLOWED) == {}


def test_every_exception_is_still_needed() -> None:
    sources = shipped()
    assert set(CLASSES_ALLOWED) - set(classes_twice(sources)) == set()
    assert set(FILES_ALLOWED) - set(files_twice(sources)) == set()


def test_names_that_are_used_twice_are_found(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "one" / "a.py").write_text("class Entry(NamedTuple):\n    x: int\nclass Only: ...\n")
    (tmp_path / "two" / "a.py").write_text("def f():\n    class Entry: ...\n")
    (tmp_path / "two" / "b.py").write_text("class _Own: ...\nclass Outer:\n    class _Own: ...\n")
    sources = Sources(tmp_path, ("one", "two"))
    assert classes_twice(sources) == {"Entry": ["one.a", "two.a"], "_Own": ["two.b", "two.b"]}
    assert files_twice(sources) == {"a.py": ["one/a.py", "two/a.py"]}
    assert without(files_twice(sources), {"a.py"}) == {}
