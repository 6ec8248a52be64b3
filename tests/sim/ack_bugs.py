"""Planted bugs of acknowledged delivery; see `tests.sim.bugs`."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import msgspec

from headgate.core.delivery.ack_window import AckWindow, Failure, Ignored
from headgate.core.delivery.retry import Draw, no_jitter
from headgate.core.fanout.acknowledging import Acknowledging
from headgate.core.fanout.give_ups import GiveUps
from headgate.core.fanout.subscription_acks import SubscriptionAcks
from headgate.core.wire.link import Answer
from headgate.core.wire.link_acks import Cursor, CursorLease
from headgate.core.wire.link_dead_letters import GivenUp
from tests.sim.world import Bugs


class JumpsTheQueue(Bugs):
    """A message that was refused does not hold the line: what is newer is sent before it comes again."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the way back."""
        nack = AckWindow.nack

        def going_on(window: AckWindow, seq: int, reason: str, now: float, draw: Draw = no_jitter) -> Failure | Ignored:
            found = nack(window, seq, reason, now, draw)
            window.next = max(window.next, window.sent + 1)
            return found

        with (
            mock.patch.object(AckWindow, "nack", going_on),
            mock.patch.object(SubscriptionAcks, "is_noted", True),
        ):
            yield


class CursorBeforeAck(Bugs):
    """A gateway stores what it has sent as the cursor, not what was acknowledged."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the cursor."""
        cursor = SubscriptionAcks.cursor

        def sent(acks: SubscriptionAcks) -> Cursor:
            return msgspec.structs.replace(cursor(acks), seq=acks.window.sent, above=[], attempts=[])

        with mock.patch.object(SubscriptionAcks, "cursor", sent):
            yield


class TwoTimers(Bugs):
    """A gateway tells the cursor of a subscription that is taken over, and goes on with it."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the end away."""

        def lasting(acknowledging: Acknowledging, lease: CursorLease) -> Cursor | None:
            acks = acknowledging._acks.get((lease.user_id, lease.device_id, lease.topic_id))
            return None if acks is None else acks.cursor()

        with mock.patch.object(Acknowledging, "replace", lasting):
            yield


class PassesBeforeTheLetter(Bugs):
    """A cursor passes a message that is given up whatever its topic's owner answers."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the answer."""
        answered = GiveUps._answered

        def content(give_ups: GiveUps, acks: SubscriptionAcks, seq: int, answer: Answer) -> None:
            answered(give_ups, acks, seq, GivenUp(0))

        with mock.patch.object(GiveUps, "_answered", content):
            yield


class ForgottenFailure(Bugs):
    """A message comes again before the log knows that it failed. Was there once."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the wait."""
        with mock.patch.object(SubscriptionAcks, "is_noted", True):
            yield
