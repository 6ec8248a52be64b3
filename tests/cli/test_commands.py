"""Exit statuses and standard output of every other command: 0 done, 1 it failed, 2 the command was wrong."""

import json
import logging
import os
import resource
import signal
from pathlib import Path

import jwt
import pytest
import structlog

from headgate.runtime.logs.sqlite_file import SqliteFile
from headgate.runtime.system import SystemRng
from tests.cli.conftest import Command, Headgate
from tests.cli.twin import Reply, Twin, refusal

SECRET = "s" * 40


def test_an_error_of_the_system_names_the_file_that_it_is_about(headgate: Headgate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", "utf-8")
    words = ("dispatcher", "--auth.secret", SECRET, "--log.url", "kafka://127.0.0.1:1", "--data")
    done = headgate(*words, str(tmp_path / "file" / "data"))
    assert (done.status, done.err) == (1, f"{tmp_path}/file/data: Not a directory\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("dev", "--prot", "1"), "--port"),
        (("dev", "--dev.prot", "1"), "dev.port"),
        (("--dev.prot=1", "dev"), "dev.port"),
        (("history", "t", "--dev.prot"), "dev.port"),
        (("dev", "--log.url"), "--log.url needs a value"),
        (("dev", "--log.url", "nonsense"), "memory:"),
        (("dev", "--config", "nowhere.toml"), "nowhere.toml"),
        (("dev", "--port", "1", "--dev.port", "2"), "twice"),
        (("ingest", "--auth.secret", SECRET), "kafka://"),
        (("dispatcher", "--log.url", "sqlite:x"), "kafka://"),
        (("gateway", "--auth.mode", "open"), "open"),
        (("init",), "kafka://"),
        (("pubish",), "publish"),
        (("topics", "lst"), "list"),
        (("direct", "\udcff"), "not UTF-8"),  # as Python reads a byte that is not UTF-8
        (("messages", "react", "t", "m", "\udcff"), "not UTF-8"),
        (("topics", "get", "\udcff"), "not UTF-8"),
        (("topics", "create", "t", "--settings", "[]"), "--settings"),
        (("topics", "update", "t"), "--name"),
        (("topics", "update", "t", "--settings", "[]"), "--settings"),
        (("members", "add", "t"), "USER"),
        (("messages", "edit", "t", "m", "{"), "PAYLOAD is not JSON"),
        (("messages", "edit", "t", "m", "1", "--version", "0"), "--version"),
        (("messages", "react", "t", "m"), "NAME"),
        (("history",), "TOPIC"),
        (("history", "t", "--limit", "many"), "--limit"),
        (("history", "t", "--limit", "-5"), "--limit"),
        (("history", "t", "--limit", "1001"), "--after-seq"),
        (("history", "t", "--after-seq", "-1"), "--after-seq"),
        (("token", "mint", "--sub", "u"), "auth.secret"),
        (("token", "mint", "--sub", "", "--auth.secret", SECRET), "--sub"),
        (("token", "mint", "--sub", "u", "--ttl", "-1", "--auth.secret", SECRET), "--ttl"),
        (("token", "mint", "--sub", "u", "--jti", "", "--auth.secret", SECRET), "--jti"),
        (("token", "revoke"), "--user or --jti"),
        (("token", "revoke", "--user", "ann", "--jti", "t"), "--user or --jti"),
        (("ticket", "--ttl", "5"), "--ttl"),
    ],
)
def test_a_wrong_command_is_one_line_on_standard_error(at_once: Command, words: tuple[str, ...], says: str) -> None:
    done = at_once(*words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert says in done.err


def test_a_setting_that_conflicts_with_the_log_is_a_wrong_command(at_once: Command, tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "log.db")
    file.open(4, SystemRng(), 0)
    file.close()
    done = at_once("dev", "--port", "0", "--log.url", f"sqlite:{tmp_path / 'log.db'}", "--log.shards", "8")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "log.db has 4 shards, the setting says 8" in done.err


@pytest.mark.parametrize("words", [("dev", "--log.url", "sqlite:/proc/none/log.db"), ("init",)])
def test_a_server_puts_back_what_it_changed_in_its_process(at_once: Command, words: tuple[str, ...]) -> None:
    """A SIGTERM handler that stayed would end the test run inside whatever test it came to."""

    def state() -> tuple[object, ...]:
        umask = os.umask(0)
        os.umask(umask)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        root = logging.getLogger()
        return signal.getsignal(signal.SIGTERM), umask, limit, root.handlers[:], root.level, structlog.get_config()

    before = state()
    assert at_once(*words).status != 0
    assert state() == before


def test_an_unknown_variable_is_a_wrong_command(headgate: Headgate) -> None:
    done = headgate("config", HEADGATE_LOG__ULR="x")
    assert (done.status, done.out) == (2, "")
    assert "HEADGATE_LOG__URL" in done.err
    assert headgate("config", HEADGATE_SOMETHING_ELSE="x").status == 0


def test_help_names_every_command(headgate: Headgate) -> None:
    done = headgate("--help")
    assert (done.status, done.err) == (0, "")
    for name in ("dev", "ingest", "dispatcher", "gateway", "init", "topics", "publish", "subscribe", "history", "token",
                 "members", "connections", "events",
                 "config", "demo"):  # fmt: skip
        assert f" {name} " in done.out


@pytest.mark.parametrize("group", [(), ("topics",), ("members",), ("token",)])
def test_without_a_command_the_usage_is_on_standard_error(at_once: Command, group: tuple[str, ...]) -> None:
    done = at_once(*group)
    assert (done.status, done.out) == (2, "")
    assert f"Usage: {' '.join(('headgate', *group))} [OPTIONS] COMMAND" in done.err
    asked = at_once(*group, "--help")
    assert (asked.status, asked.err) == (0, "")
    assert asked.out.split() == done.err.split()


@pytest.mark.parametrize("role", ["dev", "ingest", "dispatcher", "gateway"])
def test_help_of_a_server_says_the_defaults_in_force(at_once: Command, role: str) -> None:
    settings = {line["name"]: line["value"] for line in at_once("config").lines}
    shown = " ".join(at_once(role, "--help").out.split())
    assert f"else {settings[f'{role}.port']}." in shown
    assert f"else {settings[f'{role}.host']}." in shown


def test_config_is_one_object_a_line_with_masked_secrets(headgate: Headgate, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[gateway]\nport = 1234\n")
    done = headgate("config", "--config", "c.toml", "--dev.port", "1", HEADGATE_AUTH__SECRET=SECRET)
    assert done.status == 0
    found = {line["name"]: (line["value"], line["source"]) for line in done.lines}
    assert {tuple(line) for line in done.lines} == {("name", "value", "source")}
    assert found["gateway.port"] == (1234, "file")
    assert found["dev.port"] == (1, "flag")
    assert found["auth.secret"] == ("****", "env")
    assert found["admin.port"] == (9090, "default")
    assert SECRET not in done.out


def test_token_mint_prints_the_bare_token_or_the_object(headgate: Headgate) -> None:
    words = ("token", "mint", "--sub", "ann", "--ttl", "60", "--publish", "a*", "--publish", "b", "--only")
    bare = headgate(*words, HEADGATE_AUTH__SECRET=SECRET)
    assert (bare.status, bare.out.count("\n")) == (0, 1)
    claims = jwt.decode(bare.out.strip(), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["headgate"]) == ("ann", {"publish": ["a*", "b"], "only": True})
    assert 55 <= claims["exp"] - claims["iat"] <= 61
    (line,) = headgate(*words, "--json", HEADGATE_AUTH__SECRET=SECRET).lines
    assert jwt.decode(line["token"], SECRET, algorithms=["HS256"])["sub"] == "ann"


def test_a_minted_token_lives_no_longer_than_servers_accept(headgate: Headgate) -> None:
    """Without `--ttl` 3600 s, or `auth.token_life_s` where it is shorter: the command may not need to know it."""
    for life, seconds in (("60", 60), ("86400", 3_600)):
        bare = headgate("token", "mint", "--sub", "ann", HEADGATE_AUTH__SECRET=SECRET, HEADGATE_AUTH__TOKEN_LIFE_S=life)
        claims = jwt.decode(bare.out.strip(), SECRET, algorithms=["HS256"])
        assert seconds <= claims["exp"] - claims["iat"] <= seconds + 1  # whole seconds around both ends
    words = ("token", "mint", "--sub", "ann", "--ttl", "61")
    longer = headgate(*words, HEADGATE_AUTH__SECRET=SECRET, HEADGATE_AUTH__TOKEN_LIFE_S="60")
    assert longer.status == 2 and "auth.token_life_s" in longer.err


def test_a_minted_token_may_have_an_id(headgate: Headgate) -> None:
    bare = headgate("token", "mint", "--sub", "ann", "--jti", "t1", HEADGATE_AUTH__SECRET=SECRET)
    assert jwt.decode(bare.out.strip(), SECRET, algorithms=["HS256"])["jti"] == "t1"


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (("--user", "ann"), {"user_id": "ann"}),
        (("--jti", "t1"), {"jti": "t1"}),
        (("--user", "ann", "--not-before", "5"), {"user_id": "ann", "not_before": 5}),
    ],
)
def test_token_revoke_posts_a_revocation(
    headgate: Headgate, twin: Twin, words: tuple[str, ...], body: dict[str, object]
) -> None:
    twin.next((204, {}, None))
    done = headgate("token", "revoke", *words, "--url", twin.url, "--token", "T")
    assert (done.status, done.lines) == (0, [{**body, "revoked": True}])
    ((method, path, headers, sent),) = twin.requests
    assert (method, path, headers["Authorization"]) == ("POST", "/api/v1/revocations", "Bearer T")
    assert json.loads(sent) == body


