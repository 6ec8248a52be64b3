"""Link messages of the beginning of a link: versions, the cluster, and who owns which shard."""

from headgate.core.wire.link_struct import LinkStruct


class Owner(LinkStruct):
    """The owner of a shard. With `served` it is the sender: it owns it under its claim's `epoch`, or no longer (0).

    Otherwise a hint: the newest claim the sender has read, and the `address` where that node accepts links.
    """

    shard: int
    epoch: int
    address: str
    served: bool = False


class Hello(LinkStruct, tag=1):
    """First message of the client: the versions it speaks, and the cluster it knows ("" and 0 at its first link)."""

    low: int
    high: int
    role: str
    node: str
    cluster_id: str
    generation: int


class Welcome(LinkStruct, tag=2):
    """First message of the dispatcher: the version both will speak, and what it knows of the owners."""

    version: int
    node: str
    cluster_id: str
    generation: int
    shards: int
    owners: list[Owner]


class Owners(LinkStruct, tag=3):
    """The dispatcher's knowledge of owners changed; only the changed shards are listed."""

    owners: list[Owner]


class Refuse(LinkStruct, tag=4):
    """The client knows a higher epoch for this shard: the receiver has lost it."""

    shard: int
    epoch: int


Greeting = Hello | Welcome | Owners | Refuse
