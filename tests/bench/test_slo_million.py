"""What ends the opening of sockets: the memory of the machine, the time, descriptors, ports, or the number itself."""

import time
from types import SimpleNamespace

import pytest

from bench.slo import million
from bench.slo.million import PART, fill_cells

SHARE = 3 * PART


class Clients:
    """A process of clients that opens what it is asked for, up to a bound."""

    def __init__(self, most: int, error: str) -> None:
        self.open, self._most, self._error = 0, most, error

    async def ask(self, name: str, count: int, ports: list[int]) -> dict[str, object]:
        assert (name, ports) == ("open", [1])
        made = min(count, self._most - self.open)
        self.open += made
        return {"open": self.open, "stopped": self._error if made < count else ""}


async def filled(
    monkeypatch: pytest.MonkeyPatch, *, gib: float = 1.0, seconds: float = 60.0, most: int = 1 << 20, error: str = ""
) -> tuple[int, str]:
    """Returns how many sockets two processes opened, and what ended it."""
    clients = [Clients(most, error) for _ in range(2)]
    monkeypatch.setattr(million, "used_kb", lambda: int(gib * 2**20))
    monkeypatch.setattr(million, "kernel_kb", lambda: 2**20)
    monkeypatch.setattr(million, "progress", lambda _: None)
    cells = SimpleNamespace(opened_s=0.0, sockets=0, place=SimpleNamespace(memory_gib=18.0))
    pairs = [(SimpleNamespace(port=1), each) for each in clients]
    stopped = await fill_cells(cells, pairs, SHARE, time.monotonic() + seconds)  # type: ignore[arg-type]
    return sum(each.open for each in clients), stopped


async def test_the_number_that_was_asked_for_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await filled(monkeypatch) == (2 * SHARE, "")


async def test_memory_ends_it_after_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets, stopped = await filled(monkeypatch, gib=18.1)
    assert sockets == 2 * PART
    assert stopped == "memory (18.1 of 18 GiB; 1.0 GiB of the kernel)"


async def test_the_time_ends_it_and_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets, stopped = await filled(monkeypatch, seconds=-1)
    assert sockets == 2 * PART
    assert stopped.startswith("CPU (")


@pytest.mark.parametrize(
    ("error", "word"), [("EMFILE", "descriptors"), ("EADDRNOTAVAIL", "ports"), ("ENOBUFS", "kernel memory")]
)
async def test_an_error_says_what_is_used_up(monkeypatch: pytest.MonkeyPatch, error: str, word: str) -> None:
    sockets, stopped = await filled(monkeypatch, most=PART + 7, error=error)
    assert (sockets, stopped) == (2 * (PART + 7), f"{word} ({error})")


def test_the_memory_of_this_machine_is_read() -> None:
    assert million.kernel_kb() > 0
    assert million.used_kb() > 0