def test_a_revocation_that_is_refused_fails(headgate: Headgate, twin: Twin) -> None:
    twin.next(refusal(403, "forbidden"))
    done = headgate("token", "revoke", "--user", "ann", "--url", twin.url)
    assert (done.status, done.out) == (1, "") and "403 forbidden" in done.err


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ((), {"kind": "once"}),
        (("a", "b"), {"kind": "stream", "topic_ids": ["a", "b"]}),
        (("a", "--ttl", "60"), {"kind": "stream", "topic_ids": ["a"], "ttl_s": 60.0}),
    ],
)
def test_ticket_prints_the_bare_ticket_or_the_object(
    headgate: Headgate, twin: Twin, words: tuple[str, ...], body: dict[str, object]
) -> None:
    for _ in range(2):
        twin.next((200, {}, {"ticket": "T1", "expires_in": 30}))
    assert headgate("ticket", *words, "--url", twin.url).out == "T1\n"
    assert headgate("ticket", *words, "--url", twin.url, "--json").lines == [{"ticket": "T1", "expires_in": 30}]
    assert [(m, p, json.loads(b)) for m, p, _, b in twin.requests] == [("POST", "/api/v1/tickets", body)] * 2


def test_topics_create_sends_the_id_as_the_name(headgate: Headgate, twin: Twin) -> None:
    twin.next((201, {}, {"topic_id": "t", "name": "t", "epoch": 1}))
    done = headgate("topics", "create", "t", "--permissions", "PRIVATE", "--url", twin.url)
    assert (done.status, done.lines) == (0, [{"topic_id": "t", "name": "t", "epoch": 1}])
    method, path, _, body = twin.requests[0]
    assert (method, path) == ("POST", "/api/v1/topics")
    assert json.loads(body) == {"topic_id": "t", "name": "t", "permissions": "PRIVATE"}


