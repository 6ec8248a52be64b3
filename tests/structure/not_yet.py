"""Offenders that are on their way out: each list only shrinks, and this file goes when they are empty."""

from typing import Final

IMPORTS: Final = {
    ("dispatcher.peer", "dispatcher.dispatcher"),
    ("gateway.http_fallback", "gateway.protocol"),
    ("gateway.app", "gateway.service"),
    ("gateway.protocol", "gateway.service"),
    ("gateway.sse", "gateway.protocol"),
    ("gateway.sse", "gateway.service"),
    ("gateway.stream", "gateway.protocol"),
    ("gateway.websocket", "gateway.protocol"),
    ("headgate.core.fanout.session", "headgate.core.fanout.deadlines"),
    ("headgate.core.fanout.session", "headgate.core.fanout.feed"),
    ("headgate.core.fanout.session", "headgate.core.fanout.pending"),
}
CLASSES: Final = {"Authenticator", "Identity", "Subscription", "Verdict"}
FILES: Final = {"answers.py", "app.py", "dead_letters.py"}
UNTESTED: Final = {
    "client/limits",
    "fanout/catchup",
    "fanout/deadlines",
    "fanout/flush",
    "fanout/gap_repair",
    "fanout/pending",
    "fanout/ports",
    "sequencer/rows",
    "wire/control",
    "wire/errors",
    "wire/frames",
    "wire/verdict",
}
