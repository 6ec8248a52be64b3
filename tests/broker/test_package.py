"""What importing loads: the core nothing of the broker, `from headgate import Broker` all of it, when asked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import headgate

ROOT = Path(__file__).parents[2]
PURE = (
    *("delivery", "retry", "strategy", "timers", "breaker", "backpressure", "lifecycle_events"),
    *("dead_letter_record", "dead_letter_store", "open_letters"),
)
ALLOWED = {"enum", "collections", "heapq", "types", "typing", "msgspec", "headgate"}


def loaded(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(*sorted(name for name in sys.modules if name.startswith('headgate')))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_core_loads_nothing_of_the_broker() -> None:
    modules = ", ".join(f"headgate.core.delivery.{name}" for name in PURE)
    names = loaded(f"import headgate, headgate.core, {modules}")
    assert "headgate.core.delivery.delivery" in names
    assert not [name for name in names if name.startswith(("headgate.broker", "headgate.runtime", "headgate.cli"))]


def test_the_broker_is_a_lazy_attribute() -> None:
    assert "headgate.broker" in loaded("from headgate import Broker, AsyncBroker, Publisher, Subscriber")
    with pytest.raises(AttributeError, match="nonsense"):
        _ = headgate.nonsense
    assert set(headgate.__all__) == {"AsyncBroker", "Broker", "Publisher", "Subscriber", "__version__"}


@pytest.mark.parametrize("name", PURE)
def test_the_core_of_delivery_knows_no_clock_randomness_or_io(name: str) -> None:
    tree = ast.parse((ROOT / "headgate" / "core" / "delivery" / f"{name}.py").read_text())
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {full.split(".")[0] for full in imports} <= ALLOWED
    assert {full for full in imports if full.startswith("headgate")} <= {
        *(f"headgate.core.delivery.{other}" for other in PURE),
        "headgate.core.wire.errors",
        "headgate.core.wire.ids",
        "headgate.core.wire.records",
        "headgate.core.wire.event_names",
        "headgate.core.wire.topic_settings",
    }
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Await | ast.AsyncFunctionDef)]
