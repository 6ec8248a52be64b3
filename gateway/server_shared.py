"""The objects that all connections of one server share."""

from typing import Any, NamedTuple

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.sessions import Sessions
from headgate.core.client.limits import Limits
from headgate.runtime.http.heads import HeadBudget
from headgate.runtime.http.hosts import Hosts
from headgate.runtime.http.origins import Origins
from headgate.runtime.ports import Rng


class ServerShared(NamedTuple):
    """A uvicorn server's own three objects, and what the gateway adds to them.

    `hosts` and `origins` decide which requests and pages may call. `budget` bounds the bytes of all incomplete heads.
    """

    config: Config
    server_state: ServerState
    app_state: dict[str, Any]
    sessions: Sessions
    hosts: Hosts
    origins: Origins
    rng: Rng
    budget: HeadBudget

    @property
    def connections(self) -> set[Any]:
        """The open connections, whoever serves them: uvicorn ends them when it stops."""
        return self.server_state.connections

    @property
    def limits(self) -> Limits:
        """The gateway's bounds."""
        return self.sessions.limits
