"""When a dispatcher claimed a shard (the ownership log), when it was live (its own log lines), and the CPU it took."""

import json
import os
from datetime import datetime
from pathlib import Path

from tests.e2e.harness import Role
from tests.e2e.kafka_client import read_all


async def claimed_at(bootstrap: str, prefix: str) -> dict[int, float]:
    """Returns the Unix second of each shard's newest claim (the brokers' append time)."""
    found: dict[int, float] = {}
    for record in await read_all(bootstrap, f"{prefix}.ownership"):
        if record.value:
            found[record.partition] = max(found.get(record.partition, 0.0), record.timestamp / 1e3)
    return found


def live_at(role: Role) -> dict[int, float]:
    """Returns the Unix second at which each shard was last reported live."""
    found: dict[int, float] = {}
    for line in role.errors().splitlines():
        if '"shard live"' in line:
            entry = json.loads(line)
            found[entry["shard"]] = datetime.fromisoformat(entry["timestamp"]).timestamp()
    return found


def cpu_s(pid: int | None) -> float:
    """Returns the CPU seconds of a process: what a wait would be on a core that nothing else uses."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
