"""`python -m tests.vectors` writes the vector files in their one form: a rule, then one step a line."""

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


def formatted(file: dict[str, Any]) -> str:
    """Returns the text of a vector file."""
    head = ",\n".join(f"{_text(name)}: {_text(value)}" for name, value in file.items() if name != "vectors")
    vectors = ",\n".join(_vector(vector) for vector in file["vectors"])
    return f'{{{head},\n"vectors": [\n{vectors}\n]}}\n'


def _vector(vector: dict[str, Any]) -> str:
    head = ", ".join(f"{_text(name)}: {_text(value)}" for name, value in vector.items() if name != "steps")
    steps = ",\n".join(f"  {_text(step)}" for step in vector["steps"])
    return f'{{{head}, "steps": [\n{steps}]}}'


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    for path in sorted(DATA.glob("*.json")):
        path.write_text(formatted(json.loads(path.read_text("utf-8"))), "utf-8")
