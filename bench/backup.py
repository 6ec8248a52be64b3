"""Seconds and memory of `headgate backup` and `headgate restore`, and whether both ends are equal.

    python -m bench.backup                                         # sqlite, 4 shards
    python -m bench.backup --kafka 127.0.0.1:29092 --shards 64     # a real Kafka
    python -m bench.backup --kafka 127.0.0.1:29092 --into-kafka 127.0.0.1:39092 --shards 64  # another cluster

The first logs are filled from a file that is made up: so many topics, members, cursors and read marks. Then the two
commands run as they are, each in a process of its own. Three files must say the same, but for the epochs of topics:
what was made up, the backup of the first logs, and the backup of the logs that it was restored into.
"""

import argparse
import hashlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from dispatcher.backup_lines import (
    FORMAT,
    BackupWriter,
    CursorLine,
    Manifest,
    MarkLine,
    MemberLine,
    ShardLine,
    TopicLine,
)
from headgate.core.wire.ids import make_epoch
from headgate.core.wire.member_roles import Role

MADE_AT = 1_790_000_000_000
SEQ, OTHERS = 1_000, 10
SHARED_USERS = 10  # topics of a user


class Ran(NamedTuple):
    """A command that ended: seconds, CPU seconds, and the most memory of its process in megabytes."""

    seconds: float
    cpu_s: float
    mb: float


def make(path: Path, topics: int, members: int, places: int) -> None:
    """Writes a backup of topics with equally many members each, and of `places` cursors and as many marks."""
    each = max(members // topics, 1)
    users = max(topics * each // SHARED_USERS, each)
    with path.open("wb") as file:
        writer = BackupWriter(file.write)
        writer.add(Manifest(FORMAT, "made", 1, 1, MADE_AT, []))
        writer.add(ShardLine(0, topics, 0))
        for n in range(topics):
            name, epoch = f"topic.{n:07}", make_epoch(1, n + 1)
            ids = sorted({f"user-{(n * each + i) % users:08}" for i in range(each)})
            about = name, "PRIVATE", ids[0], MADE_AT, {"on_slow": "drop"}
            writer.add(TopicLine(name, epoch, SEQ, OTHERS, *about, 1, 0, None, ""))
            for at, user_id in enumerate(ids):
                writer.add(MemberLine(name, user_id, Role.MEMBER if at else Role.OWNER, at, at, MADE_AT + at))
        for n in range(places):
            name, epoch = f"topic.{n % topics:07}", make_epoch(1, n % topics + 1)
            user_id = f"user-{(n % topics * each + n // topics) % users:08}"
            writer.add(CursorLine(user_id, "default", name, epoch, n % SEQ, MADE_AT // 1_000, [], []))
            writer.add(MarkLine(user_id, name, epoch, n % SEQ, min(n % SEQ, SEQ - OTHERS), MADE_AT // 1_000))
        writer.finish()


def contents(path: Path) -> tuple[int, str]:
    """Returns how many lines of state a backup has, and a hash of them in any order, without their epochs."""
    total = count = 0
    with path.open("rb") as file:
        for value in file:
            line = msgspec.json.decode(value)
            if line["type"] in ("topic", "member", "changed", "cursor", "mark", "head"):
                line.pop("epoch", None)
                digest = hashlib.blake2b(msgspec.json.encode(line, order="sorted"), digest_size=16).digest()
                total += int.from_bytes(digest, "big")
                count += 1
    return count, f"{total % (1 << 128):032x}"


def run(arguments: Sequence[str]) -> Ran:
    """Runs `headgate` with arguments to its end."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "headgate.cli.main", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"headgate {arguments[0]} ends with {process.returncode}")
    return Ran(time.monotonic() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main() -> None:
    """Runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topics", type=int, default=100_000)
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--places", type=int, default=100_000, help="cursors, and as many read marks")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--into", type=int, help="shards of the second logs")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="a real Kafka, else sqlite files")
    parser.add_argument("--into-kafka", metavar="HOST:PORT", help="another Kafka for the second logs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-backup-") as name:
        folder = Path(name)
        logs = [_log(options.kafka, folder, "first", options.shards)]
        logs.append(_log(options.into_kafka or options.kafka, folder, "second", options.into or options.shards))
        make(folder / "made", options.topics, options.members, options.places)
        if options.kafka:
            for log in logs:
                run(["init", *log])
        say("fill the first logs", run(["restore", str(folder / "made"), *logs[0]]))
        say("backup", run(["backup", "--out", str(folder / "one"), *logs[0]]))
        say("restore", run(["restore", str(folder / "one"), *logs[1]]))
        say("backup of what was restored", run(["backup", "--out", str(folder / "two"), *logs[1]]))
        found = {name: contents(folder / name) for name in ("made", "one", "two")}
        size = (folder / "one").stat().st_size / 1e6
        same = len(set(found.values())) == 1
        print(f"{found['one'][0]} lines of state, {size:.0f} MB; {'equal' if same else f'DIFFERENT: {found}'}")
        if not same:
            raise SystemExit(1)


def _log(kafka: str | None, folder: Path, name: str, shards: int) -> list[str]:
    if kafka is None:
        return ["--log.url", f"sqlite:{folder / name}.db", "--log.shards", str(shards)]
    prefix = f"bench-{name}-{secrets.token_hex(4)}"
    return ["--log.url", f"kafka://{kafka}", "--log.prefix", prefix, "--log.shards", str(shards)]


def say(what: str, ran: Ran) -> None:
    """Prints one figure."""
    print(f"{what}: {ran.seconds:.1f} s, {ran.cpu_s:.1f} CPU seconds, {ran.mb:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
