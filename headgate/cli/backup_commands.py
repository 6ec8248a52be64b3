"""`headgate backup` and `headgate restore`: the state of all shards as a file, and back into new logs."""

import asyncio
import contextlib
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from headgate.cli.invocation import CommandFailed, Json, WrongCommand, of, reason_of
from headgate.cli.output import Output, fields, not_written, note, opened, standard_input
from headgate.runtime.ports import Log
from headgate.runtime.settings import Settings
from headgate.runtime.system import SystemClock, SystemRng

if TYPE_CHECKING:
    from dispatcher.restore import RestoreReport

OPEN_S: Final = 30.0  # as other commands: then the address is named
STANDARD: Final = "-"  # standard output or input
Told = Callable[[str, int, int], None]

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="The folder of a headgate dev that does not run.", show_default=False),
]


def backup(
    context: typer.Context,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="The file to make, or - for standard output.", show_default=False),
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> int:
    """Writes topics, members, cursors and counters as NDJSON, while the servers run. Messages are not in it.

    headgate backup --log.url kafka://127.0.0.1:9092 --out headgate.ndjson
    headgate backup --log.url kafka://127.0.0.1:9092 | zstd > headgate.ndjson.zst
    """
    settings = log_settings(context, data)
    if out is None and opened().isatty():
        raise WrongCommand("headgate backup writes to a pipe, or to --out FILE")
    path = None if out in (None, STANDARD) else Path(out or "")
    with _failing():
        if path is None:
            counts = asyncio.run(_backup(settings, opened().buffer))
            note(_summary(counts))
            return 0
        counts = _backup_to(settings, path)
    made = {"file": str(path), "bytes": path.stat().st_size, **counts}
    Output(as_json).item(made, lambda found: fields((path, "bold"), (_summary(counts), "")))
    return 0


def restore(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What headgate backup wrote, or - for standard input.")],
    generation: Annotated[
        int | None,
        typer.Option(metavar="N", help="The new generation, else one above the backup's.", show_default=False),
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> int:
    """Restores a backup into logs that headgate init has just made, or into an empty folder, and checks it.

    headgate init --log.url kafka://127.0.0.1:9092 --log.prefix second
    headgate restore headgate.ndjson --log.url kafka://127.0.0.1:9092 --log.prefix second
    """
    settings = log_settings(context, data, makes=True)
    with _failing(), _source(file) as source:
        report = asyncio.run(_restore(settings, source, generation))
    Output(as_json).item(report._asdict(), _restored)
    return 0


def log_settings(context: typer.Context, data: Path | None, *, makes: bool = False) -> Settings:
    settings = of(context).settings({"log.url": None if data is None else f"sqlite:{data / 'log.db'}"})
    url = settings.log_options().url
    if url == "memory:":
        raise WrongCommand("log.url memory: ends with its process: there is nothing to back up or to restore into")
    path = Path(url.removeprefix("sqlite:")).expanduser()
    if url.startswith("sqlite:") and not makes and not path.exists():
        raise CommandFailed(f"{path}: there is no such log")
    return settings


async def _backup(settings: Settings, file: BinaryIO) -> dict[str, int]:
    from dispatcher.backup import backup as write  # noqa: PLC0415 - other commands start faster
    from dispatcher.backup_lines import BackupWriter  # noqa: PLC0415

    writer = BackupWriter(file.write)
    async with opened_log(settings) as log:
        with progress_bar("backup") as told:
            await write(log, writer, SystemClock(), told)
    file.flush()
    return dict(writer.counts)


def _backup_to(settings: Settings, path: Path) -> dict[str, int]:
    """Writes a file that is there once it is whole, readable for its user only: it names everybody's topics."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            counts = asyncio.run(_backup(settings, file))
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return counts


async def _restore(settings: Settings, source: BinaryIO, generation: int | None) -> "RestoreReport":
    from dispatcher.backup_lines import BackupReader  # noqa: PLC0415 - other commands start faster
    from dispatcher.restore import restore as write  # noqa: PLC0415

    reader = BackupReader(source)
    async with opened_log(settings) as log:
        with tempfile.TemporaryDirectory(prefix="headgate-restore-") as folder, progress_bar("restore") as told:
            return await write(log, reader, Path(folder), SystemClock(), generation, told)


@contextlib.asynccontextmanager
async def opened_log(settings: Settings) -> AsyncIterator[Log]:
    """Opens the log of the settings; log lines go to standard error. Raises LogError, WrongCommand, CommandFailed."""
    from headgate.runtime.logging import configured  # noqa: PLC0415 - other commands start faster
    from headgate.runtime.logs.embedded import SettingsConflict  # noqa: PLC0415
    from headgate.runtime.logs.factory import make_log  # noqa: PLC0415

    log = make_log(settings.log_options(), SystemClock(), SystemRng())
    with configured(role="backup"):
        logging.getLogger().setLevel(logging.WARNING)  # the Kafka client names each partition that it reads
        try:
            async with asyncio.timeout(OPEN_S):
                await log.open()
        except TimeoutError:
            raise CommandFailed(f"{log.address} cannot be reached in {OPEN_S:.0f} s") from None
        except SettingsConflict as error:
            raise WrongCommand(str(error)) from None
        try:
            yield log
        finally:
            await log.close()


@contextlib.contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    if file == STANDARD:
        yield standard_input().buffer
        return
    with Path(file).open("rb") as source:
        yield source


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """Raises CommandFailed where a file cannot be read or written."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise not_written(error) if error.filename is None else CommandFailed(reason_of(error)) from None


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[Told]:
    """A bar for a person on standard error; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("")
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total or None)


def _summary(counts: dict[str, int]) -> str:
    kinds = ("topic", "member", "changed", "cursor", "mark", "revocation")
    return ", ".join(f"{counts.get(kind, 0)} {kind} lines" for kind in kinds)


def _restored(report: dict[str, Any]) -> Text:
    return fields(*[(f"{value} {name}", "bold" if name == "generation" else "") for name, value in report.items()])
