"""Builds the process of `headgate canary`: its round trips, metrics and verdict, and the token that it uses."""

import logging
import sys
import time
from typing import Final

from headgate.cli.canary_trips import OnFrame, RoundTrips
from headgate.cli.canary_verdict import faults
from headgate.cli.client import token_of
from headgate.core.wire.rights import Caller
from headgate.runtime.metrics import Metrics
from headgate.runtime.process import Process, run
from headgate.runtime.settings import Settings
from headgate.runtime.system import SystemClock
from headgate.runtime.tokens import TokenKey, mint
from headgate_client import Client

USER: Final = "headgate-canary"
TOKEN_S: Final = 3_600.0
GOOD: Final = "good"


def canary(settings: Settings) -> int:
    """Runs a canary; returns the exit status: with `canary.run_s` 1 where something was wrong. Raises OSError."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for each publish
    return run(_canary(settings))


async def _canary(settings: Settings) -> int:
    metrics, clock = Metrics(frozenset({"canary"})), SystemClock()
    process = Process("canary", metrics, clock, settings.drain.deadline_s)
    trips = RoundTrips(settings.canary, lambda on_frame: client_of(settings, on_frame), metrics.canary, clock)
    process.task("round trips", trips.run)
    process.task("losses", trips.give_up)
    verdict: list[str] = []

    async def judge() -> None:
        await trips.end_after(settings.canary.run_s)
        verdict.extend(faults(metrics.canary.outcomes(), metrics.canary.counted()) or [GOOD])
        process.stopping.set()

    if settings.canary.run_s:
        process.task("verdict", judge)
    process.checks["publishing"] = trips.not_publishing
    process.checks["receiving"] = trips.not_receiving
    await process.run(settings.admin.host or "127.0.0.1", settings.admin.port)
    return _said(verdict or ["it was stopped before its time"]) if settings.canary.run_s else 0


def _said(verdict: list[str]) -> int:
    """Writes the verdict on standard output; returns the exit status."""
    if sys.stdout is not None:  # closed: the exit status says it too
        sys.stdout.write("\n".join([*verdict, ""]))
    return 0 if verdict == [GOOD] else 1


def client_of(settings: Settings, on_frame: OnFrame) -> Client:
    """Returns a client with `client.token`, else with tokens signed with `auth.secret`, else (open mode) as USER.

    It tries a publish once: what a repeated one would hide is counted.
    """
    token, key = token_of(settings), settings.token_secrets()[0]
    auth = settings.auth
    life_s = min(TOKEN_S, auth.token_life_s or TOKEN_S)
    rights = (f"{settings.canary.topic}-*",)

    async def signed() -> str:
        caller = Caller(USER, publish=rights, subscribe=rights, service=True)
        return mint(TokenKey(key, auth.issuer, auth.audience), caller, now_s=time.time(), ttl_s=life_s)

    return Client(
        settings.client.url,
        stream_url=settings.stream_url,
        token=token,
        credentials=signed if token is None and key else None,
        user=USER if token is None and not key else None,
        patience_s=0.0,
        trust_env=False,
        transport="websocket",
        on_frame=on_frame,
    )
