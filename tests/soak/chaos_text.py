"""The words of `docs/project/chaos.md` that no run changes: what is counted, what each fault stands for."""

from typing import Final

from tests.soak.availability import ALLOWED_S, DELIVERY_S, PUBLISH_S, SETTLE_S, TARGET
from tests.soak.balancer import OUT_S
from tests.soak.load import TIMEOUT_S

HEAD: Final = """# Chaos and availability

Random faults on three dispatchers, two ingests, two gateways and three real Kafka brokers, with proxies between all of
them, while single messages and batches of up to 1,000 are published and topics are deleted and made again. Written by
`make chaos SEED=7 MINUTES=30`; a run replaces the one of the same seed. Clients, processes and brokers
share one machine, and wait for its cores: times are upper values. What each fault stands for is
[below](#what-the-faults-stand-for)."""

MESSAGES: Final = """
## What became of the messages

*lost*: acknowledged, and a reader never got it. *repeated*, *reordered*: at one reader. *invented*: never sent, or with
another content. *refused*: messages that were answered 503, each time; a tenth of those without a `client_msg_id` are
never sent again, and *refused and there* counts those that a reader got all the same. *gaps*: frames that say that
messages are missing. A *publish* is one request, with up to 1,000 messages.
"""

STATES_TEXT: Final = f"""
## Which fault struck in which state

The state just before the fault; where several hold, the rightmost counts. *readers behind*: something was acknowledged
{DELIVERY_S:g} s ago and a reader does not have it. A quarter of the faults wait for a burst, a quarter for a topic
being made again. A fault that strikes in one of the last three states counts as *two faults at once* below, and so
does one that lasts when another strikes.
"""

SLOW: Final = """
**The machine could not carry this load**: too much was late without any fault. The times above say more of the machine
than of the faults; run it again on idle cores, or with a lower `RATE`.
"""

SHARES: Final = f"""
## What was in time

A publish is in time when a 200 comes within {PUBLISH_S:g} s after it was due, whatever was answered before: the client
repeats after 503, 504 or {TIMEOUT_S:g} s of silence, behind a balancer that leaves out for {OUT_S:g} s an ingest that
answered so. A publish that could not be repeated, having no `client_msg_id`, is late. A delivery is in time when a
reader has the message within {DELIVERY_S:g} s after the 200.

A window goes from the fault until {SETTLE_S:g} s after it was healed, or until the next fault. *costs*: the larger
share of what was late, times the length of a window: as many seconds without any service would be the same.
*a month*: how many such faults {TARGET * 100:g} % a month allows ({ALLOWED_S / 60:.1f} minutes), if nothing else
happens.
"""

NINES: Final = """
## How many nines

How often faults come is assumed, not measured; put your own numbers in. What a fault costs is the mean of those above
that were played alone: of one or two it says little.
"""

_FAULTS: Final = (
    (
        "killed",
        "SIGKILL, started again after 0, 3 or 10 s, a broker after 1 or 8 s; *index wiped*: its index files deleted",
        "a crash, the kernel's answer to a full memory, a lost machine",
    ),
    ("stopped in order", "SIGTERM, started again when it has ended", "an upgrade"),
    ("frozen", "SIGSTOP for 1 to 9 s", "a pause of a virtual machine, swapping"),
    ("sockets cut", "half of the WebSocket clients lose their connection", "a mobile network"),
    (
        "cut off",
        "proxies hold what passes between two groups, in both directions, for 2, 8 or 20 s, and then let it go on; "
        "nobody is told",
        "a network that drops packets",
    ),
    (
        "memory taken by a neighbour",
        "a process touches half of the free memory, at most 4 GiB, without pause for 10 s",
        "a neighbour that takes memory and its bandwidth. No process is refused memory: the kernel would kill it, and "
        "that is *killed*",
    ),
    (
        "clock wrong",
        "the wall clock of one process is 30 or 300 s ahead or behind for 5 or 15 s: two steps; its monotonic clock "
        "goes on",
        "a step by NTP, a virtual machine that was restored",
    ),
    (
        "slow disk",
        "each write and fsync of a file takes 10 or 50 ms longer for 5 or 12 s",
        "a busy disk, a volume over a network",
    ),
)

STANDS_FOR: Final = (
    """
## What the faults stand for

| fault | done by | stands for |
|---|---|---|
"""
    + "".join(f"| {' | '.join(row)} |\n" for row in _FAULTS)
    + """
Clocks and disks are changed by a small library that is loaded before the system's (`tests/soak/interposer.c`); it needs
a C compiler. The brokers' clocks are not changed. Clients and the deployment are not cut off from each other, except
for *sockets cut*. No fault takes a whole machine with several processes.
"""
)
