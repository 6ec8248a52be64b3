"""The permission matrix of docs/protocol.md, section 1: four modes, nine callers, every action, on real processes.

One table says what each caller may do; every cell is tried with every action, on `headgate dev` with its embedded log
and on separate processes over Kafka.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from websockets.asyncio.client import connect

from headgate.core.wire.ids import id_text, keyed_id, topic_key
from tests.e2e.clients import Publisher
from tests.e2e.harness import SECRET, Deployment, Stage, token
from tests.e2e.http import Http

CREATOR: Final = "creator"
MODES: Final = ("PUBLIC", "PRIVATE", "PUBLISH_ONLY", "SUBSCRIBE_ONLY")
# P: may publish, S: may subscribe, A: may administer; "." may see the topic and nothing else, "-" it is absent for him.
MATRIX: Final[dict[str, str]] = {
    #                  PUBLIC  PRIVATE  PUBLISH_ONLY  SUBSCRIBE_ONLY
    "owner": "         PSA     PSA      PSA           PSA",
    "admin": "         PSA     PSA      PSA           PSA",
    "member": "        PS      PS       PS            PS",
    "publisher": "     PS      P        P             PS",
    "subscriber": "    PS      S        PS            S",
    "stranger": "      PS      -        P             S",
    "publish-claim": " PS      P        P             PS",
    "subscribe-claim": "PS     S        PS            S",
    "admin-claim": "   PSA     PSA      PSA           PSA",
}
CLAIMS: Final[dict[str, dict[str, Any]]] = {
    "publish-claim": {"publish": ("matrix*",)},
    "subscribe-claim": {"subscribe": ("matrix*",)},
    "admin-claim": {"admin": True},
}
ROLES: Final = frozenset(MATRIX) - frozenset(CLAIMS) - {"stranger"}
CODES: Final = {200: "ok", 201: "ok", 202: "ok", 204: "ok", 403: "forbidden", 404: "topic_not_found"}


class Cell(NamedTuple):
    """One caller in one mode; `rights` are the letters of the table."""

    mode: str
    caller: str
    rights: str

    def expects(self, right: str) -> str:
        """The outcome of an action that needs a right; "V" is to see the topic, "M" to know who follows it."""
        if self.rights == "-":
            return "topic_not_found"
        if right == "M":
            return "forbidden" if self.caller == "stranger" and self.mode != "PUBLIC" else "ok"
        return "ok" if right == "V" or right in self.rights else "forbidden"

    def topic(self, use: str) -> str:
        """A topic of this mode: `shared` by all callers, or one that the caller may spoil."""
        return f"matrix.{self.mode}" if use == "shared" else f"matrix.{self.mode}.{use}.{self.caller}"


CELLS: Final = [
    Cell(mode, caller, rights)
    for caller, row in MATRIX.items()
    for mode, rights in zip(MODES, row.split(), strict=True)
]


class Service(NamedTuple):
    """Where the HTTP API and the streams are."""

    ingest: str
    gateway: str


class User:
    """One caller, over HTTP and the streams."""

    def __init__(self, at: Service, user_id: str, **rights: Any) -> None:
        self.user_id = user_id
        self._service = at
        self._token = token(user_id, **rights)
        self._headers = {"Authorization": f"Bearer {self._token}"}
        self.http = Publisher(at.ingest, self._token)

    async def call(self, method: str, topic_id: str, rest: str = "", body: object = None) -> Any:
        return await self.http.call(method, f"/api/v1/topics/{topic_id}{rest}", body)

    async def outcome(self, method: str, topic_id: str, rest: str = "", body: object = None) -> str:
        answer = await self.call(method, topic_id, rest, body)
        expected = "ok" if answer.body is None else answer.body.get("code", "ok")
        assert CODES.get(answer.status) == expected, answer
        return str(expected)

    async def in_batch(self, topic_id: str) -> str:
        items = [{"topic_id": topic_id, "payload": 1}]
        (result,) = (await self.http.call("POST", "/api/v1/publish/batch", items)).body["results"]
        return str(result.get("code", "ok"))

    async def listed(self, topic_id: str) -> str:
        answer = await self.http.call("GET", "/api/v1/topics", prefix=topic_id, limit=1_000)
        return "ok" if topic_id in {topic["topic_id"] for topic in answer.body["topics"]} else "topic_not_found"

    async def websocket(self, topic_id: str) -> str:
        url = self._service.gateway.replace("http", "ws", 1) + "/ws/subscribe"
        async with connect(url, additional_headers=self._headers) as socket:
            await socket.send(msgspec.json.encode({"type": "subscribe", "topic_id": topic_id}).decode())
            while True:
                frame = msgspec.json.decode(await asyncio.wait_for(socket.recv(), 10))
                if frame["type"] in ("subscribed", "error"):
                    return str(frame.get("code", "ok"))

    async def sse(self, topic_id: str) -> str:
        async with (
            Http(self._service.gateway) as http,
            http.stream("/sse/subscribe", {"topic_id": topic_id}, self._headers) as (head, _),
        ):
            return CODES[head.status]


Action = Callable[[User, Cell], Awaitable[str]]


def _http(use: str, method: str, rest: str = "", body: object = None) -> Action:
    async def act(user: User, cell: Cell) -> str:
        return await user.outcome(method, cell.topic(use), rest.format(me=user.user_id), body)

    return act


def _of_creators_message(use: str, method: str, rest: str = "") -> Action:
    async def act(user: User, cell: Cell) -> str:
        return await user.outcome(method, cell.topic(use), f"/messages/{_message_id(cell.topic(use), CREATOR)}{rest}")

    return act


def _of_own_message(method: str, body: object = None) -> Action:
    """Publishes a message and does something with it: nobody has one of his own who may not publish."""

    async def act(user: User, cell: Cell) -> str:
        topic_id, client_msg_id = cell.topic("shared"), f"to-{method}"
        published = await user.outcome("POST", topic_id, "/publish", {"payload": 1, "client_msg_id": client_msg_id})
        if published != "ok":
            return published
        rest = f"/messages/{_message_id(topic_id, user.user_id, client_msg_id)}"
        return await user.outcome(method, topic_id, rest, body)

    return act


def _message_id(topic_id: str, publisher_id: str, client_msg_id: str = "m") -> str:
    return id_text(keyed_id(topic_key(topic_id), publisher_id, client_msg_id))


# What each action needs; those on a topic of the caller's own are in an order in which none spoils the next.
ACTIONS: Final[list[tuple[str, str, Action]]] = [
    ("publish", "P", _http("shared", "POST", "/publish", {"payload": 1})),
    ("publish batch", "P", _http("shared", "POST", "/publish/batch", [{"payload": 1}])),
    ("publish batch of any", "P", lambda user, cell: user.in_batch(cell.topic("shared"))),
    ("history", "S", _http("shared", "GET", "/messages")),
    ("read message", "S", _of_creators_message("shared", "GET")),
    ("react", "S", _of_creators_message("shared", "PUT", "/reactions/like")),
    ("take a reaction back", "S", _of_creators_message("shared", "DELETE", "/reactions/like")),
    ("edit own", "P", _of_own_message("PATCH", {"payload": 2, "version": 1})),
    ("redact own", "P", _of_own_message("DELETE")),
    ("redact another's", "A", _of_creators_message("own", "DELETE")),
    ("subscribe by WebSocket", "S", lambda user, cell: user.websocket(cell.topic("shared"))),
    ("subscribe by SSE", "S", lambda user, cell: user.sse(cell.topic("shared"))),
    ("end subscriptions", "V", _http("shared", "DELETE", "/subscribe")),
    ("info", "V", _http("shared", "GET")),
    ("stats", "V", _http("shared", "GET", "/stats")),
    ("flush", "A", _http("shared", "POST", "/flush")),
    ("list", "V", lambda user, cell: user.listed(cell.topic("shared"))),
    ("members", "A", _http("shared", "GET", "/members")),
    ("subscribers", "M", _http("shared", "GET", "/subscribers")),
    ("put another", "A", _http("own", "PUT", "/members/zoe", {"role": "member"})),
    ("remove another", "A", _http("own", "DELETE", "/members/zoe")),
    ("patch", "A", _http("own", "PATCH", "", {"name": "new", "settings": {"presence": "none"}})),
    ("put himself", "S", _http("own", "PUT", "/members/{me}", {"role": "subscriber"})),
    ("remove himself", "V", _http("own", "DELETE", "/members/{me}")),
    ("delete", "A", _http("doomed", "DELETE")),
]


async def _prepare(creator: User) -> None:
    """Makes the topics, and the callers with a role members of them."""

    async def make(topic_id: str, mode: str, members: list[str]) -> None:
        body = {"topic_id": topic_id, "name": topic_id, "permissions": mode}
        answer = await creator.http.call("POST", "/api/v1/topics", body)
        assert answer.status == 201, answer
        first = {"payload": 1, "client_msg_id": "m"}
        assert await creator.outcome("POST", topic_id, "/publish?wait=sequenced", first) == "ok"
        for role in members:
            assert await creator.outcome("PUT", topic_id, f"/members/{role}", {"role": role}) == "ok"

    await asyncio.gather(*(make(f"matrix.{mode}", mode, sorted(ROLES)) for mode in MODES))
    for use in ("own", "doomed"):
        await asyncio.gather(*(make(c.topic(use), c.mode, [c.caller] * (c.caller in ROLES)) for c in CELLS))


async def _try_all(service: Service) -> None:
    async with AsyncExitStack() as stack:
        creator = User(service, CREATOR, service=True)
        users = {caller: User(service, caller, **CLAIMS.get(caller, {})) for caller in MATRIX}
        for user in (creator, *users.values()):
            await stack.enter_async_context(user.http)
        await _prepare(creator)

        async def outcomes(cell: Cell) -> dict[str, str]:
            return {name: await act(users[cell.caller], cell) for name, _, act in ACTIONS}

        found = dict(zip(CELLS, await asyncio.gather(*map(outcomes, CELLS)), strict=True))
    wrong = [
        f"{cell.mode} {cell.caller}: {name} is {found[cell][name]}, not {cell.expects(right)}"
        for cell in CELLS
        for name, right, _ in ACTIONS
        if found[cell][name] != cell.expects(right)
    ]
    assert not wrong, "\n".join(wrong)


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    stage = Stage(folder)
    try:
        yield stage
    finally:
        stage.close()
    assert not stage.tracebacks()


def test_the_table_names_four_modes_and_nine_callers() -> None:
    assert len(CELLS) == 36
    assert {cell.rights for cell in CELLS} == {"PSA", "PS", "P", "S", "-"}
    assert sum(cell.rights == "-" for cell in CELLS) == 1


async def test_every_cell_on_the_embedded_log(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        dev = stage.dev(auth__secret=SECRET)
        await dev.start().ready()
        await _try_all(Service(dev.url, dev.url))


async def test_every_cell_on_kafka(tmp_path: Path, kafka_bootstrap: str, log_prefix: str) -> None:
    async with staged(tmp_path) as stage:
        deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2)
        await deployment.start(4)
        await _try_all(Service(deployment.ingests[0].url, deployment.gateways[0].url))
