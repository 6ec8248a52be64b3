"""Writes the golden logs that are missing."""

from tests.core.golden import FILE, checks, decide, events, make_log, write

if not FILE.exists():
    write(make_log(), decide(make_log()), FILE)
if not events.FILE.exists():
    write(events.make_log(), events.decide(events.make_log()), events.FILE)
if not checks.FILE.exists():
    write(checks.make_log(), checks.decide(checks.make_log()), checks.FILE)
