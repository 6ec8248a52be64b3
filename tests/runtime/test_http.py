"""Credentials in their order, origins, and problems."""

import json

import pytest

from headgate.core.wire.errors import CODES, Refusal
from headgate.runtime.http.cors import cors_headers, preflight_headers
from headgate.runtime.http.credentials import Credential, of_request, of_stream, open_user
from headgate.runtime.http.hosts import Hosts
from headgate.runtime.http.origins import Origins
from headgate.runtime.http.problem import problem_of

TOKEN = "tok"


def of(
    authorization: str | None = None, protocols: tuple[str, ...] = (), query_token: bool = True, **query: str
) -> object:
    return of_stream(authorization, protocols, query, query_token=query_token)


def test_the_first_credential_decides() -> None:
    pair = ("headgate.v1", "bearer.sub")
    assert of("Bearer head", pair, ticket="tick", token="query") == Credential("token", "head")
    assert of(None, pair, ticket="tick", token="query") == Credential("token", "sub")
    assert of(None, ("headgate.v1",), ticket="tick", token="query") == Credential("ticket", "tick")
    assert of(None, (), token="query") == Credential("token", "query")
    assert of() is None


def test_a_bad_header_is_not_followed_by_another() -> None:
    for header in ("Basic x", "Bearer", "Bearer ", "Bearer a b", "", "bearer\tx y"):
        with pytest.raises(Refusal, match="unauthenticated"):
            of(header, token="query")


def test_scheme_is_read_in_any_case() -> None:
    assert of_request("bEARER  tok ") == TOKEN


def test_a_query_token_can_be_switched_off() -> None:
    assert of(None, (), query_token=False, token="query") is None


def test_a_subprotocol_token_needs_ours_beside_it() -> None:
    assert of(None, ("other", "bearer.sub")) is None


def test_a_request_needs_the_header() -> None:
    with pytest.raises(Refusal, match="unauthenticated"):
        of_request(None)


def test_open_mode_reads_the_query_first() -> None:
    assert open_user({"user": "q"}, "h") == "q"
    assert open_user({"user": ""}, "h") == "h"
    assert open_user({}, None) is None


def test_every_code_has_a_whole_problem() -> None:
    for code, about in CODES.items():
        status, headers, body = problem_of(Refusal(code, "because", first_seq=3))
        problem = json.loads(body)
        assert status == problem["status"] == about.status
        assert (problem["code"], problem["retryable"], problem["title"]) == (code, about.retryable, about.title)
        assert (problem["detail"], problem["first_seq"]) == ("because", 3)
        assert problem["type"].endswith(code)
        named = dict(headers)
        assert named[b"content-type"] == b"application/problem+json"
        assert int(named[b"content-length"]) == len(body)
        assert (b"retry-after" in named) == (status in (429, 503))
        assert (b"www-authenticate" in named) == (status == 401)


@pytest.mark.parametrize(
    ("wait_ms", "seconds"), [(None, b"1"), (1, b"1"), (1_000, b"1"), (1_001, b"2"), (60_000, b"60")]
)
def test_retry_after_is_whole_seconds(wait_ms: int | None, seconds: bytes) -> None:
    _, headers, _ = problem_of(Refusal("rate_limited", "", retry_after_ms=wait_ms))
    assert dict(headers)[b"retry-after"] == seconds


def test_allow_is_a_header_and_no_member() -> None:
    _, headers, body = problem_of(Refusal("method_not_allowed", "", allow=["GET", "HEAD"]))
    assert dict(headers)[b"allow"] == b"GET, HEAD"
    assert "allow" not in json.loads(body)


def test_origins() -> None:
    assert Origins().allows("http://a.test:8080", "A.test:8080")
    assert not Origins().allows("http://a.test:8080", "a.test")
    assert not Origins().allows("http://a.test", None)
    assert Origins(("loopback",)).allows("http://app.localhost", "x")
    assert not Origins(("loopback",)).allows("ftp://localhost", "x")
    assert Origins(("loopback",)).allows("http://127.8.9.1:3", "x")
    assert not Origins(("loopback",)).allows("http://[::", "x")
    assert Origins(("loopback",)).allows("http://a.test", "a.test"), "what is added to the default does not end it"
    both = Origins(("https://app.test", "loopback"))
    assert both.allows("http://localhost:3", "x") and both.allows("https://app.test", "x")
    assert not both.allows("http://a.test", "a.test")
    assert Origins(("HTTPS://App.test",)).allows("https://app.TEST", "x")


APP = "https://app.example.com"


