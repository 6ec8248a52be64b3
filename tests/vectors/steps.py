"""Runs the steps of one vector with stock clients (`httpx`, `websockets`); knows no rule of the page but problem+json.

Texts hold `${name}`: what an earlier step saved, `topic` and `topic2` to `topic4` (fresh ids), `run` (fresh text),
`user:<name>` and `token:<name>` (of the file's tokens); `${epoch+1}` counts on. A text that is nothing else keeps the
saved value's type.
"""

import asyncio
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.vectors.described import check_answer, check_frame
from tests.vectors.served import Served
from tests.vectors.shapes import differences
from tests.vectors.streams import EventStream
from tests.vectors.tokens import sign

Step = dict[str, Any]
WAIT_S: Final = 8.0
_VARIABLE: Final = re.compile(r"\$\{([\w:.-]+?)([+-]\d+)?\}")

# docs/protocol.md, section 6, as the page has it: code, status, whether to try again ("after refresh" is no plain yes).
_TABLE: Final = """
bad_request bad_frame unknown_type invalid_topic_id invalid_payload 400 no
unauthenticated token_expired 401 no
forbidden 403 no
topic_not_found message_not_found not_found 404 no
method_not_allowed 405 no
request_timeout 408 yes
topic_exists version_conflict already_subscribed last_owner 409 no
gone 410 no
too_large 413 no
unsupported_media_type 415 no
misdirected 421 no
idempotency_conflict not_in_profile immutable 422 no
rate_limited queue_full limit_reached 429 yes
internal 500 yes
log_unavailable not_ready overloaded topic_paused 503 yes
outcome_unknown 504 yes
"""
CODES: Final = {
    code: (int(row[-2]), row[-1] == "yes")
    for row in (line.split() for line in _TABLE.strip().splitlines())
    for code in row[:-2]
}


