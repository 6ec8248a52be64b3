"""The protocol page as data: every vector in `data/` against a real `headgate dev`, with stock clients only.

A vector is one rule of the page (named by section and rule) and its steps; `steps.py` says what a step may be. Its file
names the server (`servers.json`: flags of the process) and the tokens.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.uri import parse_uri

from headgate.core.wire import errors
from tests.vectors.ahead import PATIENT, Ahead, Vector
from tests.vectors.served import Served
from tests.vectors.shapes import differences
from tests.vectors.steps import CODES, Run, Step
from tests.vectors.tokens import SECRET

DATA: Final = Path(__file__).parent / "data"
SERVERS: Final[dict[str, list[str]]] = json.loads((Path(__file__).parent / "servers.json").read_text("utf-8"))


def vectors() -> Iterator[tuple[str, Vector]]:
    """Yields each vector with its name."""
    for path in sorted(DATA.glob("*.json")):
        file = json.loads(path.read_text("utf-8"))
        for vector in file["vectors"]:
            server = vector.get("server", file["server"])
            yield f"{path.stem}: {vector['rule']}", Vector(server, file.get("tokens", {}), vector["steps"])


VECTORS: Final = dict(vectors())


def start(name: str) -> Served:
    """Describes a server; it runs in a `with`."""
    return Served(*(flag.replace("${secret}", SECRET) for flag in SERVERS[name]))


@pytest.fixture(scope="session")
def served() -> Iterator[Callable[[str], Served]]:
    """Starts a server at its first use and keeps it for the rest of the session."""
    running: dict[str, Served] = {}

    def get(name: str) -> Served:
        if name not in running:
            running[name] = start(name).__enter__()
        return running[name]

    yield get
    for server in running.values():
        server.__exit__()


@pytest.fixture(scope="module")
def ahead(request: pytest.FixtureRequest) -> Iterator[Ahead]:
    """Runs the patient vectors of those that were asked for, from the first test on."""
    asked = {item.name.partition("[")[2].removesuffix("]") for item in request.session.items}
    with Ahead({name: VECTORS[name] for name in PATIENT & asked}, start) as running:
        yield running


@pytest.mark.parametrize("name", VECTORS)
async def test_vector(served: Callable[[str], Served], ahead: Ahead, name: str) -> None:
    if name in ahead:
        await ahead.ended(name)
    else:
        vector = VECTORS[name]
        await Run(served(vector.server), vector.tokens).steps(vector.steps)


def test_every_patient_vector_is_one_and_none_has_another_name() -> None:
    """The vectors that run beside the others; two of one name would be one."""
    assert set(VECTORS) >= PATIENT
    assert len(VECTORS) == len(list(vectors()))


async def test_drain() -> None:
    """0: on SIGTERM every role stops within drain.deadline_s after telling its sessions `disconnect` 4601."""
    with Served("--drain.spread_s", "1") as server:
        run = Run(server, {})
        opened: list[Step] = [
            {"ws": "/ws/subscribe?topic_id=${topic}"},
            {"frames": [{"type": "welcome"}, {"type": "subscribed"}, {"type": "presence"}]},
            {"sse": "/sse/subscribe?topic_id=${topic}"},
            {"event": "welcome"},
            {"event": "subscribed"},
            {"event": "presence"},
        ]
        told = {"type": "disconnect", "code": 4601, "reconnect": True, "reason": "<string>"}
        drained: list[Step] = [
            {"frame": told},
            {"closed": 4601},
            {"event": "disconnect", "data": told},
            {"ended": True},
        ]
        await run.steps([*opened, {"stop": True}, *drained])
        assert server.process.wait(20) == 0


async def test_draining_refuses() -> None:
    """3, 5: while it drains a WebSocket handshake is 503, an SSE request 200 with `event: disconnect`, then its end."""
    with Served("--drain.spread_s", "20") as server:
        many: list[Step] = [{"ws": "/ws/subscribe", "on": f"s{number}"} for number in range(40)]  # told 20 a second
        await Run(server, {}).steps(
            [
                *many,
                {"stop": True},
                {"frames": [{"type": "welcome"}, {"type": "disconnect", "code": 4601}], "on": "s0"},
                {"ws": "/ws/subscribe", "refused": 503, "problem": "overloaded"},
                {"sse": "/sse/subscribe?topic_id=${topic}"},
                {"event": "disconnect", "id": None, "data": {"code": 4601, "reconnect": True}},
                {"retry_ms": [1, 60_000]},
                {"ended": True},
            ]
        )


async def test_no_log_line_holds_a_token(served: Callable[[str], Served]) -> None:
    """1: no log line ever contains a query string's token or ticket."""
    server = served("jwt")
    run = Run(server, {"alice": {}, "wrong": {"secret": "another-secret-0123456789abcdef0123456789"}})
    ticket = "ticket-that-must-not-be-logged"
    await run.steps(
        [
            {"ws": "/ws/subscribe?token=${token:alice}"},
            {"ws": "/ws/subscribe?token=${token:wrong}", "on": "b"},
            {"sse": "/sse/subscribe?topic_id=-bad&token=${token:alice}", "problem": "invalid_topic_id"},
            {"sse": f"/sse/subscribe?topic_id=x&ticket={ticket}", "problem": "unauthenticated"},
            {"http": "GET /nothing?token=${token:alice}", "problem": "not_found"},
            {"http": "GET /metrics?token=${token:alice}", "admin": True},
            {"http": f"GET /api/v1/topics?ticket={ticket}", "problem": "unauthenticated"},
        ]
    )
    said = server.said()
    assert "eyJ" not in said, "no JWT, of these or of any vector before"
    assert ticket not in said
    assert "dev is serving" in said


