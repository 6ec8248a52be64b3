"""The sizing of an installation: sums done by hand, bounds that are told, and inputs that are used."""

import argparse
from itertools import pairwise
from math import ceil

import pytest

from bench.figures import sizes
from bench.sizing import CASES, Case, Prices, add_arguments, case_of, own_table, sizing_table


def table_of(*arguments: str) -> str:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return own_table(parser.parse_args(arguments))


def row(table: str, name: str) -> str:
    return next(line for line in table.splitlines() if line.startswith(f"| {name} |")).split(" | ")[1].strip("*")


def test_ten_million_connections_by_hand() -> None:
    case = case_of(10_000_000)
    assert (case.gateways, case.ingests, case.chosen_shards) == (1_000, 28, 1_024)
    assert case.message_cpu == pytest.approx((100_000 * (16.5 + 10 * 28.4) + 1_024 * 1_000 * 3.7) / 1e6)
    assert case.links_cpu == pytest.approx(1_028 * (45 + 28.4) / 1e6)
    assert case.state == pytest.approx(100e6 * 997 + 1e9 * (105 + 520 + 240 + 192 + 210))
    room = 16 * 2**30 - 98e6 - 1_028 * 22_800
    assert case.dispatchers == ceil(case.state / room)
    assert case.links == 1_028 * case.dispatchers
    assert case.partitions == 5_121
    size = sizes()
    written = 100_000 * (size.record + 10 * size.head)
    assert case.brokers(size) == max(3, ceil(written * 3 / 55e6), ceil(5_121 * 3 / 4_000))


def test_the_cpu_decides_where_it_is_more_than_the_memory() -> None:
    case = case_of(10_000_000)._replace(memory_gib=256.0)
    assert case.dispatchers == ceil(case.message_cpu / (0.5 - case.links_cpu)) > CASES[2].dispatchers / 2


def test_each_role_has_two_processes_and_kafka_three_brokers() -> None:
    case = case_of(100)
    assert (case.gateways, case.dispatchers, case.ingests, case.brokers(sizes())) == (2, 2, 2, 3)
    assert case.copies == 2  # no more than there are gateways


def test_more_of_everything_needs_no_less_of_anything() -> None:
    def needs(case: Case) -> tuple[float, ...]:
        size = sizes(case.payload)
        return case.gateways, case.dispatchers, case.ingests, case.brokers(size), case.memory, case.log_bytes(size)

    small = [needs(case) for case in CASES]
    assert all(a <= b for one, next_ in pairwise(small) for a, b in zip(one, next_, strict=True))
    assert needs(CASES[0]._replace(payload=10_000))[5] > small[0][5]


def test_what_an_operator_names_is_used() -> None:
    table = table_of("--connections", "50000", "--rate", "9000", "--days", "3", "--sockets", "5000", "--payload", "100")
    assert row(table, "messages a second, peak") == "9,000"
    assert row(table, "bytes of a payload; days kept") == "100; 3"
    assert row(table, "**gateways**: processes") == "10"
    assert row(table, "**ingests**: processes") == "3"
    assert "BOUND" not in table


@pytest.mark.parametrize(
    ("arguments", "bound"),
    [
        (("--connections", "1000000", "--shards", "64"), "cursors a shard"),
        (("--connections", "100000", "--shards", "1"), "dispatchers for 1 shards"),
        (("--connections", "100000000"), "the links alone"),
    ],
)
def test_a_bound_that_is_passed_is_told(arguments: tuple[str, ...], bound: str) -> None:
    assert any(line.startswith("BOUND") and bound in line for line in table_of(*arguments).splitlines())


def test_the_table_has_a_column_for_each_case_and_a_sum_for_each_row() -> None:
    lines = sizing_table().strip().splitlines()
    assert {line.count(" | ") for line in lines if not line.startswith("|---")} == {4}


def test_the_cost_of_a_month_by_hand() -> None:
    case = case_of(10_000_000)._replace(prices=Prices(core=10, gib=2, disk_gb=0.2, out_gb=0.1))
    size = sizes()
    month = case.month(size)
    brokers = case.brokers(size)
    gib = case.memory / 2**30 + 16 * brokers
    assert month.machines == pytest.approx((case.cores + 4 * brokers) * 10 + gib * 2)
    assert month.disks == pytest.approx((case.log_bytes(size) + case.index_bytes(size)) / 1e9 * 0.2)
    assert month.traffic == pytest.approx(100_000 * size.frame * 30 * 86_400 / 1e9 * 0.1)


def test_prices_that_are_given_are_used() -> None:
    usual = table_of("--connections", "50000")
    for name, part in (
        ("core", "cores and memory"),
        ("gib", "cores and memory"),
        ("disk-gb", "disks"),
        ("out-gb", "traffic"),
    ):
        dearer = table_of("--connections", "50000", f"--price-{name}", "1000")
        changed = {
            what
            for what in ("cores and memory", "disks", "traffic")
            if row(dearer, f"cost a month: {what}") != row(usual, f"cost a month: {what}")
        }
        assert changed == {part}, name
