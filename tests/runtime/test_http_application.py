"""The common checks in their order, and what every answer has, whatever the role."""

import asyncio
import json
from typing import Any, NamedTuple

import pytest

from headgate.core.wire.rights import Caller
from headgate.runtime.http.application import PIECE_BYTES, HttpApp
from headgate.runtime.http.bodies import JSON, NDJSON
from headgate.runtime.http.bounded import ABORT
from headgate.runtime.http.call import Call, Reply, reply
from headgate.runtime.http.callers import Users
from headgate.runtime.http.endpoints import AnswerShape, Body, Endpoint
from headgate.runtime.http.memory_budget import REQUEST_BYTES, MemoryBudget
from headgate.runtime.http.origins import Origins
from headgate.runtime.http.paths import Paths
from headgate.runtime.http.queries import MAX_FIELDS
from headgate.runtime.system import SystemClock
from headgate.runtime.tokens import Authenticator, TokenKey, mint

SECRET = "a secret of at least thirty-two bytes"
LIMIT = 100
PAGE = "https://app.test"
CLOCK = SystemClock()
TOKEN = mint(TokenKey(SECRET), Caller("bob"), now_s=CLOCK.wall_ms() / 1_000, ttl_s=86_400)
BEARER = (b"authorization", f"Bearer {TOKEN}".encode())
ROWS = (
    Endpoint("ingest", "POST", "/t/{id}", "post", body=Body(LIMIT, frozenset({JSON, NDJSON}))),
    Endpoint("ingest", "GET", "/t/{id}", "get"),
    Endpoint("ingest", "GET", "/broken", "broken"),
    Endpoint("ingest", "GET", "/large", "large"),
    Endpoint("ingest", "GET", "/free", "free", who="anyone"),
    Endpoint("ingest", "GET", "/stream", "", AnswerShape(200, "text/event-stream")),
)


class Answered(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes
    pieces: int

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["code"])


class Bed:
    """An application whose handlers answer with what they were called with."""

    def __init__(self, mode: str = "jwt", *, users: bool = True, **options: Any) -> None:
        self.calls: list[Call] = []
        self.refusals: list[str] = []
        self.received = 0  # how often the application asked for a piece of a body
        self.budget = MemoryBudget(4 * REQUEST_BYTES, 2 * REQUEST_BYTES)
        authenticator = Authenticator(mode, TokenKey(SECRET), CLOCK)  # type: ignore[arg-type]
        rows = ROWS if users else [row for row in ROWS if row.who == "anyone"]
        self.handlers = {row.handler: getattr(self, row.handler) for row in rows if row.handler}
        self.app = HttpApp(
            Paths(rows, self.handlers),
            Users(authenticator, Origins((PAGE,), is_open=authenticator.open)) if users else None,
            budget=self.budget,
            count_refusal=lambda code, detail: self.refusals.append(code),
            **options,
        )

    async def post(self, call: Call) -> Reply:
        self.calls.append(call)
        return reply({"sum": self.budget.size}, 201)

    get = free = post

    async def broken(self, call: Call) -> Reply:
        raise ValueError("planted")

    async def large(self, call: Call) -> Reply:
        return Reply(200, b"x" * (2 * PIECE_BYTES + 1), content_type=b"text/plain")

    async def ask(
        self, method: str, path: str, *headers: tuple[bytes, bytes], body: tuple[bytes, ...] | None = (b"",)
    ) -> Answered:
        """`body` comes in these pieces; with None the client goes away."""
        target, _, query = path.partition("?")
        sent: list[Any] = []
        pieces = list(body or ())

        async def receive() -> Any:
            self.received += 1
            if body is None:
                return {"type": "http.disconnect"}
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        about = {"method": method, "raw_path": target.encode(), "query_string": query.encode(), "headers": [*headers]}
        await self.app({"type": "http"} | about, receive, send)
        if not sent:
            return Answered(0, {}, b"", 0)
        start, *rest = sent
        return Answered(start["status"], dict(start["headers"]), b"".join(piece["body"] for piece in rest), len(rest))


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % size


ALL_WRONG = ((b"content-type", b"text/xml"), (b"authorization", b"Bearer x"), length(LIMIT + 1))


