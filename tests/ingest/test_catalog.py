"""ingest.catalog: an entry is used for a minute, refreshed after two seconds, and never outlives a missed change."""

import asyncio

import pytest

from headgate.core.wire import rights
from headgate.core.wire.control import CreateTopic, DeleteTopic, RemoveMember, SetMember
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import AskTopic, Refused, Request, TopicInfo
from headgate.core.wire.member_roles import Role
from headgate.core.wire.rights import Caller, actor_of
from headgate.runtime.links.port import OnAnswer
from ingest import catalog as module
from ingest import known_roles
from ingest.catalog import FRESH_S, STALE_S, Known
from ingest.known_roles import KnownRoles
from tests.ingest.parts import ANA, SERVICE, Parts, play

BO = Caller("bo")


def test_a_fresh_entry_costs_no_question_and_an_older_one_is_refreshed_behind_its_use() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        asked = len(parts.asked(AskTopic))
        parts.clock.virtual.now += FRESH_S
        assert parts.peek("t") is not None
        assert len(parts.asked(AskTopic)) == asked
        parts.clock.virtual.now += 0.1
        for _ in range(3):
            assert parts.peek("t") is not None
        assert len(parts.asked(AskTopic)) == asked + 1
        await asyncio.sleep(0.1)
        assert parts.peek("t") is not None
        assert len(parts.asked(AskTopic)) == asked + 1

    play(scene)


def test_an_entry_is_used_for_a_minute_without_its_owner() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        parts.directory.up = False
        parts.clock.virtual.now += STALE_S
        assert parts.peek("t") is not None
        parts.clock.virtual.now += 0.1
        assert parts.peek("t") is None
        (found,) = (await parts.catalog.get_many(["t"], SERVICE, rights.may_see)).values()
        assert isinstance(found, Refusal) and found.code == "not_ready"

    play(scene)


def test_an_entry_from_before_the_present_link_is_not_used_unasked() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        shard = parts.owners.shard_of("t")
        parts.clock.virtual.now += 0.1
        parts.catalog.on_owner(shard, False)
        assert parts.peek("t") is not None
        parts.catalog.on_owner(shard, True)
        assert parts.peek("t") is None
        parts.directory.mute = True
        started = parts.clock.now()
        found = (await parts.catalog.get_many(["t"], SERVICE, rights.may_see))["t"]
        assert not isinstance(found, Refusal), "the owner is slow: the entry will do"
        assert parts.clock.now() - started == pytest.approx(0.02)

    play(scene)


def test_an_entry_that_does_not_suffice_is_never_returned() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        parts.directory.mute = True
        started = parts.clock.now()
        found = (await parts.catalog.get_many(["t"], BO, rights.may_administer))["t"]
        assert isinstance(found, Refusal) and found.code == "not_ready"
        assert parts.clock.now() - started == pytest.approx(3)

    play(scene)


@pytest.mark.parametrize("code", ["internal", "overloaded", "not_ready"])
def test_an_owner_that_cannot_answer_says_nothing_about_the_topic(code: str) -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        parts.clock.virtual.now += FRESH_S + 1
        refused: list[Request] = []

        def refuse(request: Request, on_answer: OnAnswer) -> None:
            refused.append(request)
            on_answer(Refused(request.req, code, "planted"))

        parts.directory._ask = refuse  # type: ignore[method-assign]
        for caller in (SERVICE, BO):
            with pytest.raises(Refusal, match=code):
                await parts.catalog.fetch("t", caller)
        assert parts.peek("t") is not None, "what is remembered stays"
        found = await parts.catalog.get_many(["t", "u"], SERVICE, rights.may_administer)
        assert [one.code for one in found.values() if isinstance(one, Refusal)] == [code]
        with pytest.raises(Refusal, match=code):
            await parts.access.to_publish("u", BO)  # nothing is made in its place
        assert refused and parts.metrics.records == 1

    play(scene)


def test_missing_topics_are_not_remembered() -> None:
    async def scene(parts: Parts) -> None:
        found = await parts.catalog.get_many(["a", "b"], SERVICE, rights.may_see)
        assert [one.code for one in found.values() if isinstance(one, Refusal)] == ["topic_not_found"] * 2
        await parts.topic("a")
        parts.catalog.drop("a")
        found = await parts.catalog.get_many(["a", "b"], SERVICE, rights.may_see)
        assert [isinstance(one, Refusal) for one in found.values()] == [False, True]

    play(scene)


