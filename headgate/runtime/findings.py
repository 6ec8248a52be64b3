"""What a check of an installation has found: one line each, with what to do about it."""

import enum
from typing import NamedTuple


class Grade(enum.StrEnum):
    """How bad a finding is: `fail` keeps Headgate from working or loses data, `warn` will hurt one day."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """The result of one check. `check` is its name, `detail` says what was seen, `mend` what to do; empty when ok."""

    check: str
    status: Grade
    detail: str
    mend: str = ""


def ok(check: str, detail: str) -> Finding:
    """Returns a finding that nothing has to be done about."""
    return Finding(check, Grade.OK, detail)


def warn(check: str, detail: str, mend: str) -> Finding:
    """Returns a finding that works today."""
    return Finding(check, Grade.WARN, detail, mend)


def fail(check: str, detail: str, mend: str) -> Finding:
    """Returns a finding that has to be mended."""
    return Finding(check, Grade.FAIL, detail, mend)
