"""The diagrams that are drawn by hand have the names of the code: classes, methods, fields of rows, columns."""

import ast
import re
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from dispatcher.index import HistoryIndex
from dispatcher.index_file import LogIdentity
from headgate.core.delivery.dead_letter_record import DeadLetter
from headgate.core.inbox.cursors import DeviceCursor
from headgate.core.inbox.memberships import UserTopic
from headgate.core.inbox.read_marks import StoredMark
from headgate.core.inbox.topic_heads import TopicHead
from headgate.core.sequencer.changed_messages import ChangedMessage
from headgate.core.sequencer.claims import Claim, NewestClaim
from headgate.core.sequencer.members import Membership
from headgate.core.sequencer.rows import Row

ROOT = Path(__file__).parents[2]
SYSTEM_PAGE = (ROOT / "docs" / "system-design.md").read_text("utf-8")
FOLDERS: Final = ("headgate/broker", "headgate/core/delivery", "headgate/runtime")
AT_LEAST: Final = 30  # classes of the picture
_ARROW: Final = re.compile(r"(?<![\"\w])[A-Z]\w+(?!\w*\")")
CLASSES = (ROOT / "docs" / "broker" / "class-diagram.md").read_text("utf-8").partition("classDiagram")[2]

# Entity -> the class whose fields it has, fields that stand in keys and not in the class, fields that are left out:
# places in the log, and what the page's text says of them.
ROWS: dict[str, tuple[type, set[str], set[str]]] = {
    "TOPIC": (Row, set(), set()),
    "MEMBER": (Membership, {"topic_id", "user_id"}, set()),
    "MEMBERSHIP": (UserTopic, {"user_id", "topic_id"}, {"offset"}),
    "HEAD": (TopicHead, {"topic_id"}, {"offset"}),
    "CURSOR": (DeviceCursor, {"user_id", "topic_id"}, set()),
    "READ_MARK": (StoredMark, {"user_id", "topic_id"}, set()),
    "CHANGED_MESSAGE": (ChangedMessage, {"epoch", "seq"}, {"pos"}),
    "DEAD_LETTER": (
        DeadLetter, set(),
        {"at", "message_id", "last_error", "subscriber", "created_ts", "payload", "key", "record"},
    ),
    "CLAIM": (Claim, {"epoch"}, set()),
}  # fmt: skip


def fields_of(entity: str) -> set[str]:
    """Returns the fields that the picture gives an entity."""
    found = re.search(rf"^    {entity} \{{\n(.*?)^    \}}", SYSTEM_PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, entity
    return {line.split()[1] for line in found[1].splitlines()}


@pytest.mark.parametrize("entity", ROWS)
def test_an_entity_has_the_fields_of_its_class(entity: str) -> None:
    kind, keys, left_out = ROWS[entity]
    fields = set(kind.__annotations__)
    assert left_out <= fields, "what is left out is there"
    assert fields_of(entity) == (fields | keys) - left_out


def test_the_claims_epoch_is_that_of_the_log() -> None:
    assert "epoch" in NewestClaim.__annotations__


def test_the_table_of_the_history_index_has_every_column_and_index() -> None:
    index = HistoryIndex(":memory:", LogIdentity("c", 1, 0))
    schema = sqlite_schema(index)
    page = SYSTEM_PAGE.partition("### Columns of the history index")[2].partition("### ")[0]
    rows = {
        name: (columns, keys)
        for names, columns, keys in re.findall(r"^\| (`.+?`) \| ([\w, ]+) \| (.+?) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert {name: set(columns.split(", ")) for name, (columns, _) in rows.items()} == {
        name: columns for name, (columns, _) in schema.items()
    }
    for name, (_, key) in schema.items():
        assert f"{', '.join(key)}" in rows[name][1], name


def sqlite_schema(index: HistoryIndex) -> dict[str, tuple[set[str], list[str]]]:
    """Returns the columns and the primary key of each table."""
    database: sqlite3.Connection = index._db
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    schema = {}
    for table in tables:
        rows = list(database.execute(f"PRAGMA table_info({table})"))
        key = [row[1] for row in sorted(rows, key=lambda row: int(row[5])) if row[5]]
        schema[table] = ({row[1] for row in rows}, key)
    index.close()
    return schema


class Drawn(NamedTuple):
    """What the class diagram says of a class: methods with their parameters, and attributes."""

    methods: dict[str, list[str]]
    attributes: list[str]


def drawn() -> dict[str, Drawn]:
    """Returns every class of the class diagram, also those that are only at the end of an arrow."""
    picture = CLASSES.partition("```")[0]
    found = {name: Drawn({}, []) for line in picture.splitlines() for name in _ARROW.findall(line)}
    for name, body in re.findall(r"^    class (\w+) \{\n(.*?)^    \}", picture, re.MULTILINE | re.DOTALL):
        methods = {method: re.findall(r"\w+", given) for method, given in re.findall(r"(\w+)\((.*?)\)", body)}
        found[name] = Drawn(methods, re.findall(r"^        (\w+)$", body, re.MULTILINE))
    return found


def classes() -> dict[str, ast.ClassDef]:
    """Returns the classes of the broker, of its core and of the log."""
    found: dict[str, ast.ClassDef] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            nodes = ast.walk(ast.parse(path.read_text("utf-8")))
            found |= {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
    return found


def line_of(node: ast.ClassDef, known: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """Returns a class and those it inherits from."""
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    above = [known[base.id] for base in bases if isinstance(base, ast.Name) and base.id in known]
    return [node, *(each for base in above for each in line_of(base, known))]


def options_of(kwarg: ast.arg | None, known: dict[str, ast.ClassDef]) -> set[str]:
    """Returns the names of `**options: Unpack[Options]`."""
    if kwarg is None or not isinstance(kwarg.annotation, ast.Subscript):
        return set()
    options = known[ast.unparse(kwarg.annotation.slice)]
    return {
        part.target.id for part in options.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }


def members(node: ast.ClassDef, known: dict[str, ast.ClassDef]) -> tuple[dict[str, set[str]], set[str]]:
    """Returns the methods of a class with their parameters, and its attributes and properties."""
    methods: dict[str, set[str]] = {}
    attributes: set[str] = set()
    for part in (part for each in line_of(node, known) for part in ast.walk(each)):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            given = part.args
            named = {each.arg for each in [*given.posonlyargs, *given.args, *given.kwonlyargs]}
            methods.setdefault(part.name, named | options_of(given.kwarg, known))
            attributes |= {part.name} if part.decorator_list else set()
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            attributes.add(part.target.id)
        elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            attributes.add(part.attr)
    return methods, attributes


def test_the_class_diagram_of_the_broker_has_the_names_of_the_code() -> None:
    known, picture = classes(), drawn()
    assert len(picture) >= AT_LEAST
    assert [name for name in picture if name not in known] == []
    wrong = []
    for name, (methods, attributes) in picture.items():
        of_code, stored = members(known[name], known)
        wrong += [f"{name}.{each}" for each in attributes if each not in stored]
        wrong += [f"{name}.{each}()" for each in methods if each not in of_code]
        for each, parameters in methods.items():
            wrong += [f"{name}.{each}({given})" for given in parameters if given not in of_code.get(each, ())]
    assert wrong == []
