"""Writes a real public data set as JSON lines: hourly temperatures of 2010 in Seattle and San Francisco.

17,518 events of the National Weather Service as `vega_datasets` ships them (no network), one topic a city and month:

    python examples/replay/events.py | headgate publish --topic-field topic -
"""

import csv
import sys
from collections.abc import Iterator
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

import msgspec

CITIES: Final = {"seattle": "seattle-temps.csv", "sf": "sf-temps.csv"}


def main() -> None:
    """Writes every event to standard output."""
    encode = msgspec.json.Encoder().encode
    for event in events():
        sys.stdout.buffer.write(encode(event) + b"\n")


def events() -> Iterator[dict[str, Any]]:
    """Yields the events in the order of their time, the two cities in turn."""
    rows = [(reading["at"], number, reading) for number, reading in enumerate(_readings())]
    for _, _, reading in sorted(rows, key=lambda row: row[:2]):
        yield reading


def _readings() -> Iterator[dict[str, Any]]:
    for city, name in CITIES.items():
        text = files("vega_datasets").joinpath("_data", name).read_text("utf-8")
        for row in csv.DictReader(text.splitlines()):
            at = datetime.fromisoformat(row["date"].replace("/", "-"))  # one file has seconds, the other none
            yield {
                "topic": f"temps.{city}.{at:%m}",
                "city": city,
                "at": at.isoformat(timespec="minutes"),
                "fahrenheit": float(row["temp"]),
            }


if __name__ == "__main__":
    main()