@pytest.mark.parametrize(
    ("method", "path", "headers", "code"),
    [
        ("PATCH", "/nowhere", ALL_WRONG, "not_found"),
        ("PATCH", "/t/x", ALL_WRONG, "method_not_allowed"),
        ("GET", "/stream", (BEARER,), "method_not_allowed"),
        ("POST", "/t/x", ALL_WRONG, "too_large"),
        ("POST", "/t/x", (*ALL_WRONG[:2], length(LIMIT)), "unauthenticated"),
        ("POST", "/t/x", (ALL_WRONG[0], BEARER, length(LIMIT)), "unsupported_media_type"),
        ("POST", "/t/x", (BEARER, (b"content-encoding", b"gzip"), length(1)), "unsupported_media_type"),
        ("POST", "/t/x", (BEARER, (b"content-type", b"application/json"), (b"content-encoding", b"gzip"), length(1)),
         "unsupported_media_type"),
        ("POST", "/t/x", (BEARER, (b"content-type", b"application/json; charset=latin-1"), length(1)),
         "unsupported_media_type"),
        ("POST", "/t/x?" + "&" * MAX_FIELDS, (length(LIMIT),), "bad_request"),
    ],
)  # fmt: skip
async def test_the_first_check_that_fails_answers(
    method: str, path: str, headers: tuple[tuple[bytes, bytes], ...], code: str
) -> None:
    bed = Bed()
    answer = await bed.ask(method, path, *headers)
    assert answer.code == code
    assert bed.refusals == [code]
    assert answer.headers[b"vary"] == b"Origin"
    assert bed.calls == [] and bed.received == 0 and bed.budget.size == 0


async def test_a_handler_gets_a_named_parameter_the_query_the_key_and_the_body() -> None:
    bed = Bed()
    kind = (b"content-type", b"Application/X-NDJSON; charset=utf-8")
    answer = await bed.ask(
        "POST", "/t/a%2Fb?x=1&x=2&y=", BEARER, kind, (b"idempotency-key", b"k"), length(4), body=(b"ab", b"cd")
    )
    (call,) = bed.calls
    assert (call.caller.user_id, call.path_parameters) == ("bob", {"id": "a/b"})
    assert (call.query, call.query_string) == ({"x": "2", "y": ""}, b"x=1&x=2&y=")
    assert (call.media_type, call.idempotency_key, call.body) == (NDJSON, "k", b"abcd")
    assert json.loads(answer.body) == {"sum": REQUEST_BYTES + 4}
    assert (answer.status, answer.headers[b"content-type"]) == (201, JSON.encode())
    assert answer.headers[b"content-length"] == b"%d" % len(answer.body)
    assert bed.budget.size == 0 and bed.budget.by_user == {}


async def test_as_many_fields_as_allowed_pass() -> None:
    assert (await Bed().ask("GET", "/t/x?" + "&" * (MAX_FIELDS - 1), BEARER)).status == 201


async def test_who_a_request_is_from_is_known_before_its_body_is_read() -> None:
    bed = Bed()
    assert (await bed.ask("POST", "/t/x", length(LIMIT))).code == "unauthenticated"
    assert bed.received == 0
    chunked = (b"transfer-encoding", b"chunked")
    assert (await bed.ask("POST", "/t/x", chunked, body=(b"x", b"y"))).code == "unauthenticated"
    assert bed.received == 2, "it may have been too large, which comes first"
    assert (await bed.ask("POST", "/t/x", chunked, body=(b"x" * LIMIT, b"y"))).code == "too_large"
    assert (await bed.ask("POST", "/t/x", BEARER, chunked, body=(b"x" * LIMIT, b"y"))).code == "too_large"
    assert (await bed.ask("POST", "/t/x", BEARER, chunked, body=(b"x" * (LIMIT - 1), b"y"))).status == 201
    assert bed.budget.size == 0


async def test_what_a_user_holds_is_bounded_before_the_body_is_read() -> None:
    bed = Bed()
    other = bed.budget.share()
    other.open("bob", REQUEST_BYTES)
    assert (await bed.ask("POST", "/t/x", BEARER, length(1))).code == "overloaded"
    assert bed.received == 0


async def test_an_announced_body_counts_before_it_is_read_and_another_as_it_comes() -> None:
    bed = Bed()
    other = bed.budget.share()
    other.open("bob", 0)
    other.grow(-50)  # leaves room for a body of 50 bytes
    assert (await bed.ask("POST", "/t/x", BEARER, length(51))).code == "overloaded"
    assert bed.received == 0
    assert (await bed.ask("POST", "/t/x", BEARER, length(50))).status == 201
    chunked = (b"transfer-encoding", b"chunked")
    assert (await bed.ask("POST", "/t/x", BEARER, chunked, body=(b"x" * 50, b"y"))).code == "overloaded"
    other.grow(50)
    assert (await bed.ask("POST", "/t/x", BEARER, chunked, body=(b"y",))).code == "overloaded"
    assert (await bed.ask("POST", "/t/x", BEARER)).status == 201


