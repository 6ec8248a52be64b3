"""For each operation of the OpenAPI document: how each of its answers is had from a running server.

A recipe is one request. It names the topics and users that the scene of `test_documented_api.py` has; `$mine` and the
like are messages of that scene.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ingest.pages import write_page

OWNER: Final = "owner"
STRANGER: Final = "stranger"
PUBLISHER: Final = "publisher"  # a member of a topic who may not read it
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


USED_KEY: Final = {"Idempotency-Key": "used"}
_OPEN: Final = {"topic_id": "open"}
_MISSING: Final = {"topic_id": "missing"}
_BAD_ID: Final = {"topic_id": "~"}
_ANNA: Final = {"topic_id": "open", "user_id": "anna"}
_PAYLOAD: Final = {"payload": 1}


def _topics() -> dict[str, dict[int, Recipe]]:
    create, show, change = good({"name": "n"}), good(path=_OPEN), good({"name": "n"}, path=_OPEN)
    return {
        "create_topic": refused(create, True)
        | {
            201: create,
            403: create._replace(who=LITTLE),
            409: good({"name": "n", **_OPEN}),
            422: good({"name": "other", "topic_id": "keyed"})._replace(headers=USED_KEY),
            429: create._replace(who=GREEDY),
        },
        "list_topics": refused(good(), False) | {200: good(), 400: good(query={"limit": "0"}), 429: good(who=GREEDY)},
        "show_topic": refused(show, False)
        | {
            200: show,
            400: show._replace(path=_BAD_ID),
            403: show._replace(who=LITTLE),
            404: show._replace(path=_MISSING),
            429: show._replace(who=GREEDY),
        },
        "update_topic": refused(change, True)
        | {
            200: change,
            403: change._replace(who=STRANGER),
            404: change._replace(path=_MISSING),
            422: change._replace(body={"settings": {"profile": "ephemeral"}}),
            429: good({"name": "n"}, who=GREEDY, path={"topic_id": "greedys"}),
        },
        "delete_topic": refused(good(path={"topic_id": "old"}), False)
        | {
            204: good(path={"topic_id": "old"}),
            400: good(path=_BAD_ID),
            403: good(who=STRANGER, path=_OPEN),
            404: good(path=_MISSING),
        },
        "topic_stats": refused(show, False)
        | {
            200: show,
            400: show._replace(path=_BAD_ID),
            403: show._replace(who=LITTLE),
            404: show._replace(path=_MISSING),
            429: show._replace(who=GREEDY),
        },
        "flush_topic": refused(show, False)
        | {
            202: show,
            400: show._replace(path=_BAD_ID),
            403: show._replace(who=STRANGER),
            404: show._replace(path=_MISSING),
            429: show._replace(who=GREEDY, path={"topic_id": "greedys"}),
        },
        **_direct(),
    }


def _direct() -> dict[str, dict[int, Recipe]]:
    direct = good({"user_id": "anna"})
    return {
        "create_direct_topic": refused(direct, True)
        | {
            201: good({"user_id": "new"}),
            200: direct,
            403: direct._replace(who=LITTLE),
            429: good({"user_id": "$fresh"}, who=GREEDY),
        },
    }


def _publishes() -> dict[str, dict[int, Recipe]]:
    publish, batch = good(_PAYLOAD, path=_OPEN), good([_PAYLOAD], path=_OPEN)
    routed, show = good([{**_OPEN, **_PAYLOAD}]), good(path=_OPEN)
    readable = {"topic_id": "readable"}
    return {
        "publish": refused(publish, True)
        | {
            200: publish,
            403: publish._replace(path=readable, who=STRANGER),
            404: publish._replace(path=_MISSING, who=LITTLE),
            422: publish._replace(body={"payload": 2, "client_msg_id": "used"}),
            429: publish._replace(who=GREEDY),
        },
        "publish_batch": refused(batch, True, BATCH_TOO_LARGE)
        | {
            200: batch,
            403: batch._replace(path=readable, who=STRANGER),
            404: batch._replace(path=_MISSING, who=LITTLE),
            429: batch._replace(who=GREEDY, raw=_LARGE_BATCH),
        },
        "publish_any_batch": refused(routed, True, BATCH_TOO_LARGE)
        | {200: routed, 403: routed._replace(who=LITTLE), 429: routed._replace(who=GREEDY, raw=_LARGE_BATCH)},
        "history": refused(show, False)
        | {
            200: show,
            400: show._replace(query={"limit": "0"}),
            403: good(who=STRANGER, path={"topic_id": "writable"}),
            404: good(path=_MISSING),
            410: good(path={"topic_id": "short"}, query={"after_seq": "1"}),
            422: good(path={"topic_id": "passing"}),
            429: show._replace(who=GREEDY),
        },
    }


def _messages() -> dict[str, dict[int, Recipe]]:
    mine = {"topic_id": "open", "message_id": "$mine"}
    unknown, passing = {"topic_id": "open", "message_id": "$unknown"}, {"topic_id": "passing", "message_id": "$unknown"}
    show, redact = good(path=mine), good(path={"topic_id": "open", "message_id": "$doomed"})
    edit = good({"payload": 2, "version": 1}, path=mine)
    reaction = good(path={**mine, "name": "like"})
    hidden = {"topic_id": "writable", "message_id": "$hidden"}
    redacted = {"topic_id": "open", "message_id": "$redacted"}
    return {
        "show_message": refused(show, False)
        | {
            200: show,
            400: show._replace(query={"versions": "maybe"}),
            403: good(who=STRANGER, path=hidden),
            404: good(path=unknown),
            422: good(path=passing),
            429: show._replace(who=GREEDY),
        },
        "edit_message": refused(edit, True)
        | {
            200: good({"payload": 2, "version": 1}, path={"topic_id": "open", "message_id": "$draft"}),
            403: edit._replace(who=STRANGER),
            404: edit._replace(path=unknown),
            409: edit._replace(body={"payload": 2, "version": 9}),
            422: edit._replace(path=passing),
            429: edit._replace(who=GREEDY, path={"topic_id": "open", "message_id": "$greedys"}),
        },
        "redact_message": refused(redact, False)
        | {
            204: redact,
            400: good(path={"topic_id": "open", "message_id": "x"}),
            403: good(who=STRANGER, path=mine),
            404: good(path=unknown),
            422: good(path=passing),
            429: good(who=GREEDY, path={"topic_id": "open", "message_id": "$greedys"}),
        },
        "add_reaction": _of_reaction(reaction, hidden, unknown)
        | {422: reaction._replace(path={**redacted, "name": "like"})},
        "remove_reaction": _of_reaction(reaction, hidden, unknown)
        | {422: reaction._replace(path={**passing, "name": "like"})},
    }


def _of_reaction(good_one: Recipe, hidden: Mapping[str, str], unknown: Mapping[str, str]) -> dict[int, Recipe]:
    return refused(good_one, False) | {
        204: good_one,
        400: good_one._replace(path={**good_one.path, "name": "x" * 33}),
        403: good_one._replace(who=STRANGER, path={**hidden, "name": "like"}),
        404: good_one._replace(path={**unknown, "name": "like"}),
        429: good_one._replace(who=GREEDY),
    }


def _members_and_connections() -> dict[str, dict[int, Recipe]]:
    show, member, removal = good(path=_OPEN), good({"role": "member"}, path=_ANNA), good(path=_ANNA)
    last, unknown = {"topic_id": "open", "user_id": OWNER}, {"topic_id": "missing", "user_id": "anna"}
    of_greedy = {"topic_id": "greedys", "user_id": "anna"}
    connections, end = good(), good({}, path=_OPEN)
    return {
        "list_members": refused(show, False)
        | {
            200: show,
            400: show._replace(query={"limit": "0"}),
            403: show._replace(who=STRANGER),
            404: good(path=_MISSING),
            429: good(who=GREEDY, path={"topic_id": "greedys"}),
        },
        "set_member": refused(member, True)
        | {
            200: member,
            403: member._replace(who=STRANGER),
            404: member._replace(path=unknown),
            409: member._replace(path=last),
            422: good({"role": "publisher"}, path={"topic_id": "keyed", "user_id": "anna"})._replace(headers=USED_KEY),
            429: member._replace(who=GREEDY, path=of_greedy),
        },
        "remove_member": refused(removal, False)
        | {
            204: removal,
            400: good(path={"topic_id": "~", "user_id": "anna"}),
            403: removal._replace(who=STRANGER),
            404: good(path=unknown),
            409: good(path=last),
            429: good(who=GREEDY, path=of_greedy),
        },
        "list_subscribers": refused(show, False)
        | {
            200: show,
            400: show._replace(query={"limit": "0"}),
            403: good(who=STRANGER, path={"topic_id": "readable"}),
            404: good(path=_MISSING),
            429: show._replace(who=GREEDY),
        },
        "list_connections": refused(connections, False)
        | {
            200: connections,
            400: good(who=ADMIN, query={"user_id": "x" * 129}),
            403: good(query={"user_id": "anna"}),
            429: good(who=GREEDY),
        },
        "end_subscriptions": refused(end, True) | {200: end, 404: end._replace(path=_MISSING)},
    }


def _letters() -> dict[str, dict[int, Recipe]]:
    of_topic, unknown = {"topic_id": "letters"}, {"id": "$unknown"}
    first, second, gone = {"id": "$letter1"}, {"id": "$letter2"}, {"id": "$letter_gone"}

    def of_one(path: Mapping[str, str]) -> dict[int, Recipe]:
        return refused(good(path=path), False) | {
            400: good(path={"id": "~"}),
            403: good(path=path, who=STRANGER),
            404: good(path=unknown),
            429: good(path=path, who=GREEDY),
        }

    return {
        "list_dead_letters": refused(good(), False)
        | {
            200: good(query=of_topic),
            400: good(query={"limit": "0"}),
            403: good(query=of_topic, who=STRANGER),
            404: good(query=_MISSING),
            429: good(who=GREEDY),
        },
        "show_dead_letter": of_one(first) | {200: good(path=first)},
        "replay_dead_letter": of_one(first) | {202: good(path=first), 410: good(path=gone)},
        "purge_dead_letter": of_one(second) | {204: good(path=second)},
    }


def _channels() -> dict[str, dict[int, Recipe]]:
    send = good({"channel_id": "open", "content": 1})
    read = good(query={"channel_id": "open"})
    edit = good({"message_id": "$mine", "content": 2, "version": 1})
    delete, react = good({"message_id": "$doomed2"}), good({"message_id": "$mine", "reaction": "like"})
    return {
        "alias_send": refused(send, True)
        | {
            200: send,
            403: good({"channel_id": "readable", "content": 1}, who=STRANGER),
            404: good({"channel_id": "missing", "content": 1}, who=LITTLE),
            422: good({"channel_id": "open", "content": 2, "client_msg_id": "used"}),
            429: send._replace(who=GREEDY),
        },
        "alias_messages": refused(read, False)
        | {
            200: read,
            400: good(query={"channel_id": "open", "page_size": "0"}),
            403: good(query={"channel_id": "writable"}, who=STRANGER),
            404: good(query={"channel_id": "missing"}),
            410: good(query={"channel_id": "open", "page": write_page("1:0")}),
            422: good(query={"channel_id": "passing"}),
            429: read._replace(who=GREEDY),
        },
        "alias_edit": refused(edit, True)
        | {
            200: good({"message_id": "$draft3", "content": 2, "version": 1}),
            403: edit._replace(who=STRANGER),
            404: good({"message_id": "$unknown", "content": 2, "version": 1}),
            409: good({"message_id": "$mine", "content": 2, "version": 9}),
            422: good({"message_id": "$draft2", "content": 3, "version": 1})._replace(headers=USED_KEY),
            429: good({"message_id": "$greedys", "content": 2, "version": 1}, who=GREEDY),
        },
        "alias_delete": refused(delete, True)
        | {
            204: delete,
            403: good({"message_id": "$mine"}, who=STRANGER),
            404: good({"message_id": "$unknown"}),
            429: good({"message_id": "$greedys"}, who=GREEDY),
        },
        "alias_react": refused(react, True)
        | {
            204: react,
            403: good({"message_id": "$hidden", "reaction": "like"}, who=STRANGER),
            404: good({"message_id": "$unknown", "reaction": "like"}),
            422: good({"message_id": "$redacted", "reaction": "like"}),
            429: react._replace(who=GREEDY),
        },
    }


def _inbox() -> dict[str, dict[int, Recipe]]:
    listing = refused(good(), False) | {200: good(), 400: good(query={"limit": "0"}), 429: good(who=GREEDY)}
    ack, by_id = good({"topic_id": "open", "seq": 1}), good({"message_id": "$mine", "device_id": "phone"})
    return {
        "list_inbox": listing,
        "missed_messages": listing,
        "ack_inbox": refused(ack, True)
        | {
            204: ack,
            403: good({"topic_id": "writable", "seq": 1}, who=PUBLISHER),
            404: good({"topic_id": "missing", "seq": 1}),
            422: good({"topic_id": "passing", "seq": 1}),
            429: ack._replace(who=GREEDY),
        },
        "alias_ack": refused(by_id, True)
        | {
            204: by_id,
            403: good({"message_id": "$hidden"}, who=PUBLISHER),
            404: good({"message_id": "$unknown"}),
            429: by_id._replace(who=GREEDY),
        },
    }


def _others() -> dict[str, dict[int, Recipe]]:
    ticket, revocation = good({"kind": "once"}), good({"user_id": "gone"}, who=ADMIN)
    return {
        "show_top": refused(good(who=ADMIN), False)
        | {200: good(who=ADMIN), 403: good(who=STRANGER), 429: good(who=GREEDY)},
        "create_ticket": refused(ticket, True)
        | {
            200: ticket,
            422: good({"kind": "stream", "topic_ids": ["open"]})._replace(headers=USED_KEY),
            429: ticket._replace(who=GREEDY),
        },
        "create_revocation": refused(revocation, True)
        | {204: revocation, 403: revocation._replace(who=OWNER), 422: revocation._replace(headers=USED_KEY)},
        "openapi": {200: good()},
        "asyncapi": {200: good()},
    }


RECIPES: Final[Mapping[str, Mapping[int, Recipe]]] = {
    **_topics(),
    **_publishes(),
    **_messages(),
    **_members_and_connections(),
    **_channels(),
    **_letters(),
    **_inbox(),
    **_others(),
}
