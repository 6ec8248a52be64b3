"""The language of the vectors: its schema, its form, and that the runner obeys every step the schema names."""

import json
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from tests.vectors.__main__ import DATA, formatted
from tests.vectors.steps import STEPS

SCHEMA: Final[dict[str, Any]] = json.loads((Path(__file__).parent / "schema.json").read_text("utf-8"))
FILES: Final = sorted(DATA.glob("*.json"))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_follows_the_schema_one_step_a_line(path: Path) -> None:
    text = path.read_text("utf-8")
    file = json.loads(text)
    errors = jsonschema.Draft202012Validator(SCHEMA).iter_errors(file)
    assert [f"{list(error.absolute_path)}: {error.message[:200]}" for error in errors] == []
    assert text == formatted(file), "run `python -m tests.vectors`"


def test_the_schema_names_the_steps_that_the_runner_knows() -> None:
    named = {step["$ref"].removeprefix("#/$defs/").removesuffix("_step") for step in SCHEMA["$defs"]["step"]["oneOf"]}
    assert named == set(STEPS)


def test_a_step_with_a_member_nobody_reads_is_no_vector() -> None:
    step = {"frame": {"type": "welcome"}, "withn_s": 3}
    file = {"server": "open", "vectors": [{"rule": "0 x", "steps": [step]}]}
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(file)