def test_a_dropped_entry_is_asked_for_and_a_deleted_topic_ends_its_entry() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        parts.catalog.drop("t")
        assert parts.peek("t") is None
        await parts.catalog.fetch("t")
        parts.owner.rows[parts.owners.shard_of("t")].clear()
        with pytest.raises(Refusal, match="topic_not_found"):
            await parts.catalog.fetch("t")
        assert parts.peek("t") is None

    play(scene)


def test_questions_about_one_topic_are_one() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        asked = len(parts.asked(AskTopic))
        infos = await asyncio.gather(*(parts.catalog.fetch("t") for _ in range(10)))
        assert {known.info.topic_id for known in infos} == {"t"}
        assert len(parts.asked(AskTopic)) == asked + 1

    play(scene)


def test_the_cache_is_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOPICS", 3)

    async def scene(parts: Parts) -> None:
        for at in range(4):
            await parts.topic(f"t{at}")
        assert [parts.peek(f"t{at}") is not None for at in range(4)] == [False, True, True, True]
        await parts.catalog.fetch("t1")
        await parts.topic("t5")
        assert [parts.peek(f"t{at}") is not None for at in (1, 2, 5)] == [True, False, True]

    play(scene)


def test_topics_with_the_default_settings_share_them() -> None:
    async def scene(parts: Parts) -> None:
        one, two = await parts.topic("a"), await parts.topic("b")
        other = await parts.topic("c", rate_limit={"per_s": 1, "burst": 1})
        assert one.settings is two.settings
        assert other.settings["rate_limit"] == {"per_s": 1, "burst": 1}

    play(scene)


# -- roles


async def private(parts: Parts, **roles: str) -> TopicInfo:
    """A PRIVATE topic `t` of ana, with members."""
    record_id = parts.controls.id_of("create", "t", ANA, None)
    await parts.controls.change("t", CreateTopic("t", "t", "PRIVATE", "ana"), 0, record_id)
    info = (await parts.catalog.fetch("t")).info
    for user_id, role in roles.items():
        await join(parts, info, user_id, role)
    return info


async def join(parts: Parts, info: TopicInfo, user_id: str, role: str) -> None:
    record = SetMember("t", user_id, role, actor_of(SERVICE, "t"))
    await parts.controls.change("t", record, info.epoch, parts.controls.id_of("member", "t", SERVICE, None))


def test_a_role_is_asked_for_once_and_refreshed_behind_its_use() -> None:
    async def scene(parts: Parts) -> None:
        await private(parts, bo="member")
        asked = len(parts.asked(AskTopic))
        for _ in range(3):
            found = (await parts.catalog.get_many(["t"], BO, rights.may_publish))["t"]
            assert isinstance(found, Known) and found.role is Role.MEMBER
        assert len(parts.asked(AskTopic)) == asked + 1
        parts.clock.virtual.now += FRESH_S + 0.1
        for _ in range(3):
            assert parts.catalog.lookup("t", BO, rights.may_publish) is not None
        assert len(parts.asked(AskTopic)) == asked + 2, "one question refreshes the role and the topic"
        await asyncio.sleep(0.1)
        assert parts.catalog.lookup("t", BO, rights.may_publish) is not None
        assert len(parts.asked(AskTopic)) == asked + 2

    play(scene)


def test_a_topic_that_lets_anyone_asks_for_no_role() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        asked = len(parts.asked(AskTopic))
        for user_id in ("ana", "bo", "cy"):
            known = parts.catalog.lookup("t", Caller(user_id), rights.may_publish)
            assert known is not None and known.role is None
        assert len(parts.asked(AskTopic)) == asked

    play(scene)


def test_a_changed_membership_ends_one_role_and_a_changed_topic_all() -> None:
    async def scene(parts: Parts) -> None:
        await private(parts, bo="member", cy="member")
        both = (BO, Caller("cy"))
        await asyncio.gather(*(parts.catalog.get_many(["t"], caller, rights.may_publish) for caller in both))
        parts.catalog.drop_role("t", "bo")
        known = [parts.catalog.lookup("t", caller, rights.may_publish) for caller in both]
        assert [one is not None for one in known] == [False, True]
        parts.catalog.drop("t")
        await parts.catalog.fetch("t")  # another question brings the topic back, and no role
        assert parts.catalog.lookup("t", both[1], rights.may_publish) is None

    play(scene)


