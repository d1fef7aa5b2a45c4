"""Where the time went: what is counted while it passes, and what the report makes of it."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from report_fixture import write_run
from rich.console import Console

from bench.progress import Reporter
from bench.report import durations
from bench.store import reading as run
from bench.store.reading import Fact


def test_a_phase_inside_another_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    reporter = Reporter(Console(file=io.StringIO()), enabled=False)
    with reporter.timed("cell", "export"):
        clock[0] = 2.0
        with reporter.timed("", "environment onnx", "environment"):
            clock[0] = 7.0
        clock[0] = 8.0
    with contextlib.suppress(ValueError), reporter.timed("", "environment x", "environment"):
        clock[0] = 9.0
        raise ValueError
    clock[0] = 10.0
    assert reporter.spent == {"export": 3.0, "environment": 6.0, "total": 10.0}


def test_steps_add_up_to_the_whole_and_come_in_order(tmp_path: Path) -> None:
    spent = {"latency": 30.0, "export": 50.0, "new-step": 5.0, "total": 100.0}
    facts = tuple(Fact("time", step, str(value)) for step, value in spent.items())
    data = replace(run.load(write_run(tmp_path / "run")), facts=facts)
    found = durations.steps(data)
    assert [round(step.seconds) for step in found] == [50, 30, 15, 5]
    assert [step.name.partition(" ")[0] for step in found] == ["Exporting,", "Latency:", "Everything", "new-step"]
    assert sum(step.share for step in found) == pytest.approx(1.0)
    assert durations.steps(replace(data, facts=())) == ()


def test_the_slowest_cells_come_first(tmp_path: Path) -> None:
    data = run.load(write_run(tmp_path / "run"))
    cells = tuple(replace(cell, seconds=float(number)) for number, cell in enumerate(data.cells))
    found = durations.slowest(replace(data, cells=cells), 3)
    assert [cell.seconds for cell in found] == [len(cells) - 1, len(cells) - 2, len(cells) - 3]
    assert durations.slowest(replace(data, cells=(replace(cells[0], seconds=None),))) == ()
