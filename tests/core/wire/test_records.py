"""A read is cut into slices of a few milliseconds of work, by records and by bytes."""

import pytest

from headgate.core.wire.records import SLICE_BYTES, SLICE_RECORDS, Record, slices


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1], [1]),
        ([1] * SLICE_RECORDS, [SLICE_RECORDS]),
        ([1] * (2 * SLICE_RECORDS + 1), [SLICE_RECORDS, SLICE_RECORDS, 1]),
        ([SLICE_BYTES, 1, SLICE_BYTES * 8, 1], [1, 2, 1]),
        ([SLICE_BYTES // 2] * 5, [2, 2, 1]),
    ],
)
def test_a_slice_ends_at_either_bound_and_none_is_lost(sizes: list[int], expected: list[int]) -> None:
    records = [Record(at, 0, None, b"x" * size) for at, size in enumerate(sizes)]
    found = list(slices(records))
    assert [len(part) for part in found] == expected
    assert [record for part in found for record in part] == records
