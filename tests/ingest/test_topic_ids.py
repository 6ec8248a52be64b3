"""ingest.topic_ids: a repeat names the same topic, on every ingest with the same key; nobody else can."""

from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.rights import Caller
from ingest.topic_ids import TopicIds
from tests.contract.virtual import SeededRng

ANA, BO = Caller("ana"), Caller("bo")


def test_a_repeat_names_the_same_topic_on_every_ingest() -> None:
    one, two = TopicIds(SeededRng(1), b"key"), TopicIds(SeededRng(2), b"key")
    assert one.make(ANA, "k") == one.make(ANA, "k") == two.make(ANA, "k")


def test_another_caller_key_or_secret_names_another_topic() -> None:
    ids = TopicIds(SeededRng(1), b"key")
    made = {ids.make(ANA, "k"), ids.make(BO, "k"), ids.make(ANA, "l"), TopicIds(SeededRng(1), b"x").make(ANA, "k")}
    assert len(made) == 4


def test_without_a_secret_or_without_a_key_ids_are_random() -> None:
    assert TopicIds(SeededRng(1), b"").make(ANA, "k") != TopicIds(SeededRng(2), b"").make(ANA, "k")
    ids = TopicIds(SeededRng(1), b"key")
    made = {ids.make(ANA, None) for _ in range(100)}
    assert len(made) == 100
    assert {check_topic_id(one, create=True) for one in made} == made