def test_topics_list_goes_through_all_pages(headgate: Headgate, twin: Twin) -> None:
    twin.next((200, {}, {"topics": [{"topic_id": "a"}, {"topic_id": "b"}], "next_page": "p&2"}))
    twin.next((200, {}, {"topics": [{"topic_id": "c"}], "next_page": None}))
    done = headgate("topics", "list", "--prefix", "x", HEADGATE_CLIENT__URL=twin.url)
    assert (done.status, [line["topic_id"] for line in done.lines]) == (0, ["a", "b", "c"])
    assert [path for _, path, *_ in twin.requests] == [
        "/api/v1/topics?prefix=x&limit=1000",
        "/api/v1/topics?prefix=x&limit=1000&page=p%262",
    ]


def test_topics_stats_and_flush(headgate: Headgate, twin: Twin) -> None:
    twin.next((200, {}, {"published": 3, "queue_length": 0}))
    twin.next((202, {}, {"topic_id": "a:b", "gateways": 2}))
    assert headgate("topics", "stats", "a:b", "--url", twin.url).lines == [{"published": 3, "queue_length": 0}]
    assert headgate("topics", "flush", "a:b", "--url", twin.url).lines == [{"topic_id": "a:b", "gateways": 2}]
    assert [(m, p) for m, p, *_ in twin.requests] == [
        ("GET", "/api/v1/topics/a%3Ab/stats"),
        ("POST", "/api/v1/topics/a%3Ab/flush"),
    ]


