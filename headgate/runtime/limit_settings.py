"""The settings that bound work, memory and time: limits, heartbeats, hot topics, drains. See `settings_model`."""

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from headgate.runtime.setting_types import Count, Seconds, SettingsGroup

MIB: Final = 1024 * 1024


class HotSettings(SettingsGroup):
    """When a topic is delivered by the inbox. Set them alike on ingests and dispatchers."""

    enter: Count = 10_000
    """`hot_enter` of topics that set none: from so many subscribers or members on a topic is delivered by the inbox."""
    exit: Annotated[int, Field(ge=0)] | None = None
    """`hot_exit` of topics that set none, below `hot.enter`. Unset: 8,000, or four fifths of `hot.enter` if lower."""
    dwell_s: Seconds = 10.0
    """Seconds for which a topic stays as it is delivered after a switch. A setting of dispatchers."""

    @model_validator(mode="after")
    def _exit_is_below(self) -> Self:
        if self.exit is not None and self.exit >= self.enter:
            raise ValueError(f"hot.exit is {self.exit} and must be below hot.enter, {self.enter}")
        return self


class HeartbeatSettings(SettingsGroup):
    """A connection is dead after `interval` x `missed_limit` seconds without a byte."""

    interval: Seconds = 30.0
    """Seconds between two pings to a client."""
    missed_limit: Count = 2
    """After this many intervals without a byte the connection is closed."""


class LimitsSettings(SettingsGroup):
    """The limits of docs/protocol.md, section 7, and the body sizes of section 0.

    Rates of users and topics count through all ingests together, all other limits are of one process.
    """

    payload_bytes: Count = 65_536
    """Largest payload of a message, in bytes of JSON text."""
    body_bytes: Count = 256 * 1024
    """Largest body of a request, except batches."""
    batch_bytes: Count = 8 * MIB
    """Largest body of a batch request."""
    batch_items: Annotated[int, Field(ge=1, le=1_000)] = 1_000
    """Most messages in one batch request."""
    topics_per_connection: Annotated[int, Field(ge=1, le=1_000)] = 128
    """Most topics that one WebSocket follows."""
    connections: Count | None = None  # unset: what the file descriptor limit allows
    """Most client connections of one gateway. Unset: what the limit on open files allows."""
    connections_per_user: Count = 20
    """Most connections of one user to one gateway."""
    outbound_bytes: Count = MIB
    """Bytes that may wait for one client's socket. Above: the session is parked."""
    outbound_frames: Count = 1_000
    """Frames that may wait for one client's socket. Above: the session is parked."""
    slow_messages: Count = 10_000
    """Messages that a client may be behind before the topic's `on_slow` applies."""
    slow_bytes: Count = 64 * MIB
    """Bytes that a client may be behind before the topic's `on_slow` applies."""
    ack_window: Annotated[int, Field(ge=1, le=256)] = 256
    """Messages of one acknowledged subscription that may be unacknowledged. Above: the subscription waits."""
    ack_breaker_failures: Count = 10
    """Failed deliveries in a row after which an acknowledged subscription gets nothing for `ack_breaker_s`."""
    ack_breaker_s: Seconds = 30.0
    """Seconds for which an acknowledged subscription that keeps failing gets nothing."""
    inbound_frame_bytes: Count = 65_536
    """Largest WebSocket frame from a client. Above: close code 1009."""
    control_per_s: Seconds = 10.0
    """Frames a second that one client may send, sustained."""
    control_burst: Count = 150
    """Frames that one client may send at once."""
    control_abuse_s: Seconds = 10.0  # above the rate for so long: 4503
    """Seconds above the rate after which the connection is closed with 4503."""
    frames_per_s: Seconds = 100.0
    """Frames of any kind (pings, pongs and fragments too) a second that one client may send. Above: 1008."""
    frames_burst: Count = 1_000
    """Frames of any kind that one client may send at once."""
    subscribers_listed: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Most users of a topic that its presence lists; all are counted. A setting of dispatchers."""
    auth_deadline_s: Seconds = 5.0
    """Seconds in which a WebSocket without credentials must send `auth`."""
    request_deadline_s: Seconds = 10.0
    """Seconds for the head of a request to arrive, and again for its body."""
    publish_per_user_per_min: Count = 100
    """Messages a minute that one user may publish, sustained, through all ingests together."""
    publish_per_topic_per_s: Count = 100
    """Messages a second that a topic without a `rate_limit` of its own takes, sustained. Dispatchers need it too."""
    creations_per_user_per_min: Count = 60
    """Topics a minute that one user may create, and members that it may change, sustained."""
    reads_per_user_per_min: Count = 600
    """Requests for history, info and lists a minute of one user, sustained."""
    held_bytes: Annotated[int, Field(ge=16 * MIB)] = 256 * MIB
    """Bytes of all requests that one ingest works on. Above: 503 `overloaded`. Keep it below the limit of its pod."""
    held_bytes_per_user: Annotated[int, Field(ge=16 * MIB)] = 128 * MIB  # three of the largest batches
    """Bytes of the requests of one user that an ingest works on; a batch counts five times. Above: 503 `overloaded`."""


class DrainSettings(SettingsGroup):
    """A SIGTERM ends the role within `deadline_s`; its sessions are told over the first `spread_s` of it."""

    deadline_s: Seconds = 20.0
    """Seconds from SIGTERM to the end of the process, at most."""
    spread_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    """Seconds over which a gateway spreads the `disconnect` frames, so that clients do not reconnect all at once.
    At most `deadline_s`, which bounds the default too."""

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        if self.spread_s > self.deadline_s and "spread_s" in self.model_fields_set:
            raise ValueError(
                f"spread_s {self.spread_s:g} is above deadline_s {self.deadline_s:g}: sessions whose turn has not come "
                "by then would be cut off; lower it, or raise deadline_s"
            )
        return self