@pytest.mark.parametrize(
    ("allowed", "origin", "host", "expected"),
    [
        (None, APP, "app.example.com:443", True),
        (None, f"{APP}:443", "app.example.com", True),
        (None, "http://app.example.com", "app.example.com:80", True),
        (None, "http://app.example.com:80", "app.example.com", True),
        (None, "https://app.example.com.", "app.example.com", True),
        (None, APP, "app.example.com.:443", True),
        (None, APP, "app.example.com:80", False),
        (None, APP, "app.example.com:8443", False),
        (None, "capacitor://app.example.com", "app.example.com", False),
        (None, "null", "null", False),
        (None, "", "", False),
        ((f"{APP}:443",), APP, "x", True),
        ((f"{APP}.",), APP, "x", True),
        ((APP,), f"{APP}:443", "x", True),
        ((APP,), "http://app.example.com", "x", False),
        ((APP,), "https://app.example.com:8443", "x", False),
        (("capacitor://localhost",), "capacitor://localhost", "x", True),
        (("capacitor://localhost",), "ionic://localhost", "x", False),
        (("capacitor://localhost",), "http://localhost", "x", False),
        (("chrome-extension://abcdef",), "chrome-extension://abcdef", "x", True),
        (("https://*.example.com",), APP, "x", True),
        (("https://*.example.com",), f"{APP}:443", "x", True),
        (("https://*.example.com",), "https://example.com", "x", False),
        (("https://*.example.com",), "https://a.b.example.com", "x", False),
        (("https://*.example.com",), "https://.example.com", "x", False),
        (("https://*.example.com",), "https://evil-example.com", "x", False),
        (("https://*.example.com",), "https://app.example.com.evil.test", "x", False),
        (("https://*.example.com",), "http://app.example.com", "x", False),
        (("null",), "null", "x", True),
        (("null",), APP, "x", False),
        (("*",), "null", "x", True),
        (("*",), "anything at all", "x", True),
        ((APP,), "https://app.example.com/", "x", False),
        ((APP,), "https://user@app.example.com", "x", False),
        ((APP,), "https://app.example.com\\@evil.test", "x", False),
    ],
)
def test_an_origin_may_call_where_an_entry_names_it_or_it_is_the_same(
    allowed: tuple[str, ...] | None, origin: str, host: str, expected: bool
) -> None:
    assert Origins(allowed).allows(origin, host) is expected


def test_credentials_are_sent_where_an_entry_names_the_origin_never_for_a_star_and_never_in_open_mode() -> None:
    credentials = (b"access-control-allow-credentials", b"true")
    for entry in (APP, "https://*.example.com"):
        assert credentials in cors_headers(Origins((entry, "*")), APP, "x")
        assert credentials not in cors_headers(Origins((entry,), is_open=True), APP, "x")
        assert credentials not in cors_headers(Origins((entry, "*")), "https://other.test", "x")
    for allowed in (("*",), None, ("loopback",)):
        assert credentials not in cors_headers(Origins(allowed), "http://localhost", "localhost")


def test_vary_is_sent_always() -> None:
    vary = (b"vary", b"Origin")
    for origin in (None, APP, "https://evil.test"):
        headers = cors_headers(Origins((APP,)), origin, "x")
        assert headers.count(vary) == 1
        assert ((b"access-control-allow-origin", APP.encode()) in headers) == (origin == APP)


def test_a_preflight_is_answered_with_the_header_names_it_asked_for() -> None:
    def asked(names: str | None, origin: str | None = APP) -> bytes | None:
        headers = preflight_headers(Origins((APP,)), origin, "x", ["GET", "POST"], names)
        assert (b"access-control-allow-methods", b"GET, POST") in headers
        return dict(headers).get(b"access-control-allow-headers")

    assert asked("authorization,cache-control, last-event-id") == b"authorization, cache-control, last-event-id"
    assert asked("traceparent, X-Requested-With") == b"traceparent, X-Requested-With"
    assert asked(None) is asked("") is asked(" , ") is None
    many = ",".join(f"x-{at}" for at in range(64))
    assert asked(many) is not None
    for bad in (f"{many},y", "a b", "a\r\nb: c", "é", "x" * 129, "a:b"):
        with pytest.raises(Refusal, match="bad_request"):
            asked(bad)
    for origin in ("https://evil.test", None):
        with pytest.raises(Refusal, match="forbidden"):
            asked("x", origin)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *[(name, True) for name in ("localhost", "LOCALHOST:80", "app.localhost:3", "localhost.", "127.0.0.1:8080")],
        *[
            (name, True)
            for name in ("127.9.9.9", "[::1]", "[::1]:8080", "dev.test:8080", "app.example.com", "p1.x.test")
        ],
        *[
            (name, False)
            for name in ("evil.example", "evil.example:8080", "127.0.0.1.evil.test", "localhost.evil.test")
        ],
        *[(name, False) for name in ("", "a.p1.x.test", "x.test", "10.0.0.1", "[::2]", "0.0.0.0", "localhost, evil")],
    ],
)
def test_in_open_mode_a_host_that_is_not_this_machine_s_is_misdirected(host: str, expected: bool) -> None:
    origins = Origins((APP, "https://*.x.test", "*"))
    if expected:
        Hosts(origins, "dev.test", is_open=True).check(host)
    else:
        with pytest.raises(Refusal) as caught:
            Hosts(origins, "dev.test", is_open=True).check(host)
        assert (caught.value.code, caught.value.status) == ("misdirected", 421)
    Hosts(origins, "dev.test", is_open=False).check(host)


def test_a_foreign_host_is_misdirected_each_time_whichever_host_came_before() -> None:
    hosts = Hosts(Origins(), "dev.test", is_open=True)
    for host in ("localhost", "evil.test", "evil.test", "localhost", "evil.test"):
        if host == "localhost":
            hosts.check(host)
        else:
            with pytest.raises(Refusal):
                hosts.check(host)
