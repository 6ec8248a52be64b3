"""The page that every problem answer links to: it is there, and every code has its section."""

import re
from pathlib import Path

from headgate.core.wire.errors import CODES, Refusal
from headgate.runtime.http.problem import DOCUMENTATION, SITE, members_of

DOCS = Path(__file__).parents[2] / "docs"


def page_of(link: str) -> Path:
    return DOCS / link.removeprefix(SITE).partition("#")[0].replace(".html", ".md")


def sections() -> dict[str, str]:
    text = page_of(DOCUMENTATION).read_text("utf-8")
    return dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def test_the_link_of_every_answer_leads_to_its_section() -> None:
    for code in CODES:
        link = members_of(Refusal(code, "why"))["type"]
        assert page_of(link).exists(), link
        assert link.partition("#")[2] in sections(), link


def test_every_code_has_a_section_and_no_section_is_left_over() -> None:
    assert list(sections()) == list(CODES)


def test_every_section_says_what_to_do() -> None:
    assert [code for code, text in sections().items() if "\n**Do:** " not in text] == []


def test_section_6_of_the_protocol_has_every_code_with_its_status() -> None:
    page = (DOCS / "protocol.md").read_text("utf-8")
    section = page.partition("\n## 6. ")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+) \| (\d{3}) \| .+ \|$", section, re.MULTILINE)
    found = {code: int(status) for names, status in rows for code in re.findall(r"`(\w+)`", names)}
    assert found == {name: code.status for name, code in CODES.items()}
