"""The objects that all connections of one server share."""

from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.sessions import Sessions
from headgate.runtime.http.heads import HeadBudget
from headgate.runtime.http.hosts import Hosts
from headgate.runtime.http.origins import Origins
from headgate.runtime.ports import Rng


class ServerShared:
    """A uvicorn server's own three objects, and what the gateway adds to them. Made once, read by every connect.

    `hosts` and `origins` decide which requests and pages may call. `budget` bounds the bytes of all incomplete heads.
    `high_water` and `low_water` are those of a stream's socket, in bytes.
    """

    __slots__ = (
        "app_state", "budget", "config", "connections", "high_water", "hosts", "limits", "low_water", "origins", "rng",
        "server_state", "sessions",
    )  # fmt: skip

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        sessions: Sessions,
        hosts: Hosts,
        origins: Origins,
        rng: Rng,
        budget: HeadBudget,
    ) -> None:
        self.config = config
        self.server_state = server_state
        self.app_state = app_state
        self.sessions = sessions
        self.hosts = hosts
        self.origins = origins
        self.rng = rng
        self.budget = budget
        # The open connections, whoever serves them: uvicorn ends them when it stops.
        self.connections: set[Any] = server_state.connections
        self.limits = sessions.limits
        self.high_water = self.limits.high_water
        self.low_water = self.limits.low_water
