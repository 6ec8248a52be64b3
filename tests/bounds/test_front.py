"""Each bounded memory of ingest and gateway, filled past its bound by half: it holds its number, the newest stay."""

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.session import TopicFeed
from headgate.core.publish.recent_publishes import LogPlace, RecentPublishes
from headgate.core.wire.errors import Refusal
from headgate.core.wire.member_roles import Role
from headgate.core.wire.token_buckets import Rate, TokenBuckets
from headgate.runtime.system import SystemClock
from ingest import keyed_operations, known_roles
from ingest.keyed_operations import KeyedOperations
from ingest.known_roles import KnownRoles
from tests.ingest.parts import call

MANY = 1_500
BOUND = 1_000


def test_known_answers_are_bounded_and_the_newest_stay() -> None:
    answers = RecentPublishes(max_known=BOUND)
    for n in range(MANY):
        key = (1, n.to_bytes(16))
        answers.acknowledged(key, answers.attempt(key, b"f", None, 0.0), LogPlace(0, n, 0), 0.0)
    assert len(answers) <= BOUND
    assert answers.find((1, (MANY - 1).to_bytes(16)), b"f", 0.0) is not None
    assert answers.find((1, (0).to_bytes(16)), b"f", 0.0) is None


def test_unresolved_answers_are_bounded_apart_from_the_known() -> None:
    answers = RecentPublishes(max_known=BOUND, max_unresolved=BOUND)
    for n in range(MANY):
        key = (1, n.to_bytes(16))
        answers.unknown(key, answers.attempt(key, b"f", None, 0.0), 0.0)
    assert len(answers) <= BOUND


def test_cached_roles_and_keyed_operations_are_bounded_and_the_newest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_roles, "MAX_ROLES", BOUND)
    monkeypatch.setattr(keyed_operations, "MAX_KEYS", BOUND)
    roles, keyed = KnownRoles(), KeyedOperations(SystemClock())
    for n in range(MANY):
        roles.put("t", f"u{n}", Role.MEMBER, 0.0, 1)
        keyed.add(keyed.read(call(key=str(n)), "create", {"n": n}))
        keyed.add(keyed.read(call(), "create", {"n": n}))
    assert len(roles) == BOUND
    assert roles.get("t", f"u{MANY - 1}", 1) is not None and roles.get("t", "u0", 1) is None
    kept = [n for n in range(MANY) if keyed.is_known(call(key=str(n)), "create")]
    assert kept == list(range(MANY - BOUND, MANY))
    assert keyed.read(call(key="0"), "create", {"n": 1}), "the oldest is forgotten"
    with pytest.raises(Refusal, match="idempotency_conflict"):
        keyed.read(call(key=str(MANY - BOUND)), "create", {"n": 0})


def test_rate_buckets_are_bounded_and_a_user_who_publishes_keeps_his() -> None:
    buckets, rate = TokenBuckets(max_buckets=BOUND), Rate(0.001, 5.0)
    for n in range(MANY):
        for user in (f"u{n}", "busy"):
            if buckets.wait(user, rate, 0.0) == 0:
                buckets.take(user, rate, 0.0)
    assert len(buckets) <= BOUND
    assert buckets.wait("busy", rate, 0.0) > 0


@pytest.mark.parametrize(("frame", "most"), [(b"x" * 100, 1_250), (b"x" * 100_000, 13)])
def test_a_ring_is_bounded_in_frames_and_in_bytes_with_the_largest_bundles(frame: bytes, most: int) -> None:
    limits = Limits()
    feed: TopicFeed = Feed("t", 0, 1, 0, {})
    for bundle in range(4):
        feed.append(bundle * 1_000 + 1, [0] * 1_000, [frame] * 1_000)
        while feed.pending:
            feed.take(limits)
            assert len(feed.ring.frames) <= most and feed.ring.size <= limits.ring_bytes * 1.25
