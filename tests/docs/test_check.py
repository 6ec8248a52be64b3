"""The checker of the built site notices what it is there for."""

from pathlib import Path

import pytest

from docs.site.check import faults, main
from headgate.core.wire.errors import CODES


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "reference").mkdir()
    anchors = "".join(f'<h2 id="{code}"></h2>' for code in CODES)
    (tmp_path / "reference" / "errors.html").write_text(anchors)
    (tmp_path / "index.html").write_text('<a href="reference/errors.html#gone">x</a> <script src="a.js"></script>')
    return tmp_path


def test_a_good_site_has_no_fault(site: Path) -> None:
    (site / "index.html").write_text('<a href="https://example.com/#x">x</a> <link rel="canonical" href="https://a/">')
    assert list(faults(site)) == []
    assert main([str(site)]) == 0


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="none.html">x</a>', "index.html: no target for none.html"),
        ('<a href="reference/errors.html#none">x</a>', "index.html: no target for reference/errors.html#none"),
        ('<a href="#none">x</a>', "index.html: no target for #none"),
        ('<script src="https://cdn.example.com/a.js"></script>', "index.html: loads https://cdn.example.com/a.js"),
        ('<img src="//cdn.example.com/a.png">', "index.html: loads //cdn.example.com/a.png"),
        ('<link rel="stylesheet" href="https://a/b.css">', "index.html: loads https://a/b.css"),
    ],
)
def test_a_dead_link_or_a_foreign_file_is_a_fault(site: Path, html: str, fault: str) -> None:
    (site / "index.html").write_text(html)
    assert list(faults(site)) == [fault]
    assert main([str(site)]) == 1


def test_a_style_sheet_that_loads_from_elsewhere_is_a_fault(site: Path) -> None:
    (site / "a.css").write_text('@import "https://fonts.example.com/x"; a { background: url(data:x) }')
    assert list(faults(site)) == ["a.css: loads https://fonts.example.com/x"]


def test_an_error_code_without_its_anchor_is_a_fault(site: Path) -> None:
    page = site / "reference" / "errors.html"
    page.write_text(page.read_text().replace('id="gone"', 'id="was"'))
    assert list(faults(site)) == [
        "index.html: no target for reference/errors.html#gone",
        "reference/errors.html: no anchor gone",
    ]