def test_topics_get_and_delete(headgate: Headgate, twin: Twin) -> None:
    twin.next((200, {}, {"topic_id": "a:b", "seq": 3}))
    twin.next((204, {}, None))
    assert headgate("topics", "get", "a:b", "--url", twin.url).lines == [{"topic_id": "a:b", "seq": 3}]
    assert headgate("topics", "delete", "a:b", "--url", twin.url).lines == [{"topic_id": "a:b", "deleted": True}]
    assert [(m, p) for m, p, *_ in twin.requests] == [
        ("GET", "/api/v1/topics/a%3Ab"),
        ("DELETE", "/api/v1/topics/a%3Ab"),
    ]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (refusal(404, "topic_not_found"), "404 topic_not_found: said topic_not_found"),
        ((502, {"Content-Type": "text/html"}, "a proxy"), "502"),
    ],
)
def test_a_refusal_is_one_line_and_nothing_on_standard_output(
    headgate: Headgate, twin: Twin, reply: Reply, says: str
) -> None:
    twin.next(reply)
    done = headgate("topics", "get", "t", "--url", twin.url, "--json")
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert says in done.err


def frames(first: int, last: int) -> list[dict[str, object]]:
    return [{"type": "message", "topic_id": "t", "seq": n, "payload": n} for n in range(first, last + 1)]


def test_history_is_one_message_a_line(headgate: Headgate, twin: Twin) -> None:
    twin.next((200, {}, {"messages": frames(1, 3), "epoch": 1, "first_seq": 1, "last_seq": 3, "complete": True}))
    done = headgate("history", "t", "--url", twin.url)
    assert [line["seq"] for line in done.lines] == [1, 2, 3]
    assert [path for _, path, *_ in twin.requests] == ["/api/v1/topics/t/messages?limit=100"]


def test_history_above_a_page_goes_on_where_it_was(headgate: Headgate, twin: Twin) -> None:
    for first, last in ((1, 1_000), (1_001, 2_000), (2_001, 2_500)):
        twin.next((200, {}, {"messages": frames(first, last), "last_seq": 9_000, "complete": True}))
    done = headgate("history", "t", "--after-seq", "0", "--limit", "2500", "--url", twin.url)
    assert [line["seq"] for line in done.lines] == list(range(1, 2_501))
    assert [path.partition("?")[2] for _, path, *_ in twin.requests] == [
        "after_seq=0&limit=1000",
        "after_seq=1000&limit=1000",
        "after_seq=2000&limit=500",
    ]


