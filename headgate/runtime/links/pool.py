"""Keeps links to every dispatcher: the configured ones and those that other dispatchers name."""

import asyncio
import socket
from typing import Final

import structlog

from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.websocket_link import Credentials, open_link
from headgate.runtime.logging import Reminder
from headgate.runtime.ports import Shell

logger = structlog.get_logger("links")

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 2.0
RESOLVE_S: Final = 5.0
HINT_TRIES: Final = 30  # a hinted address that never answers is forgotten; a live node is hinted again


class LinkPool:
    """Links of one process. `run` is its task."""

    def __init__(
        self, directory: LinkDirectory, dispatchers: list[str], credentials: Credentials, shell: Shell[object]
    ) -> None:
        self._directory = directory
        self._configured = dispatchers
        self._credentials = credentials
        self._clock = shell.clock
        self._rng = shell.rng
        self._hints = directory.hints
        self._kept: dict[str, asyncio.Task[None]] = {}
        self._reminder = Reminder(shell.clock.now)
        self._targets: dict[str, str] = {}  # address: the host that its certificate names
        self._resolved: dict[str, list[str]] = {}

    async def run(self) -> None:
        """Connects, reconnects with back-off and jitter, follows names that change, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._targets = await self._find_targets()
                for address in self._targets:
                    task = self._kept.get(address)
                    if task is None or task.done():
                        self._kept[address] = tasks.create_task(self._keep(address), name=f"link-{address}")
                try:
                    async with asyncio.timeout(RESOLVE_S):
                        await self._hints.added.wait()
                except TimeoutError:
                    pass
                self._hints.added.clear()

    async def _find_targets(self) -> dict[str, str]:
        """Returns every address and its host's name: a configured name may be several hosts (a headless service)."""
        targets = {address: _host(address) for address in self._hints.failures}
        for address in self._configured:
            try:
                self._resolved[address] = await _resolve(address)
            except OSError as error:  # the addresses found before stay valid
                self._warn(address, f"the name does not resolve: {error}")
            targets.update(dict.fromkeys(self._resolved.get(address, ()), _host(address)))
        return targets

    async def _keep(self, address: str) -> None:
        """Keeps one link. Ends when no name stands for the address, or the hint has failed HINT_TRIES times."""
        backoff = BACKOFF_FIRST_S
        while address in self._targets and self._hints.failures.get(address, 0) < HINT_TRIES:
            started = self._clock.now()
            try:
                await self._connect(address)
            except ConnectionError as error:
                self._warn(address, str(error))
                self._hints.failed(address)
            except Exception:  # the task's root: one link's fault ends neither the others nor the process
                logger.exception("a link failed", address=address)
            if self._clock.now() - started > BACKOFF_MAX_S:
                backoff = BACKOFF_FIRST_S
            await asyncio.sleep(backoff * (0.5 + self._rng.random()))
            backoff = min(backoff * 2, BACKOFF_MAX_S)
        self._hints.failures.pop(address, None)

    async def _connect(self, address: str) -> None:
        """Opens a link and runs it to its end. Raises ConnectionError."""
        host = self._targets.get(address)
        role, node = self._directory.role, self._directory.node
        wire = await open_link(address, self._credentials, role, node, self._rng, host)
        self._directory.add(wire)
        await wire.run()
        while wire.peer in self._directory.nodes:  # noqa: ASYNC110 - an alias of a linked node: rare, and minutes long
            await asyncio.sleep(BACKOFF_MAX_S)

    def _warn(self, address: str, why: str) -> None:
        if self._reminder.is_due(address):
            logger.warning("no link to a dispatcher", address=address, why=why)


def _host(address: str) -> str:
    return address.rpartition(":")[0]


async def _resolve(address: str) -> list[str]:
    """Returns the addresses behind host:port; the name itself where it stands for one host. Raises OSError."""
    host, _, port = address.rpartition(":")
    found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    hosts = sorted({str(entry[4][0]) for entry in found})
    if len(hosts) == 1 or host == "localhost":
        return [address]
    return [f"[{h}]:{port}" if ":" in h else f"{h}:{port}" for h in hosts]