async def test_heartbeat(served: Callable[[str], Served]) -> None:
    """4: a connection from which nothing came for interval x missed_limit is dead: disconnect 4602."""
    server = served("beat")
    protocol = ClientProtocol(parse_uri(f"{server.ws_url}/ws/subscribe"))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    protocol.send_request(protocol.connect())
    writer.writelines(protocol.data_to_send())
    begin = time.monotonic()
    frames: list[Frame] = []
    async with asyncio.timeout(8):
        while data := await reader.read(65_536):
            protocol.receive_data(data)  # what it would answer, pongs too, is never sent
            frames += [event for event in protocol.events_received() if isinstance(event, Frame)]
    writer.close()
    lasted = time.monotonic() - begin
    texts = [json.loads(bytes(frame.data)) for frame in frames if frame.opcode is Opcode.TEXT]
    assert [text["type"] for text in texts] == ["welcome", "disconnect"]
    assert texts[1]["code"] == 4602
    assert texts[1]["reconnect"] is True
    assert Opcode.PING in {frame.opcode for frame in frames}, "the server pings"
    assert frames[-1].opcode is Opcode.CLOSE
    assert Close.parse(frames[-1].data).code == 4602
    assert 0.9 < lasted < 8


@pytest.mark.parametrize(
    ("got", "shape"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1.0}),
        ({}, {"a": "<any>"}),
        ({"a": None}, {"a": "<absent>"}),
        ({"a": 1, "b": 2}, {"<exact>": True, "a": 1}),
        ([1], [1, 2]),
        ([1, 2], [2, 1]),
        ([{"a": 1}, {"a": 2}], ["<each>", {"a": 1}]),
        ("text", "<has:other>"),
        ("text", "<max:3>"),
        ("", "<string>"),
        ("B4A5740D-B2B4-8CA8-8345-E2E0C50F7AC9", "<uuid>"),
        (1_000, "<ms>"),
        ("2026-01-01T00:00:00Z", "<rfc3339>"),
        (0, "<epoch>"),
        (True, "<int>"),
        (True, "<number>"),
    ],
)
def test_a_shape_sees_a_difference(got: Any, shape: Any) -> None:
    """The checker itself."""
    assert differences(got, shape)


def test_the_table_of_codes_is_that_of_the_server() -> None:
    """6: the table of codes."""
    assert {code: (known.status, known.retryable) for code, known in errors.CODES.items()} == CODES
