"""Hands the publishes of one batch over: those of one topic in as few records as their sizes allow, in order."""

from collections.abc import Iterable, Sequence
from typing import Final

from headgate.core.publish.recent_publishes import Key
from headgate.core.wire.envelope import ITEM
from headgate.core.wire.errors import Refusal
from ingest.admission import Publish
from ingest.publishing import Pending, Publishing

BUNDLE_ITEMS: Final = 1_000
BUNDLE_BYTES: Final = 512 * 1024  # half of the largest record that the log takes

Limited = dict[str, Refusal]  # by topic: the first refusal of the rate
Outcomes = list[Pending | Refusal | None]  # by place in the batch; None where there is none yet
Placed = tuple[int, Publish]  # a publish and its place in the batch


def hand_over_all(publishing: Publishing, checked: Sequence[Publish | Refusal]) -> list[Pending | Refusal]:
    """Returns the pending answer, or the refusal, of each item.

    It never waits, so nothing of another request comes between the items of a batch. Once the rate refuses an item, it
    refuses all to the same topic behind it: one that found a new token would overtake those that are sent again.
    """
    outcomes: Outcomes = [None] * len(checked)
    limited: Limited = {}
    firsts: list[Placed] = []
    repeats: list[Placed] = []  # of a client_msg_id in the same batch: answered once the first is under way
    seen: set[Key] = set()
    for at, item in enumerate(checked):
        if isinstance(item, Refusal):
            outcomes[at] = item
        elif item.key in seen:
            repeats.append((at, item))
        else:
            seen.add(item.key)
            firsts.append((at, item))
    _hand_over(publishing, firsts, outcomes, limited)
    for repeat in repeats:
        _hand_over(publishing, (repeat,), outcomes, limited)
    return [outcome for outcome in outcomes if outcome is not None]


def _hand_over(publishing: Publishing, publishes: Iterable[Placed], outcomes: Outcomes, limited: Limited) -> None:
    """Admits the publishes and hands them over, topic by topic; writes the outcome of each."""
    admitted: dict[str, tuple[list[int], list[Publish]]] = {}
    for at, publish in publishes:
        outcomes[at] = _admit(publishing, publish, limited)
        if outcomes[at] is None:
            topic_id = publish.info.topic_id
            of_topic = admitted.get(topic_id)
            if of_topic is None:
                admitted[topic_id] = [at], [publish]
            else:
                of_topic[0].append(at)
                of_topic[1].append(publish)
    for places, of_one in admitted.values():
        place = iter(places)
        for bundle in bundles(of_one):
            for pending in publishing.hand_over(bundle):
                outcomes[next(place)] = pending


def _admit(publishing: Publishing, publish: Publish, limited: Limited) -> Pending | Refusal | None:
    """Returns the outcome of a repeat or of a refused publish, None for one to hand over."""
    refused = limited.get(publish.info.topic_id)
    try:
        if refused is not None and not publishing.parents.knows(publish):
            return refused
        return publishing.admit(publish)
    except Refusal as refusal:
        if refusal.code == "rate_limited":
            limited[publish.info.topic_id] = refusal
        return refusal


def bundles(publishes: list[Publish]) -> list[list[Publish]]:
    """Returns runs that fit into one record; a publish that is larger by itself has its own."""
    if len(publishes) == 1:  # as nearly all topics of a batch to many have it
        return [publishes]
    runs: list[list[Publish]] = []
    room, size = 0, 0  # of the last run: how many more fit, and its bytes
    for publish in publishes:
        length = len(publish.item.tail) + ITEM.size
        if not room or size + length > BUNDLE_BYTES:
            runs.append([])
            room, size = BUNDLE_ITEMS, 0
        runs[-1].append(publish)
        room -= 1
        size += length
    return runs
