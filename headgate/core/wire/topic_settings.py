"""The settings of a topic (docs/protocol.md, section 2): checked, merged, and shown with their defaults.

The *overrides* of a topic are stored: the settings that differ from the defaults. Readers get the *effective* settings,
the whole table. `usual` are the defaults of an installation: those of `usual_with`, alike on ingests and dispatchers.
"""

from collections.abc import Callable
from typing import Any, Final

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import MAX_INTEGER

Settings = dict[str, Any]

PROFILES: Final = ("durable", "ephemeral")
ON_SLOW: Final = {
    "durable": ("disconnect", "drop_oldest"),
    "ephemeral": ("drop_oldest", "disconnect", "drop_newest", "conflate"),
}  # the first is the default
MAX_BATCH_MESSAGES: Final = 10_000
MAX_BATCH_DELAY_MS: Final = 60_000  # a message held for longer than the heartbeat's limit is of no use
MAX_ATTEMPTS: Final = 1_000
MAX_RETRY_MS: Final = 86_400_000  # the duplicate window's age: a later attempt might be a second delivery
RATE_BURST_S: Final = 2  # the usual burst is what a topic's rate gains in this time
_HOT_EXIT_SHARE: Final = (4, 5)  # below the default only where hot_enter leaves no room for it
_HEAT: Final = frozenset({"paced_above", "hot_enter", "hot_exit"})

DEFAULT_RETRY: Final[Settings] = {
    "max_attempts": 5,
    "kind": "exponential",
    "first_ms": 1_000,
    "max_ms": 60_000,
    "jitter": 0.2,
}
DEFAULTS: Final[Settings] = {
    "profile": "durable",
    "strategy": {"kind": "immediate"},
    "retry": DEFAULT_RETRY,
    "on_slow": "disconnect",
    "presence": "count",  # in a durable topic
    "paced_above": 1_000,
    "hot_enter": 10_000,
    "hot_exit": 8_000,
    "rate_limit": {"per_s": 100, "burst": RATE_BURST_S * 100},
    "queue_limit": 10_000,
    "retention_ms": None,  # that of the log
    "retention_messages": None,
}

PRESENCE: Final = {"durable": "count", "ephemeral": "list"}  # the default of each profile


def usual_with(hot_enter: int, hot_exit: int, per_s: int = DEFAULTS["rate_limit"]["per_s"]) -> Settings:
    """Returns the defaults of an installation with these bounds of hot topics and this rate of a topic's publishes."""
    rate_limit = {"per_s": per_s, "burst": RATE_BURST_S * per_s}
    return DEFAULTS | {"hot_enter": hot_enter, "hot_exit": hot_exit, "rate_limit": rate_limit}


