"""What the overload counts: results by topic, refusals with and without Retry-After, what is lost, when it is over."""

import json
from typing import Any

from bench.overload import Answers, lost, made_up, recovered
from bench.small import BATCH, EACH, LIMIT_MS, Batch, Follower

OK = b"http/1.1 200 ok\r\n\r\n"
BATCH_OF_ANY = Batch(950, 0.0, b"")


def answered(*other: dict[str, Any]) -> bytes:
    results = [*other, *({"status": 200} for _ in range(BATCH - len(other)))]
    return json.dumps({"results": results}).encode()


def test_results_count_for_their_topics_and_the_topics_go_round() -> None:
    answers = Answers()
    full, unknown = {"status": 503, "code": "queue_full"}, {"status": 504, "code": "outcome_unknown"}
    answers.take(BATCH_OF_ANY, OK, answered(full, unknown))
    assert answers.refused == {"queue_full": 1}
    assert answers.unknown == {951: 1}
    assert answers.acked.total() == BATCH - 2
    assert answers.acked[999] == answers.acked[0] == answers.acked[49] == 1
    assert not answers.acked[50] and not answers.acked[950] and not answers.acked[951]


def test_a_refused_request_refuses_all_its_messages_and_must_say_when_to_come_again() -> None:
    answers = Answers()
    problem = json.dumps({"status": 503, "code": "overloaded"}).encode()
    answers.take(BATCH_OF_ANY, b"http/1.1 503 service unavailable\r\nretry-after: 1\r\n\r\n", problem)
    assert (answers.refused["overloaded"], answers.bare) == (BATCH, 0)
    answers.take(BATCH_OF_ANY, b"http/1.1 503 service unavailable\r\ncontent-length: 2\r\n\r\n", problem)
    assert (answers.refused["overloaded"], answers.bare) == (2 * BATCH, 1)
    answers.give_up(BATCH_OF_ANY)
    assert answers.given_up == BATCH


def test_lost_is_what_was_acknowledged_and_never_came() -> None:
    answers, follower = Answers(), Follower(0, 0)
    for topic in range(EACH):
        answers.acked[topic] = follower.seqs[topic] = 3
    assert (lost([follower], answers), made_up([follower], answers)) == (0, 0)
    follower.seqs[0] = 1
    assert lost([follower], answers) == 2
    follower.seqs[1] = 5
    assert made_up([follower], answers) == 2
    answers.unknown[1] = 1
    assert made_up([follower], answers) == 1


def test_it_has_recovered_once_no_later_second_is_above_the_limit() -> None:
    fast, slow = LIMIT_MS, LIMIT_MS + 1
    assert recovered([fast, fast]) == 0
    assert recovered([slow, fast, slow, fast]) == 3
    assert recovered([fast, slow]) is None
    assert recovered([fast, float("inf"), fast]) == 2
