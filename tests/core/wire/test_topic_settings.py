"""The whole settings table: what passes, what is refused by name, and what a topic shows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.topic_settings import (
    DEFAULTS,
    change,
    create,
    effective,
    heat_bounds,
    merge,
    overrides_of,
    presence_of,
    usual_with,
)

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "http.md"


def test_a_topic_that_names_no_profile_has_that_of_the_installation() -> None:
    for given in (None, {}, {"profile": None}):
        assert create(given, "ephemeral") == {"profile": "ephemeral"}
        assert create(given, "durable") == create(given) == {}
    assert create({"profile": "durable"}, "ephemeral") == {}
    assert create({"on_slow": "conflate"}, "ephemeral") == {"profile": "ephemeral", "on_slow": "conflate"}
    with pytest.raises(Refusal):
        create({"on_slow": "conflate", "profile": "durable"}, "ephemeral")


def test_every_default_may_be_given_and_changes_nothing() -> None:
    given = {name: value for name, value in effective({}).items() if value is not None}
    assert create(given) == {"hot_exit": 8_000}, "kept as given, or it would follow a later hot_enter"
    assert effective(create(given)) == effective({})


def test_the_protocol_page_shows_the_default_of_each_object() -> None:
    page = PAGE.read_text()
    for name in ("retry", "rate_limit"):
        shown_there = re.search(rf"^\| `{name}` \| `(\{{.*?\}})`", page, re.MULTILINE)
        assert shown_there is not None, name
        assert json.loads(shown_there[1]) == effective({})[name]


def test_a_topic_without_settings_shows_every_setting() -> None:
    unknown = "settings.x is not a setting; known are "
    with pytest.raises(Refusal) as caught:
        create({"x": 1})
    assert caught.value.detail == unknown + ", ".join(effective({}))


def test_an_ephemeral_topic_drops_its_oldest_and_lists_who_is_there() -> None:
    settings = effective({"profile": "ephemeral"})
    assert (settings["on_slow"], settings["presence"]) == ("drop_oldest", "list")
    assert effective({})["presence"] == "count"


def test_presence_is_kept_where_it_is_not_the_default_of_the_profile() -> None:
    for overrides, kept, mode in [
        ({}, {}, "count"),
        ({"presence": "count"}, {}, "count"),
        ({"presence": "list"}, {"presence": "list"}, "list"),
        ({"profile": "ephemeral", "presence": "list"}, {"profile": "ephemeral"}, "list"),
        ({"profile": "ephemeral", "presence": "count"}, {"profile": "ephemeral", "presence": "count"}, "count"),
    ]:
        made = create(overrides)
        assert made == kept and presence_of(made) == effective(made)["presence"] == mode
        assert overrides_of(effective(made)) == made


@pytest.mark.parametrize(
    "settings",
    [
        {"profile": "ephemeral", "on_slow": "conflate"},
        {"strategy": {"kind": "batched", "max_messages": 10, "max_delay_ms": 50}},
        {"retry": {"max_attempts": 1, "kind": "fixed", "first_ms": 10, "max_ms": 10, "jitter": 0}},
        {"on_slow": "drop_oldest", "presence": "list", "paced_above": 60, "hot_enter": 50, "hot_exit": 40},
        {"rate_limit": {"per_s": 0.5, "burst": 1}, "queue_limit": 1, "retention_ms": 60_000, "retention_messages": 5},
    ],
)
def test_takes_every_setting(settings: dict[str, Any]) -> None:
    assert create(settings) == settings
    assert effective(create(settings)) == effective({"profile": settings.get("profile", "durable")}) | settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"colour": 1}, "settings.colour"),
        ([], "settings"),
        ({"profile": "eternal"}, "settings.profile"),
        ({"profile": ["durable"]}, "settings.profile"),
        ({"strategy": "immediate"}, "settings.strategy"),
        ({"strategy": {"kind": "immediate", "max_messages": 3}}, "settings.strategy.max_messages"),
        ({"strategy": {"kind": "batched", "max_messages": 3}}, "settings.strategy.max_delay_ms"),
        ({"strategy": {"max_messages": 3, "max_delay_ms": 3}}, "settings.strategy.kind"),
        ({"retry": {"max_attempts": 0}}, "settings.retry.max_attempts"),
        ({"retry": {"first_ms": 100_000}}, "settings.retry.max_ms"),
        ({"retry": {"jitter": 1.5}}, "settings.retry.jitter"),
        ({"retry": {"pause": 1}}, "settings.retry.pause"),
        ({"on_slow": "conflate"}, "settings.on_slow"),
        ({"presence": "some"}, "settings.presence"),
        ({"hot_enter": True}, "settings.hot_enter"),
        ({"hot_enter": 0}, "settings.hot_enter"),
        ({"hot_enter": 10, "hot_exit": 10}, "settings.hot_exit"),
        ({"hot_exit": 10_000}, "settings.hot_exit"),
        ({"paced_above": 0}, "settings.paced_above"),
        ({"rate_limit": {"per_s": 0}}, "settings.rate_limit.per_s"),
        ({"rate_limit": {"burst": 1.5}}, "settings.rate_limit.burst"),
        ({"queue_limit": 0}, "settings.queue_limit"),
        ({"retention_ms": "1d"}, "settings.retention_ms"),
        ({"retention_messages": 1 << 53}, "settings.retention_messages"),
    ],
)
def test_names_what_is_wrong(settings: Any, named: str) -> None:
    with pytest.raises(Refusal) as caught:
        create(settings)
    assert caught.value.code == "bad_request"
    assert caught.value.detail.split(" ")[0] == named


def test_null_restores_the_default() -> None:
    overrides = create({"profile": "durable", "presence": "list", "queue_limit": 5})
    assert merge(overrides, {"presence": None}) == {"queue_limit": 5}
    assert create({"queue_limit": None}) == create(None) == {}


def test_only_what_differs_is_kept() -> None:
    assert create({"queue_limit": 10_000, "retry": {"max_attempts": 5}, "presence": "count"}) == {}
    assert create({"retry": {"max_attempts": 3}}) == {"retry": DEFAULTS["retry"] | {"max_attempts": 3}}


def test_profile_is_immutable() -> None:
    with pytest.raises(Refusal) as caught:
        merge({"profile": "ephemeral"}, {"profile": None})
    assert caught.value.code == "immutable"
    assert merge({"profile": "ephemeral"}, {"profile": "ephemeral"}) == {"profile": "ephemeral"}


def test_hot_exit_follows_a_low_hot_enter() -> None:
    assert effective({"hot_enter": 5})["hot_exit"] == 4
    assert effective({"hot_enter": 1})["hot_exit"] == 0
    assert effective({"hot_enter": 50_000})["hot_exit"] == 8_000


def test_an_installation_has_bounds_of_its_own_for_topics_that_set_none() -> None:
    usual = usual_with(5_000, 4_000)
    shown = effective({}, usual)
    assert (shown["paced_above"], shown["hot_enter"], shown["hot_exit"]) == (1_000, 5_000, 4_000)
    assert overrides_of(shown, usual) == {} == change(shown, {}, usual)
    assert create({"hot_enter": 5_000, "hot_exit": 4_000}, usual=usual) == {"hot_exit": 4_000}
    assert change(shown, {"hot_enter": 10_000}, usual) == {"hot_enter": 10_000, "hot_exit": 4_000}
    with pytest.raises(Refusal, match=r"hot_exit must be below settings\.hot_enter, 5000"):
        change(shown, {"hot_exit": 5_000}, usual)
    assert effective({"hot_exit": 8_000}, usual)["hot_exit"] == 4_000, "stored when the default was another"


def test_an_installation_has_a_rate_of_its_own_for_topics_that_set_none() -> None:
    usual = usual_with(10_000, 8_000, 1_000)
    shown = effective({}, usual)
    assert shown["rate_limit"] == {"per_s": 1_000, "burst": 2_000}
    built_in = {"rate_limit": DEFAULTS["rate_limit"]}
    assert create(built_in, usual=usual) == change(shown, built_in, usual) == built_in, "never accepted and ignored"
    assert effective(built_in, usual)["rate_limit"] == DEFAULTS["rate_limit"]
    assert change(shown, {"rate_limit": shown["rate_limit"]}, usual) == {}
    assert change(shown, {"rate_limit": {"per_s": 50}}, usual) == {"rate_limit": {"per_s": 50, "burst": 2_000}}
    assert change(effective(built_in, usual), {"rate_limit": None}, usual) == {}
    assert usual_with(10_000, 8_000) == DEFAULTS


def test_the_bounds_of_heat_are_those_of_the_effective_settings() -> None:
    usual = usual_with(5_000, 4_000)
    for overrides in ({}, {"queue_limit": 5}, {"hot_enter": 5}, {"paced_above": 7}, {"hot_exit": 8_000}):
        for base in (DEFAULTS, usual):
            full = effective(overrides, base)
            assert heat_bounds(overrides, base) == (full["paced_above"], full["hot_enter"], full["hot_exit"])


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"profile": "ephemeral", "on_slow": "conflate"},
        {"profile": "ephemeral"},
        {"on_slow": "drop_oldest", "presence": "none"},
        {"hot_enter": 5},
        {"hot_enter": 50_000, "hot_exit": 10},
        {"hot_exit": 0},
        {"paced_above": 20_000},
        {"retention_ms": 5, "rate_limit": {"per_s": 1, "burst": 1}},
    ],
)
def test_overrides_are_found_again_in_effective_settings(overrides: dict[str, Any]) -> None:
    assert overrides_of(effective(overrides)) == overrides


def test_a_change_is_merged_into_effective_settings() -> None:
    settings = effective({"profile": "ephemeral", "presence": "none", "retention_ms": 5})
    changed = change(settings, {"retention_ms": None, "on_slow": "conflate"})
    assert changed == {"profile": "ephemeral", "presence": "none", "on_slow": "conflate"}
    assert change(settings, {}) == {"profile": "ephemeral", "presence": "none", "retention_ms": 5}
    wrongs: tuple[Any, ...] = (None, [], "x")
    for wrong in wrongs:
        with pytest.raises(Refusal, match="settings must be an object"):
            change(settings, wrong)
    with pytest.raises(Refusal, match="immutable"):
        change(settings, {"profile": None})


def test_a_bad_change_is_refused_and_a_default_may_be_restored() -> None:
    for changes in ({"hot_exit": 10_000}, {"hot_enter": "x"}, {"presence": ["list"]}, {"paced_above": 1.5}):
        with pytest.raises(Refusal, match="bad_request"):
            change(effective({}), changes)
    assert change(effective({"hot_exit": 5}), {"hot_exit": None, "presence": "count"}) == {}


def test_hot_enter_alone_is_checked_against_the_present_hot_exit() -> None:
    with pytest.raises(Refusal, match=r"settings\.hot_exit"):
        change(effective({}), {"hot_enter": 8_000})
    assert effective(change(effective({}), {"hot_enter": 9_000})) == effective({"hot_enter": 9_000, "hot_exit": 8_000})
    assert change(effective({}), {"hot_enter": 100, "hot_exit": 50}) == {"hot_enter": 100, "hot_exit": 50}
    low = effective({"hot_enter": 100, "hot_exit": 50})
    assert effective(change(low, {"hot_enter": 60}))["hot_exit"] == 50