def pages(*spans: tuple[int, int], last_seq: int) -> list[Reply]:
    return [(200, {}, {"messages": frames(*span), "last_seq": last_seq, "complete": True}) for span in spans]


@pytest.mark.parametrize(
    ("words", "first", "queries"),
    [
        (("--after-seq", "0", "--limit", "1000"), 1, ["after_seq=0&limit=1000", "after_seq=139&limit=861"]),
        (("--limit", "210"), 1, ["limit=210", "after_seq=139&limit=71"]),
        ((), 111, ["limit=100", "after_seq=139&limit=71"]),
    ],
)
def test_history_goes_on_after_a_page_that_bytes_cut_short(
    headgate: Headgate, twin: Twin, words: tuple[str, ...], first: int, queries: list[str]
) -> None:
    for reply in pages((first, 139), (140, 210), last_seq=210):
        twin.next(reply)
    done = headgate("history", "t", *words, "--url", twin.url)
    assert (done.status, done.err) == (0, "")
    assert [line["seq"] for line in done.lines] == list(range(first, 211))
    assert [path.partition("?")[2] for _, path, *_ in twin.requests] == queries


def test_history_ends_on_an_empty_page(headgate: Headgate, twin: Twin) -> None:
    for reply in pages((1, 5), (6, 5), last_seq=7):
        twin.next(reply)
    done = headgate("history", "t", "--after-seq", "0", "--url", twin.url)
    assert (done.status, [line["seq"] for line in done.lines]) == (0, [1, 2, 3, 4, 5])
    assert len(twin.requests) == 2


ODD = [r'"\ud800"', "1e999", r'{"a":["\udc00]","\ud83d\ude00",-1e999],"a":1.10}', "1" * 5_000]


def odd_frames() -> list[str]:
    return [f'{{"type":"message","topic_id":"t","seq":{n},"payload":{text}}}' for n, text in enumerate(ODD, 1)]


def odd_page() -> Reply:
    return 200, {}, f'{{"messages":[{",".join(odd_frames())}],"epoch":1,"first_seq":1,"last_seq":4}}'.encode()


def test_history_of_any_legal_payload_is_as_it_came(headgate: Headgate, twin: Twin) -> None:
    twin.next(odd_page())
    done = headgate("history", "t", "--url", twin.url)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == odd_frames()


def test_history_goes_on_after_a_lone_surrogate(headgate: Headgate, twin: Twin) -> None:
    for n in (1, 2):
        frame = rf'{{"type":"message","topic_id":"t","seq":{n},"payload":"\ud800"}}'
        twin.next((200, {}, f'{{"messages":[{frame}],"last_seq":2}}'.encode()))
    done = headgate("history", "t", "--after-seq", "0", "--url", twin.url)
    assert (done.status, [line["seq"] for line in done.lines]) == (0, [1, 2])


def test_a_person_sees_the_text_of_a_payload_that_is_no_value(headgate: Headgate, twin: Twin) -> None:
    twin.next(odd_page())
    done = headgate.on_terminal("history", "t", "--url", twin.url)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == odd_frames()


def test_a_person_sees_a_readable_line(headgate: Headgate, twin: Twin) -> None:
    twin.next((200, {}, {"messages": frames(7, 7), "last_seq": 7}))
    done = headgate.on_terminal("history", "t", "--url", twin.url)
    assert (done.status, done.out) == (0, "#7  t  7\n")


@pytest.mark.parametrize(
    "words",
    [
        ("topics", "list"),
        ("history", "t"),
        ("topics", "delete", "t"),
        ("members", "list", "t"),
        ("connections",),
        ("events",),
    ],
)
def test_an_unreachable_server_is_named(at_once: Command, words: tuple[str, ...]) -> None:
    done = at_once(*words, "--url", "http://127.0.0.1:9")
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert "http://127.0.0.1:9" in done.err
