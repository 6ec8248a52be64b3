"""Every example of the OpenAPI and AsyncAPI documents is a step of a vector, with the vector's names filled in."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.runtime.api.examples import BODIES, FRAMES, HALL, MESSAGE, ROOM
from tests.vectors.test_vectors import DATA

NAMES = {
    "${topic}": ROOM,
    "${topic2}": HALL,
    "${user:alice}": "alice",
    "${user:bob}": "bob",
    "${connection}": "c1",
    "${id}": MESSAGE,
}
TOKEN = "eyJ..."


def steps() -> Iterator[dict[str, Any]]:
    for path in sorted(DATA.glob("*.json")):
        for vector in json.loads(path.read_text("utf-8"))["vectors"]:
            yield from vector["steps"]


def filled(value: Any) -> Any:
    text = json.dumps(value)
    for name, example in NAMES.items():
        text = text.replace(name, example)
    found = json.loads(text)
    if isinstance(found, dict) and str(found.get("token", "")).startswith("${"):
        found["token"] = TOKEN
    return found


REQUESTS = [filled(step["json"]) for step in steps() if "http" in step and "json" in step and "problem" not in step]
SENT = [filled(step["send"]) for step in steps() if "send" in step]


@pytest.mark.parametrize("name", sorted(BODIES))
def test_an_example_of_a_body_is_in_a_vector(name: str) -> None:
    assert BODIES[name] in REQUESTS


@pytest.mark.parametrize("frame", list(FRAMES.values()), ids=lambda frame: frame["type"])
def test_an_example_of_a_frame_is_in_a_vector(frame: dict[str, Any]) -> None:
    assert frame in SENT