class Run:
    """One run of one vector against one server."""

    def __init__(self, server: Served, tokens: dict[str, Any]) -> None:
        self.server = server
        self._tokens = tokens
        self._run = secrets.token_hex(5)
        self._saved: dict[str, Any] = {"run": self._run, "topic": f"t-{self._run}", "host": f"127.0.0.1:{server.port}"}
        self._saved |= {f"topic{n}": f"t{n}-{self._run}" for n in (2, 3, 4)}
        self._stack = AsyncExitStack()
        self._sockets: dict[str, ClientConnection] = {}
        self._streams: dict[str, EventStream] = {}

    async def steps(self, steps: list[Step]) -> None:
        """Runs them in order. Raises AssertionError that names the step."""
        async with self._stack:
            self._http = await self._stack.enter_async_context(httpx.AsyncClient(timeout=WAIT_S, trust_env=False))
            for at, step in enumerate(steps, 1):
                try:
                    await self._step(self._fill(step))
                except (AssertionError, TimeoutError, ConnectionClosed, httpx.HTTPError) as error:
                    said = f"{type(error).__name__}: {error}"
                    raise AssertionError(f"step {at} {json.dumps(step)[:400]}: {said}") from error

    async def _step(self, step: Step) -> None:
        for kind, run in STEPS.items():
            if kind in step:
                await run(self, step)
                return
        raise ValueError(f"no such step: {step}")

    # HTTP

    async def http(self, step: Step) -> None:
        """`http`: method and path; `status`, `problem`, `headers_are`, `answer`, `text_has` say what must come back."""
        method, path = step["http"].split(" ", 1)
        base = self.server.admin_url if step.get("admin") else self.server.url
        response = await self._http.request(
            method, base + path, content=_body_of(step), headers=self._headers(step), follow_redirects=False
        )
        self._check(step, response)
        if not step.get("admin"):
            kind = response.headers.get("content-type", "").partition(";")[0]
            is_json = kind.endswith("json") and response.content
            check_answer(method, path, response.status_code, kind, response.json() if is_json else None)

    def _headers(self, step: Step) -> dict[str, str]:
        headers = dict(step.get("headers", {}))
        if "json" in step:
            headers.setdefault("Content-Type", "application/json")
        if "as" in step:
            headers["Authorization"] = f"Bearer {self._token(step['as'])}"
        return headers

    def _check(self, step: Step, response: httpx.Response) -> None:
        problem = step.get("problem")
        want = CODES[problem][0] if problem else step.get("status", 200)
        assert response.status_code == want, f"{response.status_code} instead of {want}: {response.text[:400]}"
        got_headers = {name.lower(): value for name, value in response.headers.items()}
        assert_shape(got_headers, {n.lower(): shape for n, shape in step.get("headers_are", {}).items()}, "header")
        if problem:
            _check_problem(problem, response, head=step["http"].startswith("HEAD") if "http" in step else False)
        for text in step.get("text_has", []):
            assert text in response.text, f"{text!r} is not in {response.text[:400]!r}"
        if "text" in step:
            assert response.text == step["text"]
        if "answer" in step:
            assert_shape(response.json(), step["answer"], "answer")
        if "save" in step:
            self._save(step["save"], response.json())

    # WebSocket

    async def open_socket(self, step: Step) -> None:
        """`ws`: the path; `refused` and `problem` where the handshake must fail."""
        options: dict[str, Any] = {"additional_headers": self._headers(step), "proxy": None, "max_size": None}
        if "subprotocols" in step:
            options["subprotocols"] = step["subprotocols"]
        opening = connect(self.server.ws_url + step["ws"], open_timeout=WAIT_S, **options)
        if "refused" not in step:
            socket = await self._stack.enter_async_context(opening)
            self._sockets[step.get("on", "a")] = socket
            assert socket.protocol.extensions == [], "an extension was negotiated"
            if "selected" in step:
                assert socket.subprotocol == step["selected"]
            return
        try:
            async with opening:
                raise AssertionError("the handshake succeeded")
        except InvalidStatus as error:
            assert error.response.status_code == step["refused"], f"{error.response.status_code}"
            if "problem" in step:
                body = json.loads(error.response.body or b"null")
                assert_shape(body, {"code": step["problem"], "status": step["refused"]}, "problem")

    async def send(self, step: Step) -> None:
        """`send`: a frame; `send_text`, `send_binary`: one as text or binary, valid or not; `send_fragments`."""
        socket = self._socket(step)
        if "send" in step:
            await socket.send(json.dumps(step["send"]))
        elif "send_fragments" in step:
            await socket.send([_bytes_of([part]).decode() for part in step["send_fragments"]])
        elif "send_text" in step:
            await socket.send(_bytes_of(step["send_text"]), text=True)
        else:
            await socket.send(_bytes_of(step["send_binary"]), text=False)

    async def _next(self, step: Step, within_s: float, shapes: Sequence[Any] = ()) -> str | bytes:
        """Returns the next frame; an `inbox` frame, which comes at any time, only where a shape is of one."""
        hints = any(shape.get("type") == "inbox" for shape in shapes)
        async with asyncio.timeout(within_s):
            while True:
                text = await self._socket(step).recv()
                if hints or not isinstance(text, str) or not text.startswith('{"type":"inbox",'):
                    return text

    async def frame(self, step: Step) -> None:
        """`frame`: the next one; `frames`: the next ones, in order."""
        for shape in step["frames"] if "frames" in step else [step["frame"]]:
            text = await self._next(step, step.get("within_s", WAIT_S), [shape])
            assert isinstance(text, str), "a binary frame came"
            got = json.loads(text)
            assert_shape(got, shape, "frame")
            check_frame(got)
            self._save(step.get("save", {}), got)

    async def unordered(self, step: Step) -> None:
        """`unordered`: the next frames have these shapes, in any order."""
        shapes = list(step["unordered"])
        while shapes:
            got = json.loads(await self._next(step, WAIT_S, shapes))
            fitting = [shape for shape in shapes if not differences(got, shape)]
            assert fitting, f"{got} is none of {shapes}"
            shapes.remove(fitting[0])

    async def closed(self, step: Step) -> None:
        """`closed`: no frame but pings, then a close with this code."""
        try:
            text = await self._next(step, step.get("within_s", WAIT_S))
        except ConnectionClosed as closed:
            code = None if closed.rcvd is None else closed.rcvd.code
            assert code == step["closed"], f"closed with {code} instead of {step['closed']}"
        else:
            raise AssertionError(f"a frame came instead of the close: {text!r}")

    async def silence(self, step: Step) -> None:
        """`silence_ms`: nothing comes for so long, on a socket or (`stream`) a stream."""
        try:
            if "stream" in step:
                event = await self._streams[step["stream"]].event(step["silence_ms"] / 1_000)
                raise AssertionError(f"an event came: {event and event.data}")
            text = await self._next(step, step["silence_ms"] / 1_000)
        except TimeoutError:
            return
        raise AssertionError(f"a frame came: {text!r}")

    async def leave(self, step: Step) -> None:
        """`leave`: the client closes its socket."""
        await self._socket(step).close()

    # SSE

    async def open_stream(self, step: Step) -> None:
        """`sse`: the path; `problem` where the answer is a status."""
        headers = {"Accept": "text/event-stream", **self._headers(step)}
        timeout = httpx.Timeout(WAIT_S, read=None)  # a stream may be silent
        request = self._http.build_request("GET", self.server.url + step["sse"], headers=headers, timeout=timeout)
        response = await self._http.send(request, stream=True)
        if step.get("status", 200) != 200 or "problem" in step:
            await response.aread()
            self._check(step, response)
            await response.aclose()
            return
        self._check({"status": 200, "headers_are": step.get("headers_are", {})}, response)
        stream = EventStream(response)
        self._stack.push_async_callback(stream.aclose)
        self._streams[step.get("on", "a")] = stream

    async def event(self, step: Step) -> None:
        """`event`: name of the next one; `id` (null: none), `data`."""
        event = await self._stream(step).event(step.get("within_s", WAIT_S))
        assert event is not None, "the stream ended"
        assert event.name == step["event"], f"{event.name} {event.data}"
        if "id" in step:
            assert event.id == step["id"], f"id {event.id!r}"
        assert_shape(event.data, step.get("data", {}), "data")
        check_frame(event.data)
        self._save(step.get("save", {}), event.data)

    async def ended(self, step: Step) -> None:
        """`ended`: the stream ends without another event."""
        event = await self._stream(step).event(step.get("within_s", WAIT_S))
        assert event is None, f"{event and event.data}"

    async def retry(self, step: Step) -> None:
        """`retry_ms`: bounds of the stream's last `retry:` line."""
        low, high = step["retry_ms"]
        got = self._stream(step).retry_ms
        assert got is not None and low <= got <= high, f"retry: {got}"

    async def comments(self, step: Step) -> None:
        """`comments`: at least so many comments have come."""
        got = self._stream(step).comments
        assert got >= step["comments"], f"{got} comments"

    async def wait(self, step: Step) -> None:
        """`wait_ms`: the client does nothing for a while."""
        await asyncio.sleep(step["wait_ms"] / 1_000)

    async def stop(self, step: Step) -> None:
        """`stop`: SIGTERM to the server."""
        self.server.terminate()

    # Names and values

    def _socket(self, step: Step) -> ClientConnection:
        return self._sockets[step.get("on", "a")]

    def _stream(self, step: Step) -> EventStream:
        return self._streams[step.get("on", "a")]

    def _save(self, wanted: dict[str, str], value: Any) -> None:
        for name, path in wanted.items():
            found = value
            for part in path.split("."):
                found = found[int(part)] if part.isdigit() else found[part]
            self._saved[name] = found

    def _token(self, name: str) -> str:
        spec: dict[str, Any] = self._fill(self._tokens[name])
        return sign(spec, self._user(name))

    def _user(self, name: str) -> str:
        spec = self._tokens[name]
        return f"{spec.get('sub') or name}-{self._run}"

    def _value(self, name: str) -> Any:
        kind, _, of = name.partition(":")
        if kind == "token":
            return self._token(of)
        if kind == "user":
            return self._user(of)
        if name == "now_ms":
            return int(time.time() * 1_000)
        return self._saved[name]

    def _fill(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._fill(name): self._fill(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._fill(inner) for inner in value]
        if not isinstance(value, str):
            return value
        whole = _VARIABLE.fullmatch(value)
        return self._one(whole) if whole else _VARIABLE.sub(lambda match: str(self._one(match)), value)

    def _one(self, match: re.Match[str]) -> Any:
        value = self._value(match[1])
        return value + int(match[2]) if match[2] else value


def assert_shape(got: Any, shape: Any, where: str) -> None:
    """Raises AssertionError with every difference."""
    found = differences(got, shape, where)
    assert not found, f"{'; '.join(found)} in {json.dumps(got)[:600]}"


def _check_problem(code: str, response: httpx.Response, *, head: bool) -> None:
    """docs/protocol.md, section 0, answers: what every refusal has."""
    status, retryable = CODES[code]
    names = response.headers
    assert names.get("content-type", "").partition(";")[0] == "application/problem+json", dict(names)
    assert status not in (429, 503) or names.get("retry-after", "").isdigit(), "Retry-After is missing"
    assert status != 401 or names.get("www-authenticate") == "Bearer", "WWW-Authenticate is missing"
    assert status != 405 or "allow" in names, "Allow is missing"
    if head:
        assert response.content == b""
        return
    kinds = dict.fromkeys(("type", "title", "detail"), "<string>")
    assert_shape(response.json(), {**kinds, "status": status, "code": code, "retryable": retryable}, "problem")


async def _stalling(begin: str) -> AsyncIterator[bytes]:
    """A body whose end does not come while anybody waits for it."""
    yield begin.encode()
    await asyncio.sleep(2.5)


async def _chunked(count: int) -> AsyncIterator[bytes]:
    """A body whose length nobody says: chunks of 64 KiB."""
    for _ in range(count):
        yield b" " * 65_536


def _body_of(step: Step) -> bytes | AsyncIterator[bytes] | None:
    if "stall" in step:
        return _stalling(step["stall"])
    if "chunks" in step:
        return _chunked(step["chunks"])
    if "json" in step:
        return json.dumps(step["json"]).encode()
    return _bytes_of(step["body"]) if "body" in step else None


def _bytes_of(parts: str | list[Any]) -> bytes:
    """A text, or parts: texts, `{"repeat": text, "times": n}`, `{"hex": text}`."""
    if isinstance(parts, str):
        return parts.encode()
    return b"".join(_part_of(part) for part in parts)


def _part_of(part: str | dict[str, Any]) -> bytes:
    if isinstance(part, str):
        return part.encode()
    if "hex" in part:
        return bytes.fromhex(part["hex"])
    return str(part["repeat"]).encode() * int(part["times"])


STEPS: Final = {
    "http": Run.http,
    "ws": Run.open_socket,
    "sse": Run.open_stream,
    "send": Run.send,
    "send_text": Run.send,
    "send_binary": Run.send,
    "send_fragments": Run.send,
    "frame": Run.frame,
    "frames": Run.frame,
    "unordered": Run.unordered,
    "closed": Run.closed,
    "silence_ms": Run.silence,
    "leave": Run.leave,
    "event": Run.event,
    "ended": Run.ended,
    "retry_ms": Run.retry,
    "comments": Run.comments,
    "wait_ms": Run.wait,
    "stop": Run.stop,
}
