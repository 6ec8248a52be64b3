"""The states of a client's connection, as a table. Pure."""

from enum import StrEnum
from typing import Final

from headgate_client.errors import ClientError


class State(StrEnum):
    """Where a connection is."""

    IDLE = "idle"  # nothing is followed yet
    FETCHING = "fetching"  # asks the application for a token or ticket
    OPENING = "opening"  # TCP, TLS, the handshake
    OPEN = "open"  # frames flow
    WAITING = "waiting"  # the pause before the next attempt
    STOPPED = "stopped"  # for good, with an error
    CLOSED = "closed"  # by the application


class Step(StrEnum):
    """What happens to a connection."""

    START = "start"
    FETCHED = "fetched"
    OPENED = "opened"
    FAILED = "failed"  # may succeed later
    MOVED = "moved"  # the server wants a new connection at once
    WAITED = "waited"
    REFUSED = "refused"  # would fail again
    CLOSE = "close"


TRANSITIONS: Final[dict[tuple[State, Step], State]] = {
    (State.IDLE, Step.START): State.FETCHING,
    (State.FETCHING, Step.FETCHED): State.OPENING,
    (State.FETCHING, Step.FAILED): State.WAITING,
    (State.FETCHING, Step.REFUSED): State.STOPPED,
    (State.OPENING, Step.OPENED): State.OPEN,
    (State.OPENING, Step.FAILED): State.WAITING,
    (State.OPENING, Step.REFUSED): State.STOPPED,
    (State.OPEN, Step.FAILED): State.WAITING,
    (State.OPEN, Step.MOVED): State.FETCHING,
    (State.OPEN, Step.REFUSED): State.STOPPED,
    (State.WAITING, Step.WAITED): State.FETCHING,
    **{(state, Step.CLOSE): State.CLOSED for state in State},
}


class IllegalStep(ClientError):
    """A defect of this package: a step that the table does not have."""


def after(state: State, step: Step) -> State:
    """Returns the next state. Raises IllegalStep."""
    try:
        return TRANSITIONS[state, step]
    except KeyError:
        raise IllegalStep(f"{step} while {state}") from None
