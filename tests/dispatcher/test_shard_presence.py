"""The owner of a topic knows its users on all gateways, tells who watches, and waits for a gateway that blinks."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from dispatcher.shard_presence import GRACE_S, TELL_S
from headgate.core.wire import link
from headgate.core.wire.control import UpdateTopic
from headgate.core.wire.link_presence import (
    AskPresence,
    AttachPresence,
    PresenceAnswer,
    PresenceChanged,
    PresenceMoved,
    PresenceState,
    TopicUsers,
    Typed,
    Typing,
    TypingTaken,
    UserPresence,
)
from headgate.core.wire.rights import Caller
from tests.contract import virtual
from tests.contract.virtual import VirtualLoop
from tests.dispatcher.members_bed import ADMIN, ROOT, Far, MembersBed

ROOT_CALLER = Caller("root", admin=True)


def here(user: str, connections: int = 1, since: int = 5, *, away: bool = False) -> UserPresence:
    return UserPresence(user, connections, since, away)


class Bed(MembersBed):
    """One topic in mode `list`, two gateways that host it."""

    def __init__(self, mode: str = "list", permissions: str = "PUBLIC") -> None:
        super().__init__(permissions)
        self.mode(mode)
        self.g1, self.g2 = Far(), Far()
        self.g1.name, self.g2.name = "g1", "g2"

    def mode(self, mode: str) -> None:
        self.feed(self.control(UpdateTopic("t", self.row.version, ROOT, settings={"presence": mode})))

    def users(self, *users: UserPresence, watch: bool = False, whole: bool = False) -> TopicUsers:
        return TopicUsers("t", self.row.epoch, list(users), watch, whole)

    def attach(self, gateway: Far, *users: UserPresence, watch: bool = False) -> None:
        self.api.handle(gateway, AttachPresence(0, True, True, [self.users(*users, watch=watch)]))

    def change(self, gateway: Far, *users: UserPresence, watch: bool = False, whole: bool = False) -> None:
        self.api.handle(gateway, PresenceChanged(0, [self.users(*users, watch=watch, whole=whole)]))

    def subscribe(self, gateway: Far, user: str, presence: int = 1) -> link.Subscribed:
        answer = self.ask(link.AskSubscribe(1, "t", Caller(user), presence=presence), gateway)
        assert isinstance(answer, link.Subscribed)
        return answer

    def listed(self, caller: Caller = ROOT_CALLER, after: str = "", limit: int = 100) -> PresenceAnswer:
        answer = self.ask(AskPresence(9, "t", caller, after, limit))
        assert isinstance(answer, PresenceAnswer), answer
        return answer

    def names(self) -> list[str]:
        return [user.user_id for user in self.listed().users]


async def turn(seconds: float = 0.0) -> None:
    await asyncio.sleep(seconds)
    for _ in range(3):
        await asyncio.sleep(0)


def run(main: Coroutine[Any, Any, None]) -> None:
    virtual.run(VirtualLoop(), main)


def test_a_gateway_that_watches_gets_the_state_before_the_grant_and_then_what_changes() -> None:
    async def main() -> None:
        bed = Bed()
        bed.attach(bed.g1)
        bed.attach(bed.g2, here("ann"))
        answer = bed.subscribe(bed.g1, "bob")
        epoch = bed.row.epoch
        assert bed.g1.taken() == [PresenceState("t", epoch, "list", 1, [here("ann")]), answer]
        assert answer.users == 2
        await turn(TELL_S)
        bed.change(bed.g1, here("bob"))
        bed.change(bed.g2, here("ann", 2), here("eve", away=True))
        await turn(TELL_S)
        assert bed.g1.taken() == [
            PresenceMoved("t", epoch, 3, [here("bob"), here("ann", 2), here("eve", away=True)], [])
        ]
        assert bed.g2.taken() == [], "it does not watch"
        bed.change(bed.g2, here("ann", 0), here("new"))
        bed.change(bed.g2, here("new", 0))
        await turn(TELL_S)
        assert bed.g1.taken() == [PresenceMoved("t", epoch, 2, [], ["ann"])]
        assert bed.subscribe(bed.g2, "bob", 0).users == 2 and len(bed.g2.taken()) == 1

    run(main())


def test_in_mode_count_only_those_who_want_changes_are_told_and_in_mode_none_nobody_is_counted() -> None:
    async def main() -> None:
        bed = Bed("count")
        bed.attach(bed.g1)
        assert bed.subscribe(bed.g1, "bob").users == 1 and len(bed.g1.taken()) == 1
        assert bed.subscribe(bed.g1, "ann", 2).users == 1
        assert bed.g1.taken()[0] == PresenceState("t", bed.row.epoch, "count", 0, [])
        bed.change(bed.g1, here("bob"), here("ann"))
        await turn(TELL_S)
        assert bed.g1.taken() == [PresenceMoved("t", bed.row.epoch, 2, [], [])]
        assert bed.listed() == PresenceAnswer(9, 2, [])
        bed.mode("none")
        assert bed.listed() == PresenceAnswer(9, 0, []) and bed.subscribe(bed.g1, "eve", 2).users == -1
        bed.change(bed.g1, whole=True)
        bed.change(bed.g1, here("late"))
        bed.mode("count")
        assert bed.listed() == PresenceAnswer(9, 0, [])

    run(main())


def test_a_change_of_the_mode_is_told_whole() -> None:
    async def main() -> None:
        bed = Bed("count")
        bed.attach(bed.g1, here("ann"), watch=True)
        await turn(TELL_S)
        assert bed.g1.taken() == [PresenceState("t", bed.row.epoch, "count", 1, [])]
        bed.mode("list")
        bed.subscribe(bed.g1, "bob", 0)
        bed.change(bed.g1, watch=True)
        await turn(TELL_S)
        assert bed.g1.taken()[-1] == PresenceState("t", bed.row.epoch, "list", 1, [here("ann")])

    run(main())


def test_a_link_that_blinks_is_no_news_and_a_gateway_that_stays_away_has_left() -> None:
    async def main() -> None:
        bed = Bed()
        bed.attach(bed.g2)
        bed.attach(bed.g1, here("ann"), here("bob"))
        bed.subscribe(bed.g2, "eve")
        bed.change(bed.g2, here("eve"))
        await turn(TELL_S)
        bed.g2.taken()
        bed.g1.open = False
        bed.api.presence.left(bed.g1)
        await turn(GRACE_S / 2)
        again = Far()
        again.name = "g1"
        bed.attach(again, here("ann"), here("dan"))
        await turn(GRACE_S)
        assert bed.g2.taken() == [PresenceMoved("t", bed.row.epoch, 3, [here("dan")], ["bob"])]
        bed.api.presence.left(again)
        await turn(GRACE_S - 0.5)
        assert bed.g2.taken() == [] and bed.names() == ["ann", "dan", "eve"]
        await turn(1)
        moved = bed.g2.taken()
        assert moved == [PresenceMoved("t", bed.row.epoch, 1, [], ["ann", "dan"])] and bed.names() == ["eve"]
        bed.api.close()

    run(main())


def test_a_new_owner_tells_nothing_and_answers_nothing_before_all_have_announced() -> None:
    async def main() -> None:
        bed = Bed()
        bed.api.presence.announcements.expect(bed.g1)
        bed.api.presence.announcements.expect(bed.g2)
        bed.attach(bed.g1, here("ann", since=9), watch=True)
        asker = Far()
        bed.api.handle(asker, AskPresence(9, "t", ADMIN, "", 10))
        await turn(1)
        assert bed.g1.taken() == asker.taken() == []
        bed.attach(bed.g2, here("bob", since=4))
        await turn(TELL_S)
        assert bed.g1.taken() == [
            PresenceState("t", bed.row.epoch, "list", 2, [here("ann", since=9), here("bob", since=4)])
        ]
        assert asker.taken() == [PresenceAnswer(9, 2, [here("ann", since=9), here("bob", since=4)])]

    run(main())


def test_a_congested_link_gets_the_whole_state_later() -> None:
    async def main() -> None:
        bed = Bed()
        bed.attach(bed.g1)
        bed.subscribe(bed.g1, "bob")
        bed.change(bed.g1, here("bob"))
        await turn(TELL_S)
        bed.g1.taken()
        bed.g1.congested = True
        bed.change(bed.g1, here("eve"))
        await turn(TELL_S * 3)
        assert bed.g1.taken() == []
        bed.g1.congested = False
        await turn(TELL_S * 2)
        assert bed.g1.taken() == [PresenceState("t", bed.row.epoch, "list", 2, [here("bob"), here("eve")])]

    run(main())


def test_a_page_is_ascending_behind_its_place_and_bounded() -> None:
    async def main() -> None:
        bed = Bed()
        bed.attach(bed.g1, *(here(f"u{n}") for n in (3, 1, 2)))
        page = bed.listed(after="u1", limit=1)
        assert ([user.user_id for user in page.users], page.count) == (["u2"], 3)
        assert bed.listed(limit=0) == PresenceAnswer(9, 3, [])

    run(main())


@pytest.mark.parametrize(
    ("permissions", "user", "code"),
    [
        ("PUBLIC", "eve", None),
        ("SUBSCRIBE_ONLY", "bob", None),
        ("SUBSCRIBE_ONLY", "eve", "forbidden"),
        ("PUBLISH_ONLY", "eve", "forbidden"),
        ("PRIVATE", "bob", None),
        ("PRIVATE", "eve", "topic_not_found"),
    ],
)
def test_who_may_know_who_is_there(permissions: str, user: str, code: str | None) -> None:
    async def main() -> None:
        bed = Bed("list", permissions)
        bed.feed(bed.join("bob", "publisher"))
        bed.attach(bed.g1)
        answer = bed.ask(AskPresence(9, "t", Caller(user), "", 10))
        assert isinstance(answer, PresenceAnswer if code is None else link.Refused)
        assert getattr(answer, "code", None) == code
        if permissions in ("PUBLIC", "SUBSCRIBE_ONLY"):
            assert (bed.subscribe(bed.g1, user).users == -1) == (code is not None)

    run(main())


def test_typing_goes_to_every_gateway_of_the_topic_at_most_once_a_second_a_user() -> None:
    async def main() -> None:
        bed = Bed()
        bed.subscribe(bed.g1, "ann", 0)
        bed.subscribe(bed.g2, "bob", 0)
        old = bed.hosting("root", 1)
        for far in (bed.g1, bed.g2):
            far.taken()
        epoch = bed.row.epoch
        for _ in range(2):
            assert bed.ask(Typing(3, "t", epoch, Caller("ann")), bed.g1) == TypingTaken(3)
        assert bed.g1.taken() == [Typed("t", epoch, "ann"), TypingTaken(3), TypingTaken(3)]
        assert bed.g2.taken() == [Typed("t", epoch, "ann")] and old.taken() == []
        for n in range(30):
            bed.ask(Typing(3, "t", epoch, Caller(f"u{n}")))
        assert len(bed.g2.taken()) == 19, "of one topic in a second"
        refused = bed.ask(Typing(3, "t", epoch + 1, Caller("ann")))
        assert isinstance(refused, link.Refused) and refused.code == "topic_not_found"

    run(main())
