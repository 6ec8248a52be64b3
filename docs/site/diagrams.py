"""State diagrams in Mermaid, drawn from the transition tables of the code."""

import enum
from collections.abc import Mapping
from typing import Any


def diagram(transitions: Mapping[tuple[Any, Any], Any], first: enum.Enum) -> str:
    """Returns a fenced state diagram; `transitions` maps (state, event) to the next state.

    A state that no transition leaves is final. An event that leads from every other state to the same final state is
    one arrow, from *every state*: an arrow from each would hide the rest.
    """
    sources = {source for source, _ in transitions}
    finals = [state for state in dict.fromkeys(transitions.values()) if state not in sources]
    common = {
        (event, final): f"    every_state --> {_name(final)}: {event.value}"
        for final in finals
        for event in dict.fromkeys(event for _, event in transitions)
        if all(transitions.get((source, event)) == final for source in sources)
    }
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {_name(first)}"]
    for (source, event), target in transitions.items():
        if (event, target) not in common:
            lines.append(f"    {_name(source)} --> {_name(target)}: {event.value}")
    if common:
        lines += ['    state "every state" as every_state', *common.values()]
    lines += [f"    {_name(state)} --> [*]" for state in finals]
    return "\n".join([*lines, "```"]) + "\n"


def flat(table: Mapping[Any, Mapping[Any, Any]]) -> dict[tuple[Any, Any], Any]:
    """Returns a table of the form state -> event -> next state as (state, event) -> next state."""
    return {(state, event): after for state, row in table.items() for event, after in row.items()}


def _name(state: enum.Enum) -> str:
    return str(state.value).replace(" ", "_")
