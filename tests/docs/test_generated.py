"""The generated parts of the pages: kept ones are current, built ones name everything that the code has."""

import re
from enum import Enum
from importlib import import_module
from pathlib import Path

import pytest

from docs import generate
from docs.site.command_lines import command_lines
from docs.site.diagrams import diagram, flat
from docs.site.metric_sections import metric_sections
from docs.site.setting_sections import setting_sections, settings_of
from headgate.core.delivery import delivery
from headgate.core.delivery.breaker import BREAKER_TRANSITIONS, BreakerState
from headgate.runtime.metrics import Metrics
from headgate.runtime.settings import NAMES

PAGES = Path(generate.__file__).parent
TABLES = 6  # transition tables of the core, at least


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PAGES.parent).with_suffix("").parts)


def test_the_kept_parts_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_part_is_noticed_and_written_anew(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n<!-- generated: breaker -->\nold\n<!-- end -->\nrest\n")
    monkeypatch.setattr(generate, "HERE", tmp_path)
    assert generate.main(["--check"]) == 1
    assert "page.md is stale" in capsys.readouterr().err
    assert generate.main([]) == 0
    assert "closed --> open: trip" in page.read_text()
    assert generate.main(["--check"]) == 0


def test_built_parts_stay_out_of_the_page_until_the_site_is_built() -> None:
    page = (PAGES / "reference" / "metrics.md").read_text("utf-8")
    assert generate.filled(page) == page
    assert "headgate_sessions" in generate.filled(page, generate.BUILT)


def test_every_part_is_on_a_page_and_every_mark_names_a_part() -> None:
    texts = [page.read_text("utf-8") for page in PAGES.rglob("*.md")]
    named = {found[2] for marks in (generate.KEPT, generate.BUILT) for text in texts for found in marks.finditer(text)}
    assert named == set(generate.PARTS)


def test_a_diagram_has_every_transition_and_ends_in_the_final_states() -> None:
    drawn = diagram(BREAKER_TRANSITIONS, BreakerState.CLOSED)
    assert drawn.count("-->") == 1 + len(BREAKER_TRANSITIONS)
    assert "    half_open --> closed: close\n" in drawn
    assert "DEAD_LETTER --> [*]" in diagram(delivery.TRANSITIONS, delivery.Status.CREATED)


def test_an_event_that_ends_every_state_is_one_arrow() -> None:
    class Step(Enum):
        A = "a"
        B = "b"
        OVER = "over"

    class Event(Enum):
        GO = "go"
        END = "end"

    ends = {(Step.A, Event.END): Step.OVER, (Step.B, Event.END): Step.OVER}
    drawn = diagram(ends | {(Step.A, Event.GO): Step.B}, Step.A)
    assert "    every_state --> over: end\n" in drawn and drawn.count(": end\n") == 1
    drawn = diagram({(Step.A, Event.END): Step.OVER, (Step.A, Event.GO): Step.B, (Step.B, Event.GO): Step.OVER}, Step.A)
    assert "every_state" not in drawn, "not every state ends by it"


def test_every_transition_table_of_the_code_is_drawn() -> None:
    page = (PAGES / "internals" / "state-machines.md").read_text("utf-8")
    tables = {
        path: table
        for path in sorted((PAGES.parent / "headgate" / "core").rglob("*.py"))
        for name, table in vars(import_module(module_of(path))).items()
        if name.endswith("TRANSITIONS") and f"\n{name}: " in path.read_text("utf-8")
    }
    assert len(tables) >= TABLES
    for path, table in tables.items():
        arrows = table if isinstance(next(iter(table)), tuple) else flat(table)
        missing = [event.value for _, event in arrows if f": {event.value}\n" not in page]
        assert not missing, path


def test_every_setting_says_what_it_does() -> None:
    settings = list(settings_of())
    assert [each.name for each in settings] == list(NAMES)
    assert [each.name for each in settings if not each.meaning.endswith(".")] == []
    assert all(each.type and each.default for each in settings)


def test_a_setting_is_shown_with_its_type_bounds_default_and_variable() -> None:
    text = setting_sections()
    section = re.search(r"^### limits.batch_items$(.*?)^#", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert "Type: whole number from 1 to 1,000. Default: `1000`. Variable: `HEADGATE_LIMITS__BATCH_ITEMS`" in section[1]
    assert "### log.security.protocol\n" in text
    assert "Type: secret. Default: unset. Variable: `HEADGATE_AUTH__SECRET`" in text


def test_every_metric_has_a_section_with_its_meaning() -> None:
    found = re.findall(r"^## (headgate_\w+)\n\n(.+)\n\n(.+)$", metric_sections(), re.MULTILINE)
    sections = {name.removesuffix("_total"): (meaning, facts) for name, meaning, facts in found}
    assert set(sections) == {family.name for family in Metrics().collect()}
    assert all(meaning.endswith(".") for meaning, _ in sections.values())
    facts = "Type: counter. Roles: gateway. Labels: `reason` (`slow_consumer`, `retention`, `shed`)."
    assert sections["headgate_gap_messages"][1] == facts


def test_every_command_is_shown_with_its_flags() -> None:
    text = command_lines()
    for command in ("dev", "ingest", "publish", "topics create", "token mint", "config", "demo"):
        assert f"### headgate {command}\n" in text
    assert "`--topic-field NAME`" in text
    assert r"`--role dev\|ingest\|dispatcher\|gateway\|init`" in text
    assert "headgate publish TOPIC" in text or "headgate publish [TOPIC]" in text
