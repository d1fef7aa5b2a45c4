"""Which cells are evaluated by the inferences that are timed, and which alone; no guest is started."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from test_sweep import NATIVE

from bench.grid.matrix import Cell
from bench.grid.request import Request, expand
from bench.measure.instruments.latency import Latency
from bench.measure.prepare import prepare
from bench.measure.session import Session
from bench.progress import Reporter

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")
BOTH = {"accuracy", "latency"}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    given = {"results": str(tmp_path), "run-id": "r", "sweep": "smoke", "options": "torchscript,onnx"}
    given |= {"precisions": "fp32", "imgsz": "64", "images": "2"}
    request = Request(given)
    with prepare(request, expand(request), Reporter(Console(), enabled=False)) as prepared:
        yield prepared


def wanting(session: Session, **wanted: set[str]) -> dict[str, Cell]:
    """The cells of this machine's processor by option, each wanting what is said here."""
    own = {cell.option.id: cell for cell in session.cells if cell.target == NATIVE}
    for option, names in wanted.items():
        for name in names:
            session.want(own[option], name)
    return own


def joining(session: Session, own: dict[str, Cell]) -> set[str]:
    return {option for option, cell in own.items() if session._joining(cell) == ["accuracy"]}


def test_what_is_timed_is_evaluated_at_the_same_time(session: Session) -> None:
    own = wanting(session, pytorch=BOTH, torchscript=BOTH, onnx=BOTH)
    assert joining(session, own) == {"pytorch", "torchscript", "onnx"}


@pytest.mark.parametrize("wanted", ["accuracy", "latency"])
def test_where_only_one_of_them_is_wanted_nothing_joins(session: Session, wanted: str) -> None:
    assert not joining(session, wanting(session, torchscript={wanted}, onnx={wanted}))


def test_a_reference_is_evaluated_before_what_is_evaluated_alone(session: Session) -> None:
    """TorchScript's accuracy is compared with PyTorch's as soon as it is known; of a window that would come later."""
    own = wanting(session, torchscript={"accuracy"}, onnx=BOTH)
    assert session.wanted[own["pytorch"].cell_id] == BOTH
    assert joining(session, own) == {"onnx"}


def test_a_cell_whose_device_turns_out_to_be_imitated_is_evaluated_alone(session: Session) -> None:
    own = wanting(session, torchscript=BOTH, onnx=BOTH)
    session.workshop.note_emulated(own["onnx"], "a cardboard box")
    assert "onnx" not in joining(session, own)
    assert "no latency is taken" in session.workshop.store.row(own["onnx"])["latency_stop"]


def test_what_runs_on_a_device_beside_the_processor_is_evaluated_alone(session: Session) -> None:
    """It would rest whenever an output is fetched, and be timed as who rests."""
    own = wanting(session, torchscript=BOTH, onnx=BOTH)
    targets = session.workshop.matrix.targets
    targets[NATIVE] = targets[NATIVE].model_copy(update={"device": "cuda"})
    assert not joining(session, own)
    assert not session._surely(Latency(), own["onnx"]), "whatever it keeps the CPU busy with"


def test_a_cell_on_a_device_that_may_turn_out_to_be_imitated_is_not_counted_on(session: Session) -> None:
    """Before it is loaded nobody knows, and then the reference must have been evaluated."""
    own = wanting(session, torchscript=BOTH, onnx=BOTH)
    targets = session.workshop.matrix.targets
    targets[NATIVE] = targets[NATIVE].model_copy(update={"cpu_bound": False})
    assert joining(session, own) == {"torchscript", "onnx"}
