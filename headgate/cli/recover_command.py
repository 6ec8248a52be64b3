"""`headgate recover`: serves what is left of a shard that is parked because it lost data."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from headgate.cli.backup_commands import Data, log_settings, opened_log, progress_bar
from headgate.cli.invocation import Json, WrongCommand
from headgate.cli.output import Output, fields, note
from headgate.runtime.ports import Log
from headgate.runtime.settings import Settings
from headgate.runtime.system import SystemClock

if TYPE_CHECKING:
    from dispatcher.declared_loss import LossReport

NOT_ACCEPTED: Final = 3  # the exit status of a run that changed nothing because it was not told to


def recover(
    context: typer.Context,
    shard: Annotated[int, typer.Option(metavar="N", min=0, help="The shard that is parked.")],
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Give up what is lost. Without it nothing is changed: exit status 3.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> int:
    """Says what a parked shard has lost; with --accept-loss, and no dispatcher running, serves the rest again.

    headgate recover --log.url kafka://127.0.0.1:9092 --shard 3
    headgate recover --log.url kafka://127.0.0.1:9092 --shard 3 --accept-loss
    """
    settings = log_settings(context, data)
    report = asyncio.run(_recover(settings, shard, accepted=accept_loss))
    if report is None:
        return 0
    Output(as_json).item({**report._asdict(), "accepted": accept_loss}, _shown)
    if accept_loss:
        return 0
    note("nothing was changed; --accept-loss gives this up")
    return NOT_ACCEPTED


async def _recover(settings: Settings, shard: int, *, accepted: bool) -> "LossReport | None":
    from dispatcher.shard_remains import NothingLost  # noqa: PLC0415 - other commands start faster

    async with opened_log(settings) as log:
        if shard >= log.shards:
            raise WrongCommand(f"--shard {shard}: the log has the shards 0 to {log.shards - 1}")
        try:
            return await _report(settings, log, shard, accepted=accepted)
        except NothingLost as nothing:
            note(str(nothing))
            return None


async def _report(settings: Settings, log: Log, shard: int, *, accepted: bool) -> "LossReport":
    from dispatcher.declared_loss import recover_with_loss, report_loss  # noqa: PLC0415 - other commands start faster
    from headgate.runtime.logs.serving import check_unserved  # noqa: PLC0415

    async def check() -> None:
        await check_unserved(settings.log_options())

    if not accepted:
        return await report_loss(log, shard)
    with progress_bar("recover") as told:
        return await recover_with_loss(log, shard, SystemClock(), check, told)


def _shown(report: dict[str, Any]) -> Text:
    counts = {
        name: value for name, value in report.items() if isinstance(value, int) and name not in ("shard", "accepted")
    }
    lost = ", ".join(map(str, report["other_lost"]))
    others = f"lost too: shards {lost}" if lost else ""
    return fields((report["why"], "bold"), *((f"{value} {name}", "") for name, value in counts.items()), (others, ""))
