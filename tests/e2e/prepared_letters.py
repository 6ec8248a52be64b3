"""Dead letters in the data of a `headgate dev` process that does not run: no client can make one in a moment."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from headgate.core.delivery.dead_letter_record import (
    NO_ATTEMPTS_LEFT,
    DeadLetter,
    LetterAdded,
    delivery_letter_id,
    encode_letter,
)
from headgate.core.wire.ids import shard_of, topic_key
from headgate.core.wire.records import LogName
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.system import SystemClock, SystemRng


def write_letters(folder: Path, topic_id: str, epoch: int, seqs: Mapping[str, int]) -> dict[str, str]:
    """Gives up a delivery of each of these messages; returns the ids of the letters by the names of `seqs`."""
    clock = SystemClock()
    letters = {
        name: DeadLetter(
            id=delivery_letter_id(topic_id, (epoch, seq), ("bob", "phone", "")),
            topic=topic_id,
            reason=NO_ATTEMPTS_LEFT,
            at=clock.wall_ms() / 1_000,
            message_id="00000000-0000-8000-8000-000000000000",
            attempts=3,
            last_error="down",
            epoch=epoch,
            seq=seq,
            user_id="bob",
            device_id="phone",
        )
        for name, seq in seqs.items()
    }
    asyncio.run(_append(folder, topic_key(topic_id), list(letters.values())))
    return {name: letter.id for name, letter in letters.items()}


async def _append(folder: Path, key: bytes, letters: list[DeadLetter]) -> None:
    log = SqliteLog(folder / "log.db", SystemClock(), SystemRng())
    await log.open()
    try:
        for letter in letters:
            value = encode_letter(LetterAdded(letter))
            await log.append(LogName.DEAD_LETTERS, shard_of(key, log.shards), key, value)
    finally:
        await log.close()
