"""Bodies of 8 MiB that cost the most to read, and what one request with each costs an ingest.

`python -m tests.integration.hostile_bodies` prints the second table of "What an attack costs" in docs/security.md.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.ingest_twin import World, play

BYTES = 8 * 1024 * 1024 - 64
ITEM_BYTES = 256 * 1024
_BEGIN = b'{"topic_id":"nosuch","payload":'
_LONE = b"\\ud800"


class Cost(NamedTuple):
    """Of one request: the answer's status, the seconds of CPU, and how many bytes the process grew."""

    status: int
    cpu_s: float
    memory_bytes: int


def _filled(value: bytes, size: int = BYTES, last: bytes = b"0") -> bytes:
    return b"[" + (value + b",") * ((size - 8) // (len(value) + 1)) + last + b"]"


def _items(payload: bytes) -> bytes:
    item = _BEGIN + payload + b"}"
    return b"[" + b",".join([item] * min(1_000, BYTES // (len(item) + 1))) + b"]"


def _members(count: int, value: bytes = b"1") -> bytes:
    return b",".join(b'"%x":%b' % (at, value) for at in range(count))


_ROOM = ITEM_BYTES - len(_BEGIN) - 16
ARRAYS: dict[str, Callable[[], bytes]] = {
    "4 million zeros": lambda: _filled(b"0"),
    "2.8 million arrays": lambda: _filled(b"[]"),
    "2.8 million arrays, one lone escape": lambda: _filled(b"[]", last=b'"\\ud800"'),
    "1.4 million half escapes": lambda: b'["' + b"\\ud8" * (BYTES // 4) + b'"]',
    "8 million open brackets": lambda: b"[" * BYTES,
    "items: arrays": lambda: _items(_filled(b"[]", _ROOM)),
    "items: arrays, one lone escape": lambda: _items(_filled(b"[]", _ROOM - 16, b'"\\ud800"')),
    "items: arrays 60 deep": lambda: _items(_filled(b"[" * 60 + b"]" * 60, _ROOM)),
    "items: brackets in strings": lambda: _items(_filled(b'["["]', _ROOM)),
    "items: lone escapes, 64 KiB each": lambda: _items(b'"' + _LONE * 10_900 + b'"'),
    "items: escaped quotes": lambda: _items(b'"' + b'\\"' * 32_000 + b'"'),
    "items: members, one lone escape": lambda: _items(b"1," + _members(24_000) + b',"x":"\\ud800"'),
    "items: 20,000 attachments each": lambda: _items(b'1,"attachments":' + _filled(b'{"url":"x"}', _ROOM - 32, b"{}")),
    "items: 1,000 good ones": lambda: _items(b'"' + b"x" * 8_300 + b'"'),
    "items: 1,000 of arrays": lambda: _items(_filled(b"[]", 8_300)),
}
LINES: dict[str, Callable[[], bytes]] = {
    "8 million newlines": lambda: b"\n" * BYTES,
    "4 million blank lines": lambda: b" \n" * (BYTES // 2),
    "4 million lines": lambda: b"1\n" * (BYTES // 2),
    "one line: 700,000 members, one lone escape": lambda: _BEGIN + b'"\\ud800",' + _members(700_000) + b"}",
    "one line: 2.8 million arrays": lambda: _BEGIN + _filled(b"[]") + b"}",
    "one line: 1.4 million lone escapes": lambda: _BEGIN + b'"' + _LONE * (BYTES // 6) + b'"}',
}


async def cost_of(world: World, body: bytes, media_type: str, token: str) -> Cost:
    """Sends one batch to ingest's application, without a client in the figures."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    path = b"/api/v1/publish/batch"
    headers = [(b"host", b"h"), (b"content-length", b"%d" % len(body)), (b"content-type", media_type.encode())]
    headers.append((b"authorization", f"Bearer {token}".encode()))
    scope = {"type": "http", "method": "POST", "raw_path": path, "query_string": b"", "headers": headers}
    before, started = _highest(reset=True), time.process_time()
    await world.ingest.app(scope, receive, send)
    return Cost(sent[0]["status"], time.process_time() - started, _highest() - before)


def _highest(*, reset: bool = False) -> int:
    """Returns the most memory this process has held, in bytes: since the last reset, which makes it what it holds."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def all_bodies() -> Iterator[tuple[str, str, bytes]]:
    """Yields name, media type and bytes of each."""
    for media_type, bodies in (("application/json", ARRAYS), ("application/x-ndjson", LINES)):
        for name, make in bodies.items():
            yield name, media_type, make()


def main() -> None:
    """Prints a row for each body."""

    async def scene(world: World) -> None:
        for name, media_type, body in all_bodies():
            cost = await cost_of(world, body, media_type, world.token(service=True))
            mega = len(body) / 1_000_000
            print(f"| {name} | {cost.status} | {cost.cpu_s * 1000 / mega:.1f} | {cost.memory_bytes / 2**20:.0f} |")

    play(scene)


if __name__ == "__main__":
    main()
