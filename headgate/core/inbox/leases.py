"""Which subscription acknowledges a topic for a device of a user: one of each, the newest. This state is soft."""

from typing import Final, Generic, TypeVar

from headgate.core.wire.link_acks import CursorLease

G = TypeVar("G")

SEPARATOR: Final = "\0"  # no id has it


class Leases(Generic[G]):
    """The leases of one shard by gateway, so that a gateway that leaves costs one step; there are few gateways."""

    def __init__(self) -> None:
        self._gateways: dict[G, dict[str, tuple[int, str]]] = {}  # by user, device and topic: since when, and who

    def take(self, gateway: G, lease: CursorLease) -> tuple[G, CursorLease] | None:
        """Takes a lease; returns the one that lost: this one, or the one that held until now. None: there was no other.

        The lease that lost is not there any longer.
        """
        key = key_of(lease.user_id, lease.device_id, lease.topic_id)
        found = self._holder(key)
        if found is not None:
            holder, held = found
            if held > (lease.opened_ms, lease.connection_id):
                return gateway, lease
            del self._gateways[holder][key]
        self._gateways.setdefault(gateway, {})[key] = lease.opened_ms, lease.connection_id
        if found is None or found[1][1] == lease.connection_id:
            return None
        (holder, (opened_ms, connection_id)) = found
        return holder, CursorLease(lease.user_id, lease.device_id, lease.topic_id, connection_id, opened_ms)

    def has(self, gateway: G, lease: CursorLease) -> bool:
        """Returns whether a lease holds now."""
        held = self._gateways.get(gateway, {}).get(key_of(lease.user_id, lease.device_id, lease.topic_id))
        return held == (lease.opened_ms, lease.connection_id)

    def is_held(self, user_id: str, device_id: str, topic_id: str) -> bool:
        """Returns whether any subscription holds the lease."""
        return self._holder(key_of(user_id, device_id, topic_id)) is not None

    def release(self, gateway: G, key: str, connection_id: str) -> None:
        """The subscription ended; where another holds the lease by now, nothing changes."""
        held = self._gateways.get(gateway, {}).get(key)
        if held is not None and held[1] == connection_id:
            del self._gateways[gateway][key]

    def forget(self, gateway: G) -> None:
        """Forgets all leases of a gateway."""
        self._gateways.pop(gateway, None)

    def _holder(self, key: str) -> tuple[G, tuple[int, str]] | None:
        for gateway, leases in self._gateways.items():
            held = leases.get(key)
            if held is not None:
                return gateway, held
        return None


def key_of(user_id: str, device_id: str, topic_id: str) -> str:
    """Returns the key of a lease."""
    return SEPARATOR.join((user_id, device_id, topic_id))
