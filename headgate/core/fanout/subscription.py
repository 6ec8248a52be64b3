"""The life of a subscription as one table: what may happen to it in each state, and what it becomes.

Two rules:

1. The state changes only in `Life.move`, and only along a row of `TRANSITIONS`. An event that the state has no row
   for raises `IllegalSubscriptionEvent` and changes nothing.
2. A subscriber in step has no state per message. No event happens to it while messages are delivered, so the table
   costs a delivery nothing.

How it works. A client asks for a topic: the request goes to the topic's owner (ASKED). If no owner is linked, it waits
for one (HELD) and is asked again. The owner's grant makes it a subscription with a cursor, the number of the last
message handed to its socket. Until the cursor has reached the messages that the gateway has written, the subscription
is out of step:

* BEHIND: messages above its cursor exist. They are read from the topic's ring, piece by piece, while its socket takes
  bytes.
* FETCHING: the ring has forgotten them. A page was asked of the owner.
* WAITING: the cursor, or the head at the time of the grant, lies above what the gateway has written. The next flush of
  the topic decides.

IN_STEP it has no cursor: each flush writes to it. When its socket is full it is parked: BEHIND, with a cursor. A
subscription that acknowledges is BEHIND too while its window is full, and while something in it failed: its cursor then
is where its window is (`headgate.core.delivery.ack_window`).
FENCED it is held at its cursor: somebody lost a right in the topic, and the owner is asked whether its user still has
it. Nothing is written to it until the answer has come.
ENDED is final: unsubscribed, refused, given up, or the connection or topic is gone.

`PendingSubscribe` lives in ASKED and HELD, `Subscription` in the states after the grant; both end in ENDED.
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from headgate.core.wire.errors import HeadgateError


class SubscriptionState(enum.StrEnum):
    """The states. ASKED and HELD: not granted yet. BEHIND, FETCHING, WAITING and FENCED: out of step."""

    ASKED = "ASKED"
    HELD = "HELD"
    BEHIND = "BEHIND"
    FETCHING = "FETCHING"
    WAITING = "WAITING"
    IN_STEP = "IN_STEP"
    FENCED = "FENCED"
    ENDED = "ENDED"


class SubscriptionEvent(enum.StrEnum):
    """What happens to a subscription; the value is its name in a diagram."""

    HOLD = "no owner answers"
    ASK_AGAIN = "an owner is linked"
    GRANT = "granted"
    FETCH = "the ring has forgotten"
    PAGE = "page answered"
    WAIT = "above what is written"
    FLUSH = "topic flushed"
    CATCH_UP = "cursor reached what is written"
    PARK = "socket is full"
    GO_BACK = "back to what is not acknowledged"
    FENCE = "a right was lost"
    AUTHORIZE = "authorised again"
    END = "ended"


_State = SubscriptionState
_Event = SubscriptionEvent

TRANSITIONS: Final[Mapping[SubscriptionState, Mapping[SubscriptionEvent, SubscriptionState]]] = MappingProxyType(
    {
        _State.ASKED: {_Event.HOLD: _State.HELD, _Event.GRANT: _State.BEHIND, _Event.END: _State.ENDED},
        _State.HELD: {_Event.ASK_AGAIN: _State.ASKED, _Event.END: _State.ENDED},
        _State.BEHIND: {
            _Event.FETCH: _State.FETCHING,
            _Event.WAIT: _State.WAITING,
            _Event.CATCH_UP: _State.IN_STEP,
            _Event.FENCE: _State.FENCED,
            _Event.END: _State.ENDED,
        },
        # Whatever the owner answers, the next step begins at the cursor again.
        _State.FETCHING: {_Event.PAGE: _State.BEHIND, _Event.FENCE: _State.FENCED, _Event.END: _State.ENDED},
        _State.WAITING: {
            _Event.FLUSH: _State.BEHIND,
            _Event.GO_BACK: _State.BEHIND,
            _Event.FENCE: _State.FENCED,
            _Event.END: _State.ENDED,
        },
        _State.IN_STEP: {
            _Event.PARK: _State.BEHIND,
            _Event.GO_BACK: _State.BEHIND,
            _Event.FENCE: _State.FENCED,
            _Event.END: _State.ENDED,
        },
        _State.FENCED: {_Event.AUTHORIZE: _State.BEHIND, _Event.END: _State.ENDED},
        _State.ENDED: {},
    }
)


_ROWS: Final = dict(TRANSITIONS)  # read three times a connect, and faster than through the proxy


class IllegalSubscriptionEvent(HeadgateError):
    """An event that the table does not have for this state; nothing was changed."""

    def __init__(self, state: SubscriptionState, event: SubscriptionEvent) -> None:
        allowed = ", ".join(repr(str(expected)) for expected in TRANSITIONS[state]) or "none"
        super().__init__(f"{str(event)!r} in state {state}; expected one of: {allowed}")
        self.state = state
        self.event = event


class Life:
    """Something that has a state of the table."""

    __slots__ = ("state",)

    def __init__(self, state: SubscriptionState) -> None:
        self.state = state

    def move(self, event: SubscriptionEvent) -> None:
        """Changes the state as the table says. Raises IllegalSubscriptionEvent."""
        try:
            self.state = _ROWS[self.state][event]
        except KeyError:
            raise IllegalSubscriptionEvent(self.state, event) from None
