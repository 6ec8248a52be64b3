"""Hands the publishes of one batch over: those of one topic in as few records as their sizes allow, in order."""

from collections.abc import Iterator, Sequence
from typing import Final

from headgate.core.publish.recent_publishes import Key
from headgate.core.wire.envelope import ITEM
from headgate.core.wire.errors import Refusal
from ingest.admission import Publish
from ingest.publishing import Pending, Publishing

BUNDLE_ITEMS: Final = 1_000
BUNDLE_BYTES: Final = 512 * 1024  # half of the largest record that the log takes

Publishes = dict[int, Publish]  # by their index in the batch, ascending
Limited = dict[str, Refusal]  # by topic: the first refusal of the rate


def hand_over_all(publishing: Publishing, checked: Sequence[Publish | Refusal]) -> list[Pending | Refusal]:
    """Returns the pending answer, or the refusal, of each item.

    It never waits, so nothing of another request comes between the items of a batch. Once the rate refuses an item, it
    refuses all to the same topic behind it: one that found a new token would overtake those that are sent again.
    """
    outcomes: dict[int, Pending | Refusal] = {}
    limited: Limited = {}
    firsts: Publishes = {}
    repeats: Publishes = {}  # of a client_msg_id in the same batch: answered once the first is under way
    seen: set[Key] = set()
    for at, item in enumerate(checked):
        if isinstance(item, Refusal):
            outcomes[at] = item
        elif item.key in seen:
            repeats[at] = item
        else:
            seen.add(item.key)
            firsts[at] = item
    _hand_over(publishing, firsts, outcomes, limited)
    for at, publish in repeats.items():
        _hand_over(publishing, {at: publish}, outcomes, limited)
    return [outcomes[at] for at in range(len(checked))]


def _hand_over(
    publishing: Publishing, publishes: Publishes, outcomes: dict[int, Pending | Refusal], limited: Limited
) -> None:
    """Admits the publishes and hands them over, topic by topic; writes the outcome of each."""
    admitted: dict[str, Publishes] = {}
    for at, publish in publishes.items():
        outcome = _admit(publishing, publish, limited)
        if outcome is None:
            admitted.setdefault(publish.info.topic_id, {})[at] = publish
        else:
            outcomes[at] = outcome
    for of_topic in admitted.values():
        for bundle in bundles(of_topic):
            outcomes.update(zip(bundle, publishing.hand_over(list(bundle.values())), strict=True))


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


def bundles(publishes: Publishes) -> Iterator[Publishes]:
    """Yields runs that fit into one record; a publish that is larger by itself has its own."""
    bundle: Publishes = {}
    size = 0
    for at, publish in publishes.items():
        length = len(publish.item.tail) + ITEM.size
        if bundle and (len(bundle) == BUNDLE_ITEMS or size + length > BUNDLE_BYTES):
            yield bundle
            bundle, size = {}, 0
        bundle[at] = publish
        size += length
    if bundle:
        yield bundle
