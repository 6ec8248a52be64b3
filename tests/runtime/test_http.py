"""Credentials in their order, origins, and problems."""

import json

import pytest

from headgate.core.errors import CODES, Refusal
from headgate.runtime.http.credentials import Credential, of_request, of_stream, open_user
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
