"""Level-triggered reconciliation, case by case."""

from headgate.core.sequencer.claims import Claim, NewestClaim, Plan, agreed_logic, decode_claim, encode_claim, reconcile

ME = Claim("n1", "run-1", "a:1")
OTHER = Claim("n2", "run-9", "b:1")


def test_claims_what_is_assigned_and_not_its_own() -> None:
    newest = {1: NewestClaim(10, OTHER), 2: NewestClaim(11, ME)}
    assert reconcile({0, 1, 2}, newest, ME, {2: 11}) == Plan([0, 1], [], [])


def test_an_older_run_of_the_same_node_is_somebody_else() -> None:
    newest = {0: NewestClaim(10, Claim("n1", "run-0", "a:1"))}
    assert reconcile({0}, newest, ME, {}).claim == [0]


def test_starts_what_it_has_claimed_under_its_newest_epoch() -> None:
    assert reconcile({0}, {0: NewestClaim(12, ME)}, ME, {0: 10}).start == [0]


def test_drops_only_what_somebody_else_has_claimed() -> None:
    """Kafka's silence is no evidence: a shard is served on until another node claims it."""
    assert reconcile(set(), {0: NewestClaim(10, ME)}, ME, {0: 10}) == Plan([], [], [])
    assert reconcile(None, {0: NewestClaim(10, ME)}, ME, {0: 10}) == Plan([], [], [])
    assert reconcile(set(), {0: NewestClaim(11, OTHER)}, ME, {0: 10}) == Plan([], [], [0])
    for epoch in (9, 10):
        assert reconcile(set(), {0: NewestClaim(epoch, OTHER)}, ME, {0: 10}) == Plan([], [], [])
    assert reconcile(set(), {}, ME, {0: 10}) == Plan([], [], [])


def test_is_quiet_when_all_is_as_it_should_be() -> None:
    assert reconcile({0}, {0: NewestClaim(10, ME)}, ME, {0: 10}) == Plan([], [], [])


def test_claims_survive_the_log() -> None:
    assert decode_claim(encode_claim(ME)) == ME
    assert decode_claim(None) is None
    assert decode_claim(b"{") is None
    assert decode_claim(b'{"node":"\xff","incarnation":"1","address":"a:1"}') is None


def test_the_owner_that_knows_least_decides_which_logic_all_know() -> None:
    new, old = (NewestClaim(1, Claim("n", "r", "a", logic)) for logic in (2, 1))
    assert agreed_logic({0: new, 1: new}, 2) == 2
    assert agreed_logic({0: new, 1: old}, 2) == 1
    assert agreed_logic({0: new}, 2) == 1, "nobody has claimed shard 1"
    found = decode_claim(b'{"node":"old","incarnation":"run","address":"old:1"}')
    assert found is not None
    assert found.logic == 1
