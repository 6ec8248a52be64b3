"""The sources name only pages that a reader of this repository can open."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.structure.sources import ROOT

FOLDERS: Final = ("headgate", "ingest", "dispatcher", "gateway", "tests", "bench", "examples", "helm", "compose")
SUFFIXES: Final = {".py", ".yaml", ".yml", ".toml", ".json", ".tpl", ".mjs", ".js"}
# Notes that were never part of this repository, and the numbers of their sections and requirements.
ELSEWHERE: Final = re.compile(
    r"\bDESIGN\b|\bKAFKA\.md|\bSTYLE(?:\.md| \d)|\bPROTOCOL (?:section|\d)|\bdocument S\d|\bS[1-5]-[A-Z]|\.\./shared"
)
HERE: Final = {"tests/structure/test_citations.py"}


def citations(root: Path) -> list[str]:
    paths = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*")) if path.suffix in SUFFIXES]
    return [
        f"{name}:{number} {found[0]}"
        for path in paths
        if (name := path.relative_to(root).as_posix()) not in HERE and "node_modules" not in path.parts
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for found in ELSEWHERE.finditer(line)
    ]


def test_no_source_cites_a_page_that_is_not_here() -> None:
    found = citations(ROOT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "# DESIGN 4",
        "KAFKA.md",
        "STYLE 14",
        "PROTOCOL section 2",
        "(PROTOCOL 5)",
        "document S2",
        "S2-INV-1",
        "../shared/x",
    ],
)
def test_a_citation_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "headgate").mkdir()
    (tmp_path / "headgate" / "a.py").write_text(f'"""Fine, docs/protocol.md, section 4, PROTOCOL_ERROR."""\n{line}\n')
    assert len(citations(tmp_path)) == 1
    assert citations(tmp_path)[0].startswith("headgate/a.py:2 ")
