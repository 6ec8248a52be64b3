"""One odd thing through each entry of a deployment. An entry returns what was answered; 500 is never right."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import quote

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from headgate.core.wire import link, link_ephemeral, link_hello, link_members, linkcodec
from headgate.core.wire.envelope import MAGIC
from headgate.core.wire.position import Position
from headgate.core.wire.rights import Caller
from headgate.runtime.links.websocket_link import Credentials, open_link
from headgate.runtime.settings import load
from headgate.runtime.system import SystemRng
from tests.attack.odd import Odd
from tests.attack.target import ANSWER_S, GOOD, exchange, frame, say, upgrade
from tests.e2e.harness import SECRET, Deployment, token

Outcome = int | str
Entry = Callable[[Deployment, Odd], Awaitable[Outcome]]
PARAMETERS: Final = (
    *("topic_id", "from", "ack", "presence", "device_id", "user", "token", "ticket", "limit", "page", "prefix"),
    *("after_seq", "before_seq", "since_ts", "kinds", "wait", "timeout_ms", "last_event_id", "connection_id"),
)
HEADERS: Final = (
    *(
        "Host",
        "Origin",
        "Authorization",
        "Content-Type",
        "Content-Length",
        "Idempotency-Key",
        "Last-Event-ID",
        "Accept",
    ),
    *("X-Headgate-User", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Transfer-Encoding"),
    *("Accept", "Expect", "traceparent"),
)
CLUSTER_SECRET: Final = load({"auth.secret": SECRET}, None, {}).cluster_secret()


async def claims(target: Deployment, odd: Odd) -> Outcome:
    """A token of the trusted issuer with odd claims: by header, subprotocol, query or `auth` frame."""
    text = odd.token(SECRET)
    line = f"Authorization: Bearer {text}"
    way = odd.random.randrange(6)
    if way == 0:
        request = f"GET /api/v1/topics?limit=1 HTTP/1.1\r\nHost: x\r\n{line}\r\nConnection: close\r\n\r\n"
        return (await say(target.ingests[0], request.encode("latin-1", "replace")))[0]
    if way == 1:
        body = f"GET /sse/subscribe?topic_id=good HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n"
        return (await say(target.gateways[0], body.encode("latin-1", "replace")))[0]
    if way == 2:
        protocol = f"Sec-WebSocket-Protocol: headgate.v1, bearer.{text}"
        return (await say(target.gateways[0], upgrade("/ws/subscribe?topic_id=good", protocol)))[0]
    if way == 3:
        return (await say(target.gateways[0], upgrade(f"/ws/subscribe?topic_id=good&token={quote(text)}")))[0]
    if way == 4:
        gone = f"DELETE /api/v1/topics/good/subscribe HTTP/1.1\r\nHost: x\r\n{line}\r\nConnection: close\r\n\r\n"
        return (await say(target.gateways[0], gone.encode("latin-1", "replace")))[0]
    follow = b'{"type":"subscribe","topic_id":"good"}'
    return await _talk(target, [b'{"type":"auth","token":"%b"}' % text.encode("latin-1", "replace"), follow], None)


async def frames(target: Deployment, odd: Odd) -> Outcome:
    """Odd frames of a client who is known: text, binary, any opcode, fragments, broken UTF-8."""
    kinds = ("subscribe", "unsubscribe", "presence", "ping", "refresh", "auth", "ack", "publish", "typing")
    sent: list[bytes | tuple[bytes, int, bool]] = []
    for _ in range(odd.random.randrange(1, 6)):
        if odd.random.random() < 0.6:
            members = odd.value() if odd.random.random() < 0.2 else {"type": odd.one_of(*kinds), **_members(odd)}
            sent.append(_json(members))
        else:
            sent.append((odd.octets(), odd.one_of(0, 1, 2, 3, 8, 9, 10, 11), odd.random.random() < 0.8))
    return await _talk(target, sent, token("fuzz", service=True))


async def query(target: Deployment, odd: Odd) -> Outcome:
    """Odd paths and query strings, to every kind of request."""
    names = (*PARAMETERS, odd.percent())
    text = "&".join(f"{odd.one_of(*names)}={odd.percent()}" for _ in range(odd.random.randrange(1, 6)))
    path = odd.one_of(
        *("/api/v1/topics", "/api/v1/topics/good", "/api/v1/topics/good/messages", f"/api/v1/topics/{odd.percent()}"),
        *("/sse/subscribe", "/ws/subscribe", f"/api/v1/topics/{odd.percent()}/subscribe", f"/{odd.percent()}"),
    )
    line = f"Authorization: Bearer {token('fuzz', service=True)}"
    role = odd.one_of(target.ingests[0], target.gateways[0])
    if odd.random.random() < 0.3:
        return (await say(role, upgrade(f"{path}?{text}", line)))[0]
    method = odd.one_of("GET", "GET", "HEAD", "DELETE", "OPTIONS", "POST")
    head = f"{method} {path}?{text} HTTP/1.1\r\nHost: x\r\n{line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    return (await say(role, head.encode("latin-1", "replace")))[0]


async def headers(target: Deployment, odd: Odd) -> Outcome:
    """Odd headers, once and twice."""
    pairs = [f"{odd.one_of(*HEADERS, odd.text()[:50])}: {odd.text()}" for _ in range(odd.random.randrange(1, 5))]
    lines = [pair.encode("utf-8", "surrogatepass") for pair in pairs]
    lines = [line.replace(b"\r", b"").replace(b"\n", b"") if odd.random.random() < 0.8 else line for line in lines]
    start = odd.one_of(
        b"GET /api/v1/topics HTTP/1.1", b"GET /sse/subscribe?topic_id=good HTTP/1.1",
        b"POST /api/v1/topics/good/publish HTTP/1.1", b"GET /ws/subscribe HTTP/1.1", b"GET /livez HTTP/1.0",
    )  # fmt: skip
    known = f"Authorization: Bearer {token('fuzz', service=True)}".encode()
    head = b"\r\n".join([start, b"Host: x", *([known] if odd.random.random() < 0.5 else []), *lines])
    role = odd.one_of(target.ingests[0], target.gateways[0])
    return (await say(role, head + b"\r\n\r\n"))[0]


async def bodies(target: Deployment, odd: Odd) -> Outcome:
    """Odd bodies of publishes, batches and creations."""
    path = odd.one_of("topics", "topics/fuzz/publish", "topics/fuzz/publish/batch", "publish/batch")
    member = _members(odd) | {"topic_id": odd.one_of("fuzz", odd.text().replace(GOOD, ""))}  # its reader is no browser
    item = _json({"payload": odd.value(), **member} if odd.random.random() < 0.7 else member)
    body = odd.one_of(item, b"[" + b",".join([item] * 3) + b"]", item + b"\n" + odd.octets() + b"\n", odd.octets())
    kind = odd.one_of("application/json", "application/json", "application/x-ndjson")
    lines = (f"POST /api/v1/{path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token('fuzz', service=True)}")
    more = (f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close", "", "")
    head = "\r\n".join((*lines, *more))
    return (await say(target.ingests[0], head.encode() + body))[0]


async def link_messages(target: Deployment, odd: Odd) -> Outcome:
    """A peer that knows the secret and speaks nonsense: messages of odd content, and bytes that are none."""
    address = f"127.0.0.1:{target.dispatchers[0].port}"
    role = odd.one_of("gateway", "ingest")
    wire = await open_link(address, Credentials(CLUSTER_SECRET), role, "fuzz", SystemRng())
    heard: list[link.Message] = []
    wire.deliver_to(heard.extend)
    task = asyncio.create_task(wire.run())
    wire.send(
        link_hello.Hello(1, odd.one_of(1, 1, 1, 0, 99), role if odd.random.random() < 0.9 else odd.text(), "f", "", 0)
    )
    for _ in range(odd.random.randrange(1, 8)):
        wire.send(_message(odd))
    if odd.random.random() < 0.4:
        data = odd.one_of(odd.octets(), odd.changed(linkcodec.encode_batch([link.Leave("good", 1)])))
        with contextlib.suppress(WebSocketException):
            await wire._connection.send(wire._sent_seal.mark(data))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await asyncio.shield(task)
    wire.close("done")
    await asyncio.wait_for(task, 5)
    assert not [m for m in heard if isinstance(m, link.Refused) and m.code == "internal"], heard
    return "taken" if heard else "ended"


async def proofs(target: Deployment, odd: Odd) -> Outcome:
    """A stranger at the port of the links."""
    address = f"127.0.0.1:{target.dispatchers[0].port}"
    if odd.random.random() < 0.3:
        return (await say(target.dispatchers[0], odd.octets() + upgrade("/link", f"Authorization: {odd.percent()}")))[0]
    try:
        async with connect(f"ws://{address}/link", proxy=None, open_timeout=ANSWER_S) as socket:
            await socket.recv()
            await socket.send(odd.one_of(odd.octets(), odd.percent(), bytes(64) + b"gateway\n" + odd.octets()))
            await asyncio.wait_for(socket.wait_closed(), ANSWER_S)
            return socket.close_code or 0
    except (WebSocketException, OSError, TimeoutError):
        return "cut"


def foreign_records(producer: AIOKafkaProducer, log: str, shards: int) -> Entry:
    """Returns the entry of a foreign producer: odd keys, values and headers, also in the wrong partition."""

    async def entry(_target: Deployment, odd: Odd) -> Outcome:
        key = odd.one_of(b"fuzz", b"fuzz", b"", odd.octets(), odd.text().encode("utf-8", "surrogatepass"))
        key = key.replace(GOOD.encode(), b"fuzz")  # whoever reads that one is no browser
        value = odd.one_of(None, odd.octets(), odd.json(), MAGIC + b"\x01" + odd.octets())
        if value is not None and value.startswith(MAGIC):  # another version parks the shard: who writes it is trusted
            value = MAGIC + b"\x01" + value[len(MAGIC) + 1 :]
        partition = odd.random.randrange(shards) if odd.random.random() < 0.5 else None
        extra = [(odd.percent()[:50], odd.octets()) for _ in range(odd.random.randrange(3))]
        try:
            await asyncio.wait_for(producer.send_and_wait(log, value, key=key, partition=partition, headers=extra), 10)
        except (KafkaError, ValueError):
            return "not taken"
        return "taken"

    return entry


ENTRIES: Final[dict[str, Entry]] = {
    "claims": claims, "frames": frames, "query": query, "headers": headers, "bodies": bodies,
    "link messages": link_messages, "proofs": proofs,
}  # fmt: skip


async def _talk(target: Deployment, sent: list[Any], bearer: str | None) -> Outcome:
    """Opens a WebSocket, sends frames in one write, and reads until it ends or is silent; returns the close code."""
    lines = [] if bearer is None else [f"Authorization: Bearer {bearer}"]
    data = [frame(part) if isinstance(part, bytes) else frame(part[0], part[1], fin=part[2]) for part in sent]
    whole = upgrade("/ws/subscribe", *lines) + b"".join(data) + frame(b"\x03\xe8", 8)
    came = await exchange(target.gateways[0], whole, lambda came: False)
    assert came.startswith(b"HTTP/1.1 101 "), came[:200]
    assert b'"code":4500' not in came and b'"code":"internal"' not in came, (sent, came[-500:])
    return "answered"


def _members(odd: Odd) -> dict[str, Any]:
    topic = odd.one_of("good", "fuzz", odd.text())
    position = odd.one_of("live", "earliest", odd.value(), {odd.one_of("seq", "epoch", "ts", "last"): odd.value(1)})
    members: dict[str, Any] = {"topic_id": topic, "from": position}
    for _ in range(odd.random.randrange(3)):
        members[odd.one_of("id", "ack", "presence", "device_id", "token", "t", "client_msg_id", "name", "settings")] = (
            odd.value()
        )
    return members


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _message(odd: Odd) -> link.Message:
    topic = odd.one_of("good", "fuzz", odd.text().encode("utf-8", "replace").decode())
    number = odd.one_of(0, 1, -1, 2**31, 2**53, 2**62, -(2**62))
    caller = Caller(odd.one_of("fuzz", topic), (topic,), ("*",), admin=odd.random.random() < 0.5)
    req = odd.one_of(1, number)
    attach = link.AttachTopic(topic, number, number, number)
    return odd.one_of(  # type: ignore[no-any-return]
        link.AskSubscribe(req, topic, caller, Position(topic, number, number), odd.random.random() < 0.5),
        link.AskSubscribe(req, topic, caller),
        link_members.Authorize(req, topic, number, caller),
        link.Fetch(req, topic, number, number, number),
        link.AskTopic(req, topic, caller),
        link.AskTopics(req, number, caller, topic, topic, number),
        link.AskCount(req, number, [topic]),
        link.AskVerdict(req, number, number),
        link.AskHistory(req, topic, caller, number, number, number, number),
        link_ephemeral.Relay(req, topic, number, odd.octets()),
        link.Attach(number, True, True, [attach]),
        link.Leave(topic, number, number),
        link_hello.Refuse(number, 0),
        link.Changed(topic),
        link.TopicsAnswer(req, []),
        link.Refused(req, topic, topic),
        link_hello.Owners([link_hello.Owner(number, number, topic, True)]),
        link_hello.Hello(1, 1, "ingest", topic, topic, 0),
    )
