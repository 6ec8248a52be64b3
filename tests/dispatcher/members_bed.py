"""An owner with one PRIVATE topic `t` of ann, gateways, and records of members as they come from the log."""

from collections.abc import Callable
from typing import Any

from dispatcher.announcements import Announcements
from dispatcher.shard import Destination, ShardOwner
from dispatcher.shard_api import ShardApi
from dispatcher.shard_presence import ShardPresence
from dispatcher.topic_creations import TopicCreator
from headgate.core.sequencer.load import Load
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link
from headgate.core.wire.control import LOGIC, Actor, Control, CreateTopic, RemoveMember, SetMember, encode_body
from headgate.core.wire.envelope import Item, encode_control, encode_message
from headgate.core.wire.ids import random_id, topic_key
from headgate.core.wire.member_roles import Right
from headgate.core.wire.records import Record
from headgate.core.wire.rights import Caller
from headgate.runtime.system import SystemRng
from tests.dispatcher.bed import configured_shard, owner_of, shell_of

KEY = topic_key("t")
ROOT = Actor("root", given=Right.ALL)
ADMIN = Caller("root", admin=True)
RNG = SystemRng()


class Far:
    """The far end of a link; it keeps what it is sent."""

    def __init__(self, version: int = link.VERSION_HIGH) -> None:
        self.open = True
        self.version = version
        self.name = "g"
        self.congested = False
        self.backlog: dict[str, int] = {}
        self.sent: list[link.Message] = []
        self.behind: list[object] = []

    def send(self, message: link.Message) -> None:
        self.sent.append(message)

    def later(self, answer: Callable[[], None]) -> bool:
        answer()
        return True

    def fall_behind(self, owner: ShardOwner, route: object) -> None:
        self.behind.append(route)

    def taken(self) -> list[link.Message]:
        """What it was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent


class MembersBed:
    """The owner; `changes` are those that ingests were told."""

    def __init__(self, permissions: str = "PRIVATE", logic: int = LOGIC) -> None:
        found = configured_shard()
        found.shard.logic = logic
        self.changes: list[tuple[str, str]] = []
        self.owner = owner_of(found, changed=self._changed)
        self.load = Load()
        shell = shell_of()
        self.api = ShardApi(
            self.owner,
            shell,
            TopicCreator(None, shell.clock, RNG, 60),  # type: ignore[arg-type]  # no topic is created here
            Announcements[Destination](()),
            ShardPresence(self.owner, shell.clock, Announcements[Destination](())),
            self.load,
        )
        self.offset = 0
        self.feed(self.control(CreateTopic("t", "t", permissions, "ann")))
        self.changes.clear()

    def _changed(self, topic_id: str, user_id: str = "") -> None:
        self.changes.append((topic_id, user_id))

    @property
    def row(self) -> Row:
        return self.owner.rows[KEY]

    def control(self, control: Control, key: bytes = KEY) -> Record:
        row = self.owner.rows.get(key)
        epoch = 0 if row is None or isinstance(control, CreateTopic) else row.epoch
        return self.record(encode_control(encode_body(control), epoch, random_id(key, RNG.entropy(12))), key)

    def message(self) -> Record:
        return self.message_of(random_id(KEY, RNG.entropy(12)))

    def message_of(self, message_id: bytes) -> Record:
        return self.record(encode_message(Item(message_id, 0, b'"payload":1}'), self.row.epoch))

    def record(self, value: bytes, key: bytes = KEY) -> Record:
        self.offset += 1
        return Record(self.offset - 1, 1_000 + self.offset, key, value)

    def feed(self, *records: Record) -> None:
        """Applies records as one slice of the log."""
        self.owner.take(records)

    def join(self, user_id: str, role: str = "member") -> Record:
        return self.control(SetMember("t", user_id, role, ROOT))

    def remove(self, user_id: str) -> Record:
        return self.control(RemoveMember("t", user_id, ROOT))

    def ask(self, message: link.Message, peer: Far | None = None) -> Any:
        """Returns the last thing that the peer was sent in answer."""
        peer = peer or Far()
        self.api.handle(peer, message)
        return peer.sent[-1]

    def hosting(self, user: str = "root", version: int = link.VERSION_HIGH) -> Far:
        """A gateway with one subscription to the topic."""
        peer = Far(version)
        answer = self.ask(link.AskSubscribe(1, "t", Caller(user, admin=user == "root")), peer)
        assert isinstance(answer, link.Subscribed), answer
        peer.taken()
        return peer