def hot_exit_below(hot_enter: int, hot_exit: int = DEFAULTS["hot_exit"]) -> int:
    """Returns `hot_exit`, or four fifths of `hot_enter` where that is lower."""
    part, whole = _HOT_EXIT_SHARE
    return min(hot_exit, hot_enter * part // whole)


def effective(overrides: Settings, usual: Settings = DEFAULTS) -> Settings:
    """Returns the whole table: every setting with its value. The nested objects are shared: do not change them.

    A `hot_exit` that is not below `hot_enter`, because the installation changed its default, is four fifths of it.
    """
    full = _full(overrides, usual)
    if full["hot_exit"] >= full["hot_enter"]:
        full["hot_exit"] = hot_exit_below(full["hot_enter"])
    return full


def heat_bounds(overrides: Settings, usual: Settings = DEFAULTS) -> tuple[int, int, int]:
    """Returns the effective `paced_above`, `hot_enter` and `hot_exit`: without a table, for most topics set none."""
    if overrides.keys().isdisjoint(_HEAT):
        return usual["paced_above"], usual["hot_enter"], usual["hot_exit"]
    full = effective(overrides, usual)
    return full["paced_above"], full["hot_enter"], full["hot_exit"]


def presence_of(overrides: Settings) -> str:
    """Returns the effective setting `presence`: `none`, `count` or `list`."""
    mode: str = overrides.get("presence") or PRESENCE[overrides.get("profile", "durable")]
    return mode


def create(settings: object, profile: str = "durable", usual: Settings = DEFAULTS) -> Settings:
    """Returns the overrides of a new topic, from the member `settings` of a create. Raises Refusal `bad_request`.

    `profile` is what a topic is that names none: the setting `topics.profile`.
    """
    named = {} if settings is None else settings
    if isinstance(named, dict) and named.get("profile") is None:
        named = named | {"profile": profile}
    return merge({}, named, usual, new=True)


def overrides_of(settings: Settings, usual: Settings = DEFAULTS) -> Settings:
    """Returns the overrides that make these effective settings."""
    named = {name: settings[name] for name in ("profile", "hot_enter") if settings[name] != usual[name]}
    base = effective(named, usual)
    return named | {name: value for name, value in settings.items() if value != base[name]}


def change(settings: Settings, changes: object, usual: Settings = DEFAULTS) -> Settings:
    """Returns the overrides of a topic after `changes` to its effective settings, key by key; null restores a default.

    `hot_exit` stays as it is where only `hot_enter` changes. Raises Refusal `bad_request` naming the setting, and
    `immutable` for another `profile`.
    """
    if not isinstance(changes, dict):
        raise _bad("settings", "an object")
    overrides = overrides_of(settings, usual)
    if "hot_enter" in changes and "hot_exit" not in changes:
        overrides["hot_exit"] = settings["hot_exit"]
    return merge(overrides, changes, usual)


def merge(overrides: Settings, changes: object, usual: Settings = DEFAULTS, *, new: bool = False) -> Settings:
    """Returns the overrides after `changes`, key by key; null restores a default.

    Raises Refusal `bad_request` naming the setting, and `immutable` for another `profile`, unless the topic is `new`.
    """
    if changes is None:
        return dict(overrides)
    if not isinstance(changes, dict):
        raise _bad("settings", "an object")
    merged = dict(overrides)
    for name, value in changes.items():
        if name not in _CHECKS:
            raise Refusal("bad_request", f"settings.{name} is not a setting; known are {', '.join(_CHECKS)}")
        merged.pop(name, None)
        if value is not None:
            merged[name] = _CHECKS[name](f"settings.{name}", value)
            if name == "rate_limit":
                merged[name] = usual[name] | merged[name]
    if not new and merged.get("profile", "durable") != overrides.get("profile", "durable"):
        raise Refusal("immutable", "settings.profile is fixed at creation; make another topic")
    _check_together(_full(merged, usual))
    base = _defaults_of(merged, usual)
    return {name: value for name, value in merged.items() if name == "hot_exit" or value != base[name]}


def _full(overrides: Settings, usual: Settings) -> Settings:
    full = _defaults_of(overrides, usual)
    if "hot_enter" in overrides:
        full["hot_exit"] = hot_exit_below(overrides["hot_enter"], full["hot_exit"])
    return full | overrides


def _defaults_of(overrides: Settings, usual: Settings) -> Settings:
    """Returns the defaults of a topic of this profile."""
    profile = overrides.get("profile", "durable")
    return usual | {"on_slow": ON_SLOW[profile][0], "presence": PRESENCE[profile]}


def _check_together(full: Settings) -> None:
    allowed = ON_SLOW[full["profile"]]
    if full["on_slow"] not in allowed:
        raise _bad("settings.on_slow", f"one of {', '.join(allowed)} in a topic of profile {full['profile']}")
    if full["hot_exit"] >= full["hot_enter"]:
        raise _bad("settings.hot_exit", f"below settings.hot_enter, {full['hot_enter']}")


def _bad(name: str, expected: str) -> Refusal:
    return Refusal("bad_request", f"{name} must be {expected}")


def _one_of(*allowed: str) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if not isinstance(value, str) or value not in allowed:
            raise _bad(name, f"one of {', '.join(allowed)}")
        return value

    return check


def _integer(low: int, high: int = MAX_INTEGER) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if type(value) is not int or not low <= value <= high:
            raise _bad(name, f"an integer from {low} to {high}")
        return value

    return check


def _number(low: float, high: float) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if type(value) not in (int, float) or not low <= value <= high:
            raise _bad(name, f"a number from {low} to {high}")
        return value

    return check


def _members(name: str, value: Any, checks: dict[str, Callable[[str, Any], Any]]) -> Settings:
    if not isinstance(value, dict):
        raise _bad(name, "an object")
    for member in value:
        if member not in checks:
            raise Refusal("bad_request", f"{name}.{member} is not a member; known are {', '.join(checks)}")
    return {member: checks[member](f"{name}.{member}", inner) for member, inner in value.items()}


def _strategy(name: str, value: Any) -> Any:
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "immediate":
        return _members(name, value, {"kind": _STRATEGY["kind"]})
    found = _members(name, value, _STRATEGY)
    for member in _STRATEGY:
        if member not in found:
            raise Refusal("bad_request", f"{name}.{member} is missing")
    return found


def _retry(name: str, value: Any) -> Any:
    found = DEFAULT_RETRY | _members(name, value, _RETRY)
    if found["max_ms"] < found["first_ms"]:
        raise _bad(f"{name}.max_ms", f"at least {name}.first_ms, {found['first_ms']}")
    return found


def _rate_limit(name: str, value: Any) -> Any:
    return _members(name, value, _RATE_LIMIT)


_STRATEGY: Final = {
    "kind": _one_of("immediate", "batched"),
    "max_messages": _integer(1, MAX_BATCH_MESSAGES),
    "max_delay_ms": _integer(1, MAX_BATCH_DELAY_MS),
}
_RETRY: Final = {
    "max_attempts": _integer(1, MAX_ATTEMPTS),
    "kind": _one_of("exponential", "fixed", "linear"),
    "first_ms": _integer(1, MAX_RETRY_MS),
    "max_ms": _integer(1, MAX_RETRY_MS),
    "jitter": _number(0, 1),
}
_RATE_LIMIT: Final = {
    "per_s": _number(0.001, 1_000_000),
    "burst": _integer(1, 1_000_000),
    "per_min": _integer(1, 60_000_000),
}

_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "profile": _one_of(*PROFILES),
    "strategy": _strategy,
    "retry": _retry,
    "on_slow": _one_of(*ON_SLOW["ephemeral"]),
    "presence": _one_of("none", "count", "list"),
    "paced_above": _integer(1),
    "hot_enter": _integer(1),
    "hot_exit": _integer(0),
    "rate_limit": _rate_limit,
    "queue_limit": _integer(1),
    "retention_ms": _integer(1),
    "retention_messages": _integer(1),
}
