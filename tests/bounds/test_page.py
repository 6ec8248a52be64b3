"""docs/bounds.md names each bound by its constant, with its value as the code has it."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from headgate.core.client.limits import Limits
from headgate.runtime.settings_model import Model

PAGE = (Path(__file__).parents[2] / "docs" / "bounds.md").read_text("utf-8")
MODULES = {
    "window": "headgate.core.sequencer.window",
    "changed_messages": "headgate.core.sequencer.changed_messages",
    "selection": "dispatcher.selection",
    "message_requests": "dispatcher.message_requests",
    "index_changes": "dispatcher.index_changes",
    "verdicts": "headgate.core.sequencer.recent_verdicts",
    "dead_letters": "dispatcher.dead_letters",
    "outputs": "dispatcher.outputs",
    "pointers": "dispatcher.pointers",
    "user_shards": "headgate.core.sequencer.user_shards",
    "unreachable_gateways": "dispatcher.unreachable_gateways",
    "open_letters": "headgate.core.delivery.open_letters",
    "letter_log": "dispatcher.letter_log",
    "letter_requests": "dispatcher.letter_requests",
    "log_follower": "dispatcher.log_follower",
    "cursors": "headgate.core.inbox.cursors",
    "inbox_writer": "dispatcher.inbox_writer",
    "inbox_hints": "dispatcher.inbox_hints",
    "sliced_work": "dispatcher.sliced_work",
    "pending_hints": "headgate.core.inbox.pending_hints",
    "read_marks": "headgate.core.inbox.read_marks",
    "frequent_topics": "headgate.core.sequencer.frequent_topics",
    "link_stats": "headgate.core.wire.link_stats",
    "top_backlogs": "headgate.core.inbox.top_backlogs",
    "link_inbox": "headgate.core.wire.link_inbox",
    "consumer_groups": "dispatcher.consumer_groups",
    "group_cursors": "dispatcher.group_cursors",
    "link_groups": "headgate.core.wire.link_groups",
    "group_member": "headgate.core.fanout.group_member",
    "grouping": "headgate.core.fanout.grouping",
    "message_counts": "dispatcher.message_counts",
    "missed_requests": "dispatcher.missed_requests",
    "read_receipts": "dispatcher.read_receipts",
    "read_reports": "headgate.core.fanout.read_reports",
    "link_acks": "headgate.core.wire.link_acks",
    "endings": "headgate.core.fanout.endings",
    "log_end": "dispatcher.log_end",
    "page_builder": "dispatcher.page_builder",
    "snapshot": "headgate.core.sequencer.snapshot",
    "chunks": "headgate.runtime.logs.chunks",
    "peer": "dispatcher.peer",
    "announcements": "dispatcher.announcements",
    "counted_messages": "dispatcher.counted_messages",
    "link_events": "headgate.core.wire.link_events",
    "event_streams": "ingest.event_streams",
    "missed_search": "ingest.missed_search",
    "bounded_reads": "ingest.bounded_reads",
    "event_watcher": "ingest.event_watcher",
    "gateway_presence": "headgate.core.fanout.gateway_presence",
    "presence_questions": "headgate.core.fanout.presence_questions",
    "pending": "headgate.core.fanout.pending",
    "faults": "headgate.core.fanout.faults",
    "inbound": "headgate.core.client.inbound",
    "side_frames": "headgate.core.fanout.side_frames",
    "topic_queues": "dispatcher.topic_queues",
    "queues": "ingest.queues",
    "held_messages": "headgate.core.fanout.held_messages",
    "topic_counts": "headgate.core.fanout.topic_counts",
    "write_counts": "headgate.core.fanout.write_counts",
    "user_questions": "dispatcher.user_questions",
    "user_announcements": "headgate.core.fanout.user_announcements",
    "user_requests": "headgate.core.fanout.user_requests",
    "renewals": "headgate.core.fanout.renewals",
    "query_turns": "headgate.core.fanout.query_turns",
    "replay_pieces": "headgate.core.fanout.replay_pieces",
    "replays": "headgate.core.delivery.replays",
    "cursor_reports": "headgate.core.fanout.cursor_reports",
    "answers": "headgate.core.publish.recent_publishes",
    "topic_rates": "headgate.core.sequencer.topic_rates",
    "throttling": "dispatcher.throttling",
    "rates": "ingest.rates",
    "buckets": "headgate.core.wire.token_buckets",
    "catalog": "ingest.catalog",
    "message_queries": "ingest.message_queries",
    "known_roles": "ingest.known_roles",
    "keyed_operations": "ingest.keyed_operations",
    "tokens": "headgate.runtime.tokens",
    "redeemed_tickets": "dispatcher.redeemed_tickets",
    "revoked_tokens": "headgate.core.wire.revoked_tokens",
    "jwks": "headgate.runtime.jwks",
    "key_server": "headgate.runtime.key_server",
    "kafka_producer": "headgate.runtime.logs.kafka_producer",
    "limits": "headgate.core.client.limits",
    "heads": "headgate.runtime.http.heads",
    "bounded": "headgate.runtime.http.bounded",
}
NAMED = re.findall(r"`(\w+)\.([A-Z_]+)` ([\d,]+)", PAGE)
SETTINGS = re.findall(r"`limits\.([a-z_]+)` ([\d,]+)", PAGE)
LIMITS = re.findall(r"`([a-z]+_(?:bytes|frames)|connections)` ([\d,]+)", PAGE)


@pytest.mark.parametrize(("module", "name", "value"), NAMED)
def test_a_constant_has_the_value_of_the_page(module: str, name: str, value: str) -> None:
    found: Any = getattr(importlib.import_module(MODULES[module]), name)
    assert found == int(value.replace(",", ""))


@pytest.mark.parametrize(("name", "value"), LIMITS)
def test_a_limit_of_a_gateway_has_the_value_of_the_page(name: str, value: str) -> None:
    assert getattr(Limits(), name) == int(value.replace(",", ""))


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_a_setting_has_the_value_of_the_page(name: str, value: str) -> None:
    assert getattr(Model().limits, name) == int(value.replace(",", ""))


def test_the_page_names_bounds_of_every_process() -> None:
    assert len(NAMED) >= 14 and len(LIMITS) >= 5 and len(SETTINGS) >= 2
