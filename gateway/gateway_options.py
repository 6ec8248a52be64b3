"""The options of a gateway, made from the settings."""

import msgspec

from headgate.core.client.limits import Limits
from headgate.core.fanout.pace import DEFAULT_PACE, Pace


class GatewayOptions(msgspec.Struct, frozen=True):
    """The options of one gateway.

    `origins` are the pages that may call, None for the same origin only. With `auto_create` a subscribe creates a
    topic that is missing. With `query_token` a stream's token may come in its query string. `listening` is the host
    listened on; in open mode a request may name it in `Host`. `node` is the gateway's name in lists of connections.
    `pace` is how large topics are swept.
    """

    limits: Limits = Limits()
    origins: tuple[str, ...] | None = None
    auto_create: bool = False
    query_token: bool = True
    listening: str = ""
    node: str = "gateway"
    pace: Pace = DEFAULT_PACE