def test_a_role_of_a_topic_that_was_created_again_is_not_used() -> None:
    async def scene(parts: Parts) -> None:
        info = await private(parts, bo="member")
        await parts.catalog.get_many(["t"], BO, rights.may_publish)
        record_id = parts.controls.id_of("delete", "t", ANA, None)
        await parts.controls.change("t", DeleteTopic("t"), info.epoch, record_id)
        await private(parts)  # the push that tells of the end was lost: the new epoch ends the roles too
        assert parts.catalog.lookup("t", BO, rights.may_publish) is None
        found = (await parts.catalog.get_many(["t"], BO, rights.may_publish))["t"]
        assert isinstance(found, Refusal) and found.code == "topic_not_found"

    play(scene)


def test_a_role_is_used_for_a_minute_without_its_owner_and_not_longer() -> None:
    async def scene(parts: Parts) -> None:
        await private(parts, bo="member")
        await parts.catalog.get_many(["t"], BO, rights.may_publish)
        parts.directory.up = False
        parts.clock.virtual.now += STALE_S - 0.1
        assert parts.catalog.lookup("t", BO, rights.may_publish) is not None
        parts.clock.virtual.now += 0.2
        found = (await parts.catalog.get_many(["t"], BO, rights.may_publish))["t"]
        assert isinstance(found, Refusal) and found.code == "not_ready"

    play(scene)


def test_a_member_who_was_put_out_behind_our_back_is_refused_by_the_next_refresh() -> None:
    async def scene(parts: Parts) -> None:
        info = await private(parts, bo="member")
        await parts.catalog.get_many(["t"], BO, rights.may_publish)
        record = RemoveMember("t", "bo", actor_of(SERVICE, "t"))
        await parts.controls.change("t", record, info.epoch, parts.controls.id_of("unmember", "t", SERVICE, None))
        parts.clock.virtual.now += FRESH_S + 0.1
        assert parts.catalog.lookup("t", BO, rights.may_publish) is not None, "used while it is refreshed"
        await asyncio.sleep(0.1)
        assert parts.catalog.lookup("t", BO, rights.may_publish) is None
        assert parts.catalog.lookup("t", SERVICE, rights.may_publish) is not None, "the topic is still remembered"

    play(scene)


def test_tokens_of_one_user_are_asked_for_apart() -> None:
    async def scene(parts: Parts) -> None:
        await private(parts)
        parts.catalog.drop("t")
        wide, narrow = Caller("bo", publish=("t",)), Caller("bo", subscribe=("x",))
        found = await asyncio.gather(
            *(parts.catalog.get_many(["t"], caller, rights.may_publish) for caller in (wide, narrow))
        )
        assert [isinstance(each["t"], Known) for each in found] == [True, False]

    play(scene)


def test_a_role_from_before_the_present_link_is_used_only_while_its_owner_is_slow() -> None:
    async def scene(parts: Parts) -> None:
        await private(parts, bo="member")
        await parts.catalog.get_many(["t"], BO, rights.may_publish)
        parts.clock.virtual.now += 0.1
        parts.catalog.on_owner(parts.owners.shard_of("t"), True)
        assert parts.catalog.lookup("t", BO, rights.may_publish) is None
        parts.directory.mute = True
        started = parts.clock.now()
        assert isinstance((await parts.catalog.get_many(["t"], BO, rights.may_publish))["t"], Known)
        assert parts.clock.now() - started == pytest.approx(0.02)

    play(scene)


def test_roles_are_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_roles, "MAX_ROLES", 3)

    async def scene(parts: Parts) -> None:
        users = [f"u{at}" for at in range(5)]
        await private(parts, **dict.fromkeys(users, "member"))
        for user_id in users:
            await parts.catalog.get_many(["t"], Caller(user_id), rights.may_publish)
        known = [parts.catalog.lookup("t", Caller(user_id), rights.may_publish) for user_id in users]
        assert [one is not None for one in known] == [False, False, True, True, True]

    play(scene)


def test_a_role_is_known_for_the_mark_it_was_put_with_and_none_is_not_kept() -> None:
    roles = KnownRoles()
    roles.put("t", "bo", Role.MEMBER, 1.0, 7)
    assert roles.get("t", "bo", 8) is None
    known = roles.get("t", "bo", 7)
    assert known is not None and known.role is Role.MEMBER
    roles.put("t", "bo", None, 2.0, 7)
    assert roles.get("t", "bo", 7) is None and len(roles) == 0