async def test_a_body_that_does_not_come_is_408_and_the_connection_ends() -> None:
    bed = Bed(deadline_s=0.01)

    async def never() -> Any:
        await asyncio.Event().wait()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "raw_path": b"/t/x", "query_string": b"", "headers": [BEARER, length(1)]}
    await bed.app(scope, never, send)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_a_connection_whose_client_does_not_read_is_reset_and_no_error() -> None:
    bed, gone = Bed(deadline_s=0.01), asyncio.Event()
    coming = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if coming:
            return coming.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await gone.wait()

    scope = {"type": "http", "method": "GET", "raw_path": b"/large", "query_string": b"", "headers": [BEARER]}
    await bed.app(scope | {"extensions": {ABORT: gone.set}}, receive, send)
    assert gone.is_set() and bed.budget.size == 0


async def test_a_client_that_goes_away_gets_no_answer() -> None:
    bed = Bed()
    assert (await bed.ask("POST", "/t/x", BEARER, length(1), body=None)).status == 0
    assert bed.refusals == [] and bed.budget.size == 0


async def test_head_is_the_answer_of_get_without_its_body() -> None:
    bed = Bed()
    get, head = await bed.ask("GET", "/t/x", BEARER), await bed.ask("HEAD", "/t/x", BEARER)
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert (await bed.ask("HEAD", "/t/x")).body == b""


async def test_a_large_answer_goes_out_in_pieces() -> None:
    answer = await Bed().ask("GET", "/large", BEARER)
    assert (len(answer.body), answer.pieces) == (2 * PIECE_BYTES + 1, 3)
    assert answer.headers[b"content-type"] == b"text/plain"


async def test_trouble_in_a_handler_is_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    answer = await Bed().ask("GET", "/broken", BEARER)
    assert (answer.status, answer.code) == (500, "internal")
    assert b"planted" not in answer.body
    assert "planted" in caplog.text


@pytest.mark.parametrize(("origin", "status"), [(PAGE, 204), ("https://evil.test", 403)])
async def test_a_preflight_lists_the_methods_of_the_path(origin: str, status: int) -> None:
    asks = (b"access-control-request-method", b"POST")
    answer = await Bed().ask("OPTIONS", "/t/x", (b"origin", origin.encode()), asks)
    assert answer.status == status
    assert (answer.headers.get(b"access-control-allow-methods") == b"GET, HEAD, POST") == (status == 204)
    assert (answer.headers.get(b"access-control-allow-origin") == origin.encode()) == (status == 204)
    plain = await Bed().ask("OPTIONS", "/t/x", (b"origin", origin.encode()))
    assert (plain.status, plain.headers[b"allow"]) == (405, b"GET, HEAD, POST")


@pytest.mark.parametrize(("method", "status"), [("POST", 403), ("GET", 201), ("HEAD", 201)])
async def test_in_open_mode_a_foreign_page_changes_nothing(method: str, status: int) -> None:
    bed = Bed("open")
    foreign = await bed.ask(method, "/t/x?user=eve", (b"origin", b"https://evil.test"))
    assert foreign.status == status
    assert b"access-control-allow-origin" not in foreign.headers
    own = await bed.ask(method, "/t/x?user=ana", (b"origin", PAGE.encode()))
    assert (own.status, bed.calls[-1].caller.user_id) == (201, "ana")


async def test_an_endpoint_for_anyone_needs_no_token_and_reads_no_query() -> None:
    bed = Bed()
    assert (await bed.ask("GET", "/free?" + "&" * MAX_FIELDS)).status == 201
    assert (bed.calls[0].caller.user_id, bed.calls[0].query) == ("", {})


async def test_without_users_no_page_of_another_origin_may_call() -> None:
    bed = Bed(users=False)
    page = (b"origin", PAGE.encode())
    answer = await bed.ask("GET", "/free", page)
    assert answer.status == 201
    assert b"vary" not in answer.headers and b"access-control-allow-origin" not in answer.headers
    assert (await bed.ask("OPTIONS", "/free", page, (b"access-control-request-method", b"GET"))).status == 405


def test_without_users_an_endpoint_that_needs_them_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match="for users only"):
        HttpApp(Paths(ROWS, Bed().handlers), None)


async def test_a_path_that_is_not_here_goes_to_the_fallback() -> None:
    passed: list[Any] = []

    async def fallback(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["raw_path"])

    bed = Bed(fallback=fallback)
    await bed.ask("GET", "/nowhere")
    assert (await bed.ask("PATCH", "/t/x")).status == 405
    assert passed == [b"/nowhere"]
