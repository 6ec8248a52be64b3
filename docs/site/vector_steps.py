"""The table of the steps of a protocol vector, from the vectors' own schema."""

import json
from pathlib import Path
from typing import Any, Final

from docs.site.markdown import table

SCHEMA: Final = Path(__file__).parents[2] / "tests" / "vectors" / "schema.json"


def step_table() -> str:
    """Returns one row a kind of step: its first member with the meaning, then its other members."""
    definitions: dict[str, Any] = json.loads(SCHEMA.read_text("utf-8"))["$defs"]
    rows = []
    for reference in definitions["step"]["oneOf"]:
        (kind, first), *others = _definition(definitions, reference["$ref"])["properties"].items()
        members = (f"`{name}`: {_meaning(definitions, each)}" for name, each in others)
        rows.append((f"`{kind}`", _meaning(definitions, first), "<br>".join(members)))
    return table(("step", "what it does", "other members"), rows)


def _definition(definitions: dict[str, Any], reference: str) -> Any:
    return definitions[reference.removeprefix("#/$defs/")]


def _meaning(definitions: dict[str, Any], member: dict[str, Any]) -> str:
    found = member if "description" in member else _definition(definitions, member["$ref"])
    return str(found["description"])
