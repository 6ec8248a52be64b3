"""For each operation of the OpenAPI document: how each of its answers is had from a running server.

A recipe is one request. It names the topics and users that the scene of `test_documented_api.py` has.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

OWNER: Final = "owner"
STRANGER: Final = "stranger"
LITTLE: Final = "little"  # his token has `only`, and names nothing
GREEDY: Final = "greedy"  # has used up his rates
ADMIN: Final = "admin"
NOBODY: Final = ""
TOO_LARGE: Final = 256 * 1024 + 1
BATCH_TOO_LARGE: Final = 8 * 1024 * 1024 + 1
_LARGE_BATCH: Final = b"[" + b" " * (BATCH_TOO_LARGE - 3) + b"]"


class Recipe(NamedTuple):
    """One request: who sends it, and what; `raw` is a body that is no JSON value of ours."""

    who: str = OWNER
    path: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    body: Any = None
    headers: Mapping[str, str] = {}
    raw: bytes | None = None
    media_type: str = "application/json"


def good(
    body: Any = None, *, who: str = OWNER, query: Mapping[str, str] | None = None, path: Mapping[str, str] | None = None
) -> Recipe:
    """Returns a request that is fine."""
    return Recipe(who, path or {}, query or {}, body)


def refused(recipe: Recipe, has_body: bool, body_bytes: int = TOO_LARGE) -> dict[int, Recipe]:
    """Returns what every operation refuses alike: no token, and with a body one too large or of another kind."""
    found = {401: recipe._replace(who=NOBODY)}
    if has_body:
        found[413] = recipe._replace(raw=b" " * body_bytes)
        found[415] = recipe._replace(raw=b"{}", media_type="text/plain")
        found[400] = recipe._replace(raw=b"[")
    return found


def _table() -> dict[str, dict[int, Recipe]]:
    topic, payload = {"topic_id": "open"}, {"payload": 1}
    create, publish = good({"name": "n"}), good(payload, path=topic)
    show, change = good(path=topic), good({"name": "n"}, path=topic)
    member = good({"role": "member"}, path={"topic_id": "open", "user_id": "anna"})
    removal, connections = good(path={"topic_id": "open", "user_id": "anna"}), good()
    batch = good([payload], path=topic)
    routed = good([{"topic_id": "open", **payload}])
    revocation = good({"user_id": "gone"}, who=ADMIN)
    ticket, end = good({"kind": "once"}), good({}, path=topic)
    missing, bad_id = {"topic_id": "missing"}, {"topic_id": "~"}
    return {
        "create_topic": refused(create, True)
        | {
            201: create,
            403: create._replace(who=LITTLE),
            409: good({"name": "n", **topic}),
            429: create._replace(who=GREEDY),
        },
        "list_topics": refused(good(), False) | {200: good(), 400: good(query={"limit": "0"}), 429: good(who=GREEDY)},
        "show_topic": refused(show, False)
        | {
            200: show,
            400: show._replace(path=bad_id),
            403: show._replace(who=LITTLE),
            404: show._replace(path=missing),
            429: show._replace(who=GREEDY),
        },
        "update_topic": refused(change, True)
        | {
            200: change,
            403: change._replace(who=STRANGER),
            404: change._replace(path=missing),
            422: change._replace(body={"settings": {"profile": "ephemeral"}}),
            429: good({"name": "n"}, who=GREEDY, path={"topic_id": "greedys"}),
        },
        "delete_topic": refused(good(path={"topic_id": "old"}), False)
        | {
            204: good(path={"topic_id": "old"}),
            400: good(path=bad_id),
            403: good(who=STRANGER, path=topic),
            404: good(path=missing),
        },
        "publish": refused(publish, True)
        | {
            200: publish,
            403: publish._replace(path={"topic_id": "readable"}, who=STRANGER),
            404: publish._replace(path=missing, who=LITTLE),
            422: publish._replace(body={"payload": 2, "client_msg_id": "used"}),
            429: publish._replace(who=GREEDY),
        },
        "publish_batch": refused(batch, True, BATCH_TOO_LARGE)
        | {
            200: batch,
            403: batch._replace(path={"topic_id": "readable"}, who=STRANGER),
            404: batch._replace(path=missing, who=LITTLE),
            429: batch._replace(who=GREEDY, raw=_LARGE_BATCH),
        },
        "publish_any_batch": refused(routed, True, BATCH_TOO_LARGE)
        | {200: routed, 403: routed._replace(who=LITTLE), 429: routed._replace(who=GREEDY, raw=_LARGE_BATCH)},
        "history": refused(show, False)
        | {
            200: show,
            400: show._replace(query={"limit": "0"}),
            403: good(who=STRANGER, path={"topic_id": "writable"}),
            404: good(path=missing),
            410: good(path={"topic_id": "short"}, query={"after_seq": "1"}),
            422: good(path={"topic_id": "passing"}),
            429: show._replace(who=GREEDY),
        },
        "list_members": refused(show, False)
        | {
            200: show,
            400: show._replace(query={"limit": "0"}),
            403: show._replace(who=STRANGER),
            404: good(path=missing),
            429: good(who=GREEDY, path={"topic_id": "greedys"}),
        },
        "set_member": refused(member, True)
        | {
            200: member,
            403: member._replace(who=STRANGER),
            404: member._replace(path={"topic_id": "missing", "user_id": "anna"}),
            409: member._replace(path={"topic_id": "open", "user_id": OWNER}),
            429: good({"role": "member"}, who=GREEDY, path={"topic_id": "greedys", "user_id": "anna"}),
        },
        "remove_member": refused(removal, False)
        | {
            204: removal,
            400: good(path={"topic_id": "~", "user_id": "anna"}),
            403: removal._replace(who=STRANGER),
            404: good(path={"topic_id": "missing", "user_id": "anna"}),
            409: good(path={"topic_id": "open", "user_id": OWNER}),
            429: good(who=GREEDY, path={"topic_id": "greedys", "user_id": "anna"}),
        },
        "list_connections": refused(connections, False)
        | {
            200: connections,
            400: good(who=ADMIN, query={"user_id": "x" * 129}),
            403: good(query={"user_id": "anna"}),
            429: good(who=GREEDY),
        },
        "end_subscriptions": refused(end, True) | {200: end, 404: end._replace(path=missing)},
        "create_ticket": refused(ticket, True) | {200: ticket, 429: ticket._replace(who=GREEDY)},
        "create_revocation": refused(revocation, True) | {204: revocation, 403: revocation._replace(who=OWNER)},
        "openapi": {200: good()},
        "asyncapi": {200: good()},
    }


RECIPES: Final[Mapping[str, Mapping[int, Recipe]]] = _table()
