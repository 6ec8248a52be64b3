"""Reads the sources of a tree: its modules, the classes they define, and which module imports which."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SHIPPED: Final = ("headgate", "ingest", "dispatcher", "gateway")

Arrows = dict[str, set[str]]


class Sources:
    """The modules below some packages of a tree, by dotted name."""

    def __init__(self, root: Path = ROOT, packages: tuple[str, ...] = SHIPPED) -> None:
        paths = sorted(path for package in packages for path in (root / package).rglob("*.py"))
        self.root = root
        self.paths = {_module(path.relative_to(root)): path for path in paths if "__pycache__" not in path.parts}

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Every module's syntax tree."""
        return {module: ast.parse(path.read_text("utf-8")) for module, path in self.paths.items()}

    def classes(self) -> dict[str, list[str]]:
        """Returns which modules define each class name, inner and private classes included."""
        found: dict[str, list[str]] = {}
        for module, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, []).append(module)
        return found

    def imports(self) -> Arrows:
        """Returns what each module imports of these packages: at its top, in a function, for type checking."""
        return {module: set(self._imported(tree)) - {module} for module, tree in self.trees.items()}

    def _imported(self, tree: ast.Module) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self.paths)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield from (name for name in [inner if inner in self.paths else node.module] if name in self.paths)


@cache
def shipped() -> Sources:
    """Returns the sources of the shipped packages, read once."""
    return Sources()


def cycles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Returns the groups of modules that import each other, directly or through others; each group sorted."""
    reach = {module: _reached(module, arrows) for module in arrows}
    rings = {tuple(sorted({other for other in reach[each] if each in reach[other]})) for each in arrows}
    return sorted(list(ring) for ring in rings if ring)


def _reached(module: str, arrows: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = set(arrows[module])
    while ahead:
        seen |= ahead
        ahead = {target for each in ahead for target in arrows[each]} - seen
    return seen


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
