"""Guests of a window say what they ran while the core scores what they inferred."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.grid import matrix
from bench.grid.matrix import Cell
from bench.measure.launching import Launcher
from bench.wall.worker import Stats

READ = matrix.load()


class Guest:
    """Says who asked it, and when it may."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked_by: list[str] = []

    def stats(self, *, attest: bool) -> Stats:
        assert attest
        self.asked_by.append(threading.current_thread().name)
        assert self.may_answer.wait(30)
        return Stats(1, 1, {"compute": "f32"})


def cell(option: str, target: str) -> Cell:
    return Cell("m", READ.options[option], "fp32", target, 64, 1, 1)


@pytest.fixture
def cells() -> dict[str, Cell]:
    return {"one": cell("pytorch", "cpu"), "other": cell("onnx", "cpu"), "card": cell("pytorch", "cuda")}


def test_those_on_the_processor_are_asked_aside_and_those_on_a_device_at_their_end(cells: dict[str, Cell]) -> None:
    """A device's own times are taken at the end, when no other guest may be at work on it."""
    guests = {name: Guest() for name in cells}
    with ExitStack() as stack:
        workshop = cast("Any", SimpleNamespace(matrix=READ))
        launcher = Launcher(workshop, 0, cells, {}, stack, lambda *_: False)
        launcher._running = {name: cast("Any", SimpleNamespace(guest=guest)) for name, guest in guests.items()}
        launcher.ask([*cells, "of another window"])
        assert launcher._asked.keys() == {"one", "other"}
        for guest in guests.values():
            guest.may_answer.set()
        found = [future.result(30).attested for future in launcher._asked.values()]
    assert found == [{"compute": "f32"}] * 2
    assert guests["card"].asked_by == []
    assert {name for guest in guests.values() for name in guest.asked_by} == {"asking_0"}


def test_whoever_stops_the_window_does_not_wait_for_an_answer(cells: dict[str, Cell]) -> None:
    guest = Guest()
    with ExitStack() as stack:
        workshop = cast("Any", SimpleNamespace(matrix=READ))
        launcher = Launcher(workshop, 0, cells, {}, stack, lambda *_: False)
        launcher._running = {name: cast("Any", SimpleNamespace(guest=guest)) for name in ("one", "other")}
        launcher.ask(["one", "other"])
        while not guest.asked_by:
            time.sleep(0.01)
    guest.may_answer.set()
    assert launcher._asked["one"].result(30).threads == 1
    assert launcher._asked["other"].cancelled()
