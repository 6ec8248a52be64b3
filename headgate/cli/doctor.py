"""`headgate doctor`: looks at settings, this machine, Kafka and links, and says what to mend."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Final, Literal

import typer
from rich.text import Text

from headgate.cli.invocation import Json, of
from headgate.cli.output import Output, note
from headgate.runtime.findings import Finding, Grade, fail
from headgate.runtime.settings import Settings
from headgate.runtime.system import SystemClock, SystemRng

DoctorRole = Literal["ingest", "dispatcher", "gateway"]
KAFKA_S: Final = 30.0  # as other commands: then the address is named
_STYLES: Final = {Grade.OK: "green", Grade.WARN: "yellow", Grade.FAIL: "bold red"}


def doctor(
    context: typer.Context,
    role: Annotated[DoctorRole | None, typer.Option(help="Check for this role only.", show_default=False)] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Write no probe record: skips the check of the clock.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Checks an installation: each line is ok, warn or fail, with what to do. Exit status 1 where one has failed."""
    settings = of(context).settings()
    roles: list[DoctorRole] = ["ingest", "dispatcher", "gateway"] if role is None else [role]
    return asyncio.run(_examine(settings, roles, Output(as_json), writes=not read_only))


async def _examine(settings: Settings, roles: list[DoctorRole], output: Output, *, writes: bool) -> int:
    counts = dict.fromkeys(Grade, 0)
    async for finding in _findings(settings, roles, writes=writes):
        counts[finding.status] += 1
        output.item(finding._asdict(), _line)
    note(f"{counts[Grade.OK]} ok, {counts[Grade.WARN]} to look at, {counts[Grade.FAIL]} to mend")
    return 1 if counts[Grade.FAIL] else 0


async def _findings(settings: Settings, roles: list[DoctorRole], *, writes: bool) -> AsyncIterator[Finding]:
    from headgate.runtime.doctor import links, secrets  # noqa: PLC0415 - other commands start faster

    clock = SystemClock()
    for found in _local(settings, roles, clock.wall_ms() / 1000):
        yield found
    async for found in secrets.check_keys(settings):
        yield found
    if set(roles) - {"gateway"} and (settings.log.url or "").startswith("kafka://"):
        async for found in _kafka(settings, clock, roles, writes=writes):
            yield found
    if set(roles) - {"dispatcher"}:
        async for found in links.check_links(settings, SystemRng()):
            yield found


def _local(settings: Settings, roles: list[DoctorRole], now_s: float) -> Iterator[Finding]:
    """Yields what needs no network; `now_s` is Unix seconds."""
    from headgate.runtime.doctor import certificates, environment, machine, secrets  # noqa: PLC0415

    yield from environment.check_variables(os.environ)
    for role in roles:
        yield secrets.check_settings(settings, role)
    yield from secrets.check_secrets(settings)
    yield from secrets.check_origins(settings)
    yield from certificates.check_link_files(settings.cluster.tls.files(), now_s)
    yield from certificates.check_log_files(settings.log.security, now_s)
    yield from machine.check_machine(settings, roles)


async def _kafka(
    settings: Settings, clock: SystemClock, roles: list[DoctorRole], *, writes: bool
) -> AsyncIterator[Finding]:
    from headgate.runtime.logs.kafka_checks import (  # noqa: PLC0415 - aiokafka is slow to import
        ALL_LOGS,
        READ_BY_INGEST,
        check_kafka,
    )

    reads = ALL_LOGS if "dispatcher" in roles else READ_BY_INGEST
    try:
        async with asyncio.timeout(KAFKA_S):
            async for found in check_kafka(settings.log_options(), clock, writes=writes, reads=reads):
                yield found
    except TimeoutError:
        seen = f"{settings.log.url} has not answered all questions in {KAFKA_S:.0f} s"
        yield fail("kafka.reachable", seen, "check log.url, the network and the brokers")


def _line(finding: dict[str, Any]) -> Text:
    mend = f"\n      mend: {finding['mend']}" if finding["mend"] else ""
    status = (f"{finding['status']:<5} ", _STYLES[Grade(finding["status"])])
    return Text.assemble(status, (f"{finding['check']:<24} ", "bold"), finding["detail"], (mend, "cyan"))
