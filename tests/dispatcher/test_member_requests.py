"""Who may ask for members, and what the owner answers about live subscriptions."""

import pytest

from dispatcher import member_requests
from headgate.core.wire import link
from headgate.core.wire.link_members import AskMember, AskMembers, Authorize, Authorized, Member
from headgate.core.wire.rights import Caller
from tests.dispatcher.members_bed import ADMIN, MembersBed

ANN, BOB, EVE = Caller("ann"), Caller("bob"), Caller("eve")


def code(answer: object) -> str:
    assert isinstance(answer, link.Refused), answer
    return answer.code


async def test_a_subscription_learns_the_fence_and_whether_its_user_is_a_member() -> None:
    bed = MembersBed()
    bed.feed(bed.join("bob"), bed.join("eve"), bed.remove("eve"))
    granted = bed.ask(link.AskSubscribe(1, "t", BOB))
    assert (granted.fence, granted.member) == (1, True)
    granted = bed.ask(link.AskSubscribe(1, "t", ADMIN))
    assert (granted.fence, granted.member) == (1, False)
    assert bed.ask(Authorize(2, "t", bed.row.epoch, BOB, True)) == Authorized(2, 1, True)
    assert code(bed.ask(Authorize(3, "t", bed.row.epoch, EVE, True))) == "topic_not_found"
    assert code(bed.ask(Authorize(4, "t", bed.row.epoch + 1, BOB, True))) == "topic_not_found"


async def test_a_member_who_was_removed_loses_his_subscription_in_a_public_topic_too() -> None:
    bed = MembersBed("PUBLIC")
    bed.feed(bed.join("bob"), bed.remove("bob"))
    assert code(bed.ask(Authorize(1, "t", bed.row.epoch, BOB, True))) == "forbidden"
    assert bed.ask(Authorize(2, "t", bed.row.epoch, BOB, False)) == Authorized(2, 1, False)


async def test_the_creator_of_a_topic_without_other_members_is_its_one_member() -> None:
    bed = MembersBed()
    assert bed.ask(AskMember(1, "t", ANN, "ann")).member == Member("ann", "owner", 0, bed.row.created_at)
    answer = bed.ask(AskMembers(1, "t", ANN, "", 10))
    assert (answer.count, [m.user_id for m in answer.members]) == (1, ["ann"])
    assert bed.ask(AskMembers(1, "t", ANN, "ann", 10)).members == []
    assert bed.ask(AskMembers(1, "t", ANN, "", 0)).members == []


async def test_only_admins_see_others_and_everybody_who_sees_the_topic_sees_himself() -> None:
    bed = MembersBed()
    bed.feed(bed.message(), bed.join("bob"), bed.join("zoe", "admin"))
    joined = bed.ask(AskMember(1, "t", BOB, "bob")).member
    assert (joined.role, joined.joined_seq) == ("member", 1)
    for ask in (AskMember(1, "t", BOB, "ann"), AskMembers(1, "t", BOB, "", 10)):
        assert code(bed.ask(ask)) == "forbidden"
    for ask in (AskMember(1, "t", EVE, "eve"), AskMember(1, "t", EVE, "bob"), AskMembers(1, "t", EVE, "", 10)):
        assert code(bed.ask(ask)) == "topic_not_found"
    zoe = Caller("zoe")
    assert bed.ask(AskMember(1, "t", zoe, "nobody")).member is None
    assert bed.ask(AskMembers(1, "t", zoe, "", 10)).count == 3
    assert code(bed.ask(AskMember(1, "t", Caller("zoe", only=True), "zoe"))) == "topic_not_found"
    public = MembersBed("PUBLIC")
    assert public.ask(AskMember(1, "t", EVE, "eve")).member is None
    assert code(public.ask(AskMember(1, "t", Caller("ann", only=True), "ann"))) == "forbidden"


async def test_pages_go_by_user_id_whatever_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_requests, "PAGE_MEMBERS", 7)
    bed = MembersBed()
    names = [f"u{n:03}" for n in range(30)]
    bed.feed(*(bed.join(name) for name in reversed(names)))
    found: list[str] = []
    while page := bed.ask(AskMembers(1, "t", ADMIN, found[-1] if found else "", 1_000)).members:
        assert len(page) <= 7
        found += [member.user_id for member in page]
    assert found == ["ann", *names]
