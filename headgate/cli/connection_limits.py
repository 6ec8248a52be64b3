"""How many connections a role may hold, and the bounds of each of them, from the settings and the machine."""

import resource
from typing import Final

from headgate.core.client.limits import Limits
from headgate.runtime.settings import Settings
from headgate.runtime.sockets import SPARE_DESCRIPTORS

MAX_CONNECTIONS: Final = 100_000
MIN_CONNECTIONS: Final = 64


def connections_of(settings: Settings) -> int:
    """Returns how many connections the port of a role may hold."""
    given = settings.limits.connections
    return descriptors_allow() if given is None else given


def gateway_limits(settings: Settings) -> Limits:
    """Returns the gateway's bounds as the settings have them."""
    limits, heartbeat = settings.limits, settings.heartbeat
    return Limits(
        connections=connections_of(settings),
        topics=limits.topics_per_connection,
        frame_bytes=limits.inbound_frame_bytes,
        control_per_s=limits.control_per_s,
        control_burst=limits.control_burst,
        control_patience_s=limits.control_abuse_s,
        frames_per_s=limits.frames_per_s,
        frames_burst=limits.frames_burst,
        queue_bytes=limits.outbound_bytes,
        queue_frames=limits.outbound_frames,
        connections_per_user=limits.connections_per_user,
        reads_per_user_per_min=limits.reads_per_user_per_min,
        slow_messages=limits.slow_messages,
        ack_window=limits.ack_window,
        ack_breaker_failures=limits.ack_breaker_failures,
        ack_breaker_s=limits.ack_breaker_s,
        slow_bytes=limits.slow_bytes,
        auth_s=limits.auth_deadline_s,
        head_s=limits.request_deadline_s,
        heartbeat_s=heartbeat.interval,
        heartbeat_missed=heartbeat.missed_limit,
    )


def descriptors_allow() -> int:
    """Returns how many connections the hard limit on file descriptors allows; `run` raises the soft limit to it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(MIN_CONNECTIONS, hard - SPARE_DESCRIPTORS))
