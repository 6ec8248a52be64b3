"""Keeps links to every dispatcher: the configured ones and those that others name; knows no message's meaning."""

import asyncio
import socket
from typing import Final

import structlog

from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.websocket_link import open_link
from headgate.runtime.ports import Clock, Rng

logger = structlog.get_logger("links")

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 2.0
RESOLVE_S: Final = 5.0
HINT_TRIES: Final = 30  # a hinted address that never answers is forgotten; a live node is hinted again


class LinkPool:
    """Links of one process. `run` is its task."""

    def __init__(
        self, directory: LinkDirectory, dispatchers: list[str], secret: bytes, node: str, clock: Clock, rng: Rng
    ) -> None:
        self._directory = directory
        self._configured = dispatchers
        self._secret = secret
        self._node = node
        self._clock = clock
        self._rng = rng
        self._hints: dict[str, int] = {}
        self._kept: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._said: dict[str, float] = {}
        self._wanted: set[str] = set()
        self._resolved: dict[str, list[str]] = {}
        directory.on_hint = self._on_hint

    def _on_hint(self, address: str) -> None:
        self._hints[address] = 0
        self._wake.set()

    async def run(self) -> None:
        """Connects, reconnects with back-off and jitter, follows names that change, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wanted = set(await self._targets())
                for address in self._wanted:
                    task = self._kept.get(address)
                    if task is None or task.done():
                        self._kept[address] = tasks.create_task(self._keep(address), name=f"link-{address}")
                try:
                    async with asyncio.timeout(RESOLVE_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()

    async def _targets(self) -> list[str]:
        """Returns every address: a configured name may stand for several hosts (a headless service)."""
        targets: dict[str, None] = {}
        for address in self._configured:
            try:
                self._resolved[address] = await _resolve(address)
            except OSError as error:  # what was known of the name stays good
                self._say(address, f"the name does not resolve: {error}")
            targets.update(dict.fromkeys(self._resolved.get(address, ())))
        targets.update(dict.fromkeys(self._hints))
        return list(targets)

    async def _keep(self, address: str) -> None:
        """Keeps one link; ends when the name is gone, or a hint has led nowhere for long."""
        backoff = BACKOFF_FIRST_S
        while address in self._wanted and self._hints.get(address, 0) < HINT_TRIES:
            started = self._clock.now()
            try:
                wire = await open_link(address, self._secret, self._directory.role, self._node, self._rng)
                self._directory.add(wire)
                await wire.run()
                while wire.peer in self._directory.nodes:  # noqa: ASYNC110 - an alias: rare, and minutes long
                    await asyncio.sleep(BACKOFF_MAX_S)
            except ConnectionError as error:
                self._say(address, str(error))
                if address in self._hints:
                    self._hints[address] += 1
            except Exception:  # the task's root: one link's fault ends neither the others nor the process
                logger.exception("a link failed", address=address)
            if self._clock.now() - started > BACKOFF_MAX_S:
                backoff = BACKOFF_FIRST_S
            await asyncio.sleep(backoff * (0.5 + self._rng.random()))
            backoff = min(backoff * 2, BACKOFF_MAX_S)
        self._hints.pop(address, None)

    def _say(self, address: str, why: str) -> None:
        """Logs a fault once a minute and address."""
        now = self._clock.now()
        if now - self._said.get(address, -60.0) >= 60.0:
            self._said[address] = now
            logger.warning("no link to a dispatcher", address=address, why=why)


async def _resolve(address: str) -> list[str]:
    """Returns the addresses behind host:port; the name itself where it stands for one host. Raises OSError."""
    host, _, port = address.rpartition(":")
    found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    hosts = sorted({str(entry[4][0]) for entry in found})
    if len(hosts) == 1 or host == "localhost":
        return [address]
    return [f"[{h}]:{port}" if ":" in h else f"{h}:{port}" for h in hosts]
