"""Times as text."""

import pytest

from headgate.core.wire.timestamps import rfc3339


@pytest.mark.parametrize(
    ("unix_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_007, "2023-11-14T22:13:20.007Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (1_700_000_000_000_000_000, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_rfc_3339_with_three_decimals(unix_ms: int, text: str) -> None:
    assert rfc3339(unix_ms) == text
