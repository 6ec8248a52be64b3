"""When a dispatcher claimed a shard (the ownership log), when it was live (its own log lines), and the CPU it took."""

import json
from datetime import datetime

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
