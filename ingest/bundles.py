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

Place = tuple[int, Publish]  # an item's index in the batch, and the publish it made


def hand_over_all(publishing: Publishing, checked: Sequence[Publish | Refusal]) -> list[Pending | Refusal]:
    """Returns the pending answer, or the refusal, of each item.

    It never waits, so nothing of another request comes between the items of a batch.
    """
    outcomes: dict[int, Pending | Refusal] = {}
    firsts: list[Place] = []
    repeats: list[Place] = []  # of a client_msg_id in the same batch: answered once the first is under way
    seen: set[Key] = set()
    for at, item in enumerate(checked):
        if isinstance(item, Refusal):
            outcomes[at] = item
        elif item.key in seen:
            repeats.append((at, item))
        else:
            seen.add(item.key)
            firsts.append((at, item))
    _hand_over(publishing, firsts, outcomes)
    for place in repeats:
        _hand_over(publishing, (place,), outcomes)
    return [outcomes[at] for at in range(len(checked))]


def _hand_over(publishing: Publishing, places: Sequence[Place], outcomes: dict[int, Pending | Refusal]) -> None:
    """Admits the publishes and hands them over, topic by topic; writes the outcome of each."""
    admitted: dict[str, list[Place]] = {}
    for at, publish in places:
        try:
            repeat = publishing.admit(publish)
        except Refusal as refusal:
            outcomes[at] = refusal
            continue
        if repeat is None:
            admitted.setdefault(publish.info.topic_id, []).append((at, publish))
        else:
            outcomes[at] = repeat
    for of_topic in admitted.values():
        for bundle in bundles(of_topic):
            pending = publishing.hand_over([publish for _, publish in bundle])
            outcomes.update(zip((at for at, _ in bundle), pending, strict=True))


def bundles(places: Sequence[Place]) -> Iterator[list[Place]]:
    """Yields runs that fit into one record; a publish that is larger by itself has its own."""
    bundle: list[Place] = []
    size = 0
    for place in places:
        length = len(place[1].item.tail) + ITEM.size
        if bundle and (len(bundle) == BUNDLE_ITEMS or size + length > BUNDLE_BYTES):
            yield bundle
            bundle, size = [], 0
        bundle.append(place)
        size += length
    if bundle:
        yield bundle
