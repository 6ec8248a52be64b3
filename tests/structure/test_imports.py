"""No two modules of the shipped packages import each other, directly or through others."""

from pathlib import Path

from tests.structure.sources import Sources, cycles, shipped

# (importer, imported): the reason why this one import may close a ring. Empty, and meant to stay so.
ALLOWED: dict[tuple[str, str], str] = {}


def rings_of(sources: Sources, allowed: set[tuple[str, str]]) -> list[list[str]]:
    arrows = {
        module: {target for target in targets if (module, target) not in allowed}
        for module, targets in sources.imports().items()
    }
    return cycles(arrows)


def test_no_modules_import_each_other() -> None:
    assert rings_of(shipped(), set(ALLOWED)) == [], "each list is a ring of modules"


def test_every_kind_of_import_closes_a_ring(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    files = {
        "__init__": "",
        "plain": "import pack.typed\n",
        "typed": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.local import x\n",
        "local": "def f():\n    from pack import plain\n",
        "outside": "from pack import plain\nimport asyncio\n",
    }
    for name, text in files.items():
        (pack / f"{name}.py").write_text(text)
    sources = Sources(tmp_path, ("pack",))
    ring = ["pack.local", "pack.plain", "pack.typed"]
    assert rings_of(sources, set()) == [ring]
    assert rings_of(sources, {("pack.local", "pack.plain")}) == []
    assert rings_of(sources, {("pack.plain", "pack.local")}) == [ring], "the other direction"


def test_an_import_of_a_package_by_a_module_inside_it_closes_a_ring(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").write_text("from pack.inner import x\n")
    (pack / "inner.py").write_text("from pack import y\n")
    assert rings_of(Sources(tmp_path, ("pack",)), set()) == [["pack", "pack.inner"]]
