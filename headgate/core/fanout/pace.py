"""How a gateway paces what it writes: how large a slice of a sweep is, and which topics are swept in slices at all."""

from typing import Final

import msgspec

DIRECT: Final = "direct"  # the three heats: `headgate.core.wire.link_inbox.TopicHeat`
PACED: Final = "paced"
INBOX: Final = "inbox"
HEATS: Final = (DIRECT, PACED, INBOX)


class Pace(msgspec.Struct, frozen=True, gc=False):
    """The bounds of a slice, and of what goes out without slices.

    A topic with more than `plain_sockets` sockets in step, or that its owner called `paced` or `inbox`, is swept in
    slices, whose blocks have at most `block_sockets` sockets. A slice ends with the block after which it has lasted
    `slice_s` seconds, has written `slice_bytes` bytes, or has written to as many sockets as are expected to take
    `slice_s` by the slices before, at most `slice_sockets`. Two sweeps of an `inbox` topic begin at least `inbox_s`
    seconds apart; those of a `paced` topic `paced_times` as long as the sweep before has taken, at most `inbox_s`: what
    is published meanwhile is one write, and a topic that could fill the loop leaves time for the others.
    """

    plain_sockets: int = 512  # 3.5 ms of writes at 7 us each: cutting would save nothing
    block_sockets: int = 128  # 1 ms of writes: the step in which a slice is measured, and the least that it has
    slice_s: float = 0.003  # with the block that passes it below 5 ms
    slice_sockets: int = 512  # uvloop writes after the turn: how long that takes is known only in the next one
    slice_bytes: int = 1024 * 1024  # about 1 ms of copying into the kernel
    inbox_s: float = 0.1  # the pointer interval of the owner: who is away learns of a message no sooner
    paced_times: float = 2.0  # a paced topic has at most half of the loop


DEFAULT_PACE: Final = Pace()


def known_heat(heat: str) -> str:
    """Returns a topic's heat; one that only a newer owner knows is `direct`."""
    return heat if heat in HEATS else DIRECT
