"""Times of a device alone: told by guests, kept beside the time that decides, and shown where there are any.

What a CUDA device would do of it is shown with the real libraries' own functions where a card stands in for, and on a
card where there is one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from sweeps import LATENCY_OF_SECONDS, matrices_with
from test_options_cuda import IMGSZ, needs_gpu, request_for, spec_for
from test_sweep import run

from bench import store
from bench.decide.compare import compare
from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments.locked import Environments
from bench.grid.matrix import Cell
from bench.measure.on_device import SAMPLES, WARMUP, device_times
from bench.measure.timing import _process_columns
from bench.measure.workshop import Workshop
from bench.places import EXPORTERS, GUEST, RUNTIMES
from bench.reasons import CellProblem, Reason
from bench.report import tables
from bench.stats.launches import Launch
from bench.store import reading
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifacts, ExportRequest
from bench.wall.worker import Worker
from bench.words.locale import texts

GUESTS = Path(__file__).parent / "guests"
X = np.zeros((1, 3, 10, 10), np.float32)
CELL = cast("Cell", SimpleNamespace(id="tensorrt-fp32-cuda-320"))


def guest(adapter: str = "on_device") -> Worker:
    return Worker(Path(sys.executable), GUESTS / f"{adapter}.py", variables={"PATH": os.environ["PATH"]})


def loaded(worker: Worker, **options: Any) -> Worker:
    manifest = {"output": {"layout": "channels_first", "units": "px", "shape": [1, 6, 5]}}
    worker.load({"manifest": manifest, "imgsz": 10, "target": "cpu", "options": options})
    worker.infer(X)
    return worker


def told(worker: Worker, *before: Launch) -> tuple[dict[str, float | None], list[str]]:
    """What is noted of a guest's launch, and what is said of it."""
    said: list[str] = []
    workshop = cast("Workshop", SimpleNamespace(progress=SimpleNamespace(message=said.append)))
    return device_times(workshop, CELL, worker, before), said


def launch(alone: float | None, graph: float | None) -> Launch:
    return Launch("c", 0, 0, 1.0, 1.0, 1.0, 1, alone, graph)


def test_times_of_the_device_reach_the_core_without_those_that_warm_it_up() -> None:
    with guest() as worker:
        loaded(worker, alone=3.5, graph=2.5)
        alone, graph = (worker.time_on_device(4, 2, graph=graph) for graph in (False, True))
        assert alone is not None
        assert graph is not None
        assert (alone.tolist(), graph.tolist()) == ([3.5] * 4, [2.5] * 4)
        assert told(worker) == ({"device_ms": 3.5, "device_graph_ms": 2.5}, [])
        assert WARMUP >= 2
        assert SAMPLES > WARMUP


@pytest.mark.parametrize(("adapter", "options"), [("linear", {}), ("on_device", {"alone": None, "graph": None})])
def test_a_runtime_that_does_not_tell_them_is_no_error(adapter: str, options: dict[str, Any]) -> None:
    with guest(adapter) as worker:
        assert told(loaded(worker, **options)) == ({"device_ms": None, "device_graph_ms": None}, [])


@pytest.mark.parametrize("answer", [[1.0], [1.0, 2.0, 0.0], [1.0, 2.0, -1.0], ["a", 2.0, 3.0], [1.0, 2.0, None]])
def test_an_answer_that_is_no_times_is_a_breach_of_the_protocol(answer: Any) -> None:
    with guest() as worker:
        loaded(worker, alone=answer)
        with pytest.raises(CellProblem) as problem:
            worker.time_on_device(3, 0, graph=False)
    assert problem.value.reason is Reason.PROTOCOL


def test_without_an_input_there_is_nothing_to_time() -> None:
    with guest() as worker:
        worker.load({"manifest": {"output": {}}, "imgsz": 10, "target": "cpu", "options": {"alone": 1.0}})
        with pytest.raises(CellProblem, match="before any infer gave an input"):
            worker.time_on_device(3, 0, graph=False)


def test_what_cannot_be_captured_costs_the_graphs_time_alone_and_is_said_once() -> None:
    with guest() as worker:
        loaded(worker, alone=3.5, graph="a loop cannot be captured")
        first, said = told(worker)
        assert first == {"device_ms": 3.5, "device_graph_ms": None}
        assert len(said) == 1
        assert said[0].startswith("tensorrt-fp32-cuda-320 has no device_graph_ms, a second figure that decides nothing")
        assert "a loop cannot be captured" in said[0]
        assert told(worker, launch(3.5, None)) == (first, [])
        assert worker.infer(X).shape == (1, 6, 5), "the guest goes on"


def test_a_guest_that_dies_of_it_leaves_the_cell_its_times() -> None:
    with guest() as worker:
        loaded(worker, alone=3.5, graph=2.5)
        os.kill(worker.pid, 9)
        found, said = told(worker)
        assert found == {"device_ms": None, "device_graph_ms": None}
        assert len(said) == 1


def test_a_cell_has_the_median_of_the_launches_that_told_it() -> None:
    columns = _process_columns([launch(3.0, None), launch(4.0, 2.0), launch(8.0, 3.0)])
    assert (columns["device_ms"], columns["device_ms_low"]) == (4.0, None), "three launches bound no median"
    assert columns["device_graph_ms"] == 2.5
    assert "device_ms" not in _process_columns([launch(None, None)])


TELLING = """


def time_on_device(_model, _prepared, n, *, graph):
    return [1.5 if graph else 2.5] * n
"""
"""Makes a runtime tell times of a device."""
SWEEP = """
description = "Half a minute: for the tests of the harness."
imgsz = [160]
images = 8
options = ["onnx"]
precisions = ["fp32"]
targets = ["cpu"]
"""


def test_a_run_keeps_them_beside_the_times_that_decide(tmp_path: Path) -> None:
    matrices = matrices_with(SWEEP + LATENCY_OF_SECONDS, tmp_path / "house")
    code, said, directory = run(matrices, tmp_path / "without", "-k", "latency")
    assert code == 0, said
    guests = shutil.copytree(GUEST, matrices.parent / GUEST.name)
    with (guests / "runtimes" / "onnx_runtime.py").open("a", encoding="utf-8") as adapter:
        adapter.write(TELLING)
    code, said, other = run(matrices, tmp_path / "with", "-k", "latency")
    assert code == 0, said
    before, cells = (store.read_table(one, "cells").set_index("option") for one in (directory, other))
    assert before[["device_ms", "device_graph_ms"]].isna().to_numpy().all(), "no adapter tells them on a processor"
    onnx, pytorch = cells.loc["onnx"], cells.loc["pytorch"]
    assert (onnx.device_ms, onnx.device_graph_ms) == (2.5, 1.5)
    assert np.isnan([pytorch.device_ms, pytorch.device_graph_ms]).all()
    launches = store.read_table(other, "launches")
    ours = launches[launches.cell_id == onnx.cell_id]
    assert ours.device_ms.tolist() == [2.5] * len(ours)
    assert len(ours) >= 3
    titles = [
        [column.title for column in tables.latency_detail(reading.load(one), texts("report", "en")).columns]
        for one in (directory, other)
    ]
    assert titles[1] == [*titles[0], "GPU alone", "CUDA graph"]
    figures = {figure.metric for figure in compare(other, "onnx", "pytorch")}
    assert "time" in figures
    assert not {"device_ms", "device_graph_ms"} & figures, "PyTorch has none to compare it with"


# -- the adapters, on a card that stands in ---------------------------------------------------------------------------

CARD = """
import json, re, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
import server
adapter = server.import_adapter(Path(sys.argv[1], "runtimes", "tensorrt.py"))
cuda, NODES = adapter.cuda, 10

class Card:
    # A stream and its clock. Every call must have as many arguments as the real function, which is looked up.
    def __init__(self):
        self.clock, self.nodes, self.times, self.copies = 0.0, None, {}, 0

    def __getattr__(self, name):
        real = getattr(cuda, name)
        if not name.startswith("cuda") or not callable(real) or isinstance(real, type):
            return real
        wanted = re.match(name + r"\\(([^)]*)\\)", real.__doc__).group(1)
        def call(*given):
            assert len(given) == len([one for one in wanted.split(",") if one.strip()]), (name, given)
            if not hasattr(type(self), "do_" + name):
                return real(*given)
            made = getattr(self, "do_" + name)(*given)
            return made if isinstance(made, tuple) else (cuda.cudaError_t.cudaSuccess, made)
        return call

    def do_cudaMemcpyAsync(self, *given):
        assert self.nodes is None, "a copy is no part of the graph"
        self.clock += 3.0
        self.copies += 1

    def do_cudaStreamSynchronize(self, stream):
        assert self.nodes is None, "a stream that is captured cannot be waited for"

    def do_cudaEventCreate(self):
        return object()

    def do_cudaEventRecord(self, event, stream):
        self.times[event] = self.clock

    def do_cudaEventSynchronize(self, event):
        assert event in self.times

    def do_cudaEventElapsedTime(self, begin, end):
        return self.times[end] - self.times[begin]

    def do_cudaStreamBeginCapture(self, stream, mode):
        assert mode in cuda.cudaStreamCaptureMode
        assert self.nodes is None
        self.nodes = 0

    def do_cudaStreamEndCapture(self, stream):
        nodes, self.nodes = self.nodes, None
        return nodes

    def do_cudaGraphInstantiate(self, graph, flags):
        assert graph == NODES and flags == 0
        return graph

    def do_cudaGraphLaunch(self, graph, stream):
        assert self.nodes is None
        self.clock += 0.1 * graph

class Context:
    # Its kernels take longer to hand out one by one than to run. `capturable`: what it answers while it is captured.
    def __init__(self, card, capturable=True):
        self.card, self.capturable = card, capturable

    def execute_async_v3(self, stream):
        assert stream == 7
        if self.card.nodes is None:
            self.card.clock += 0.5 * NODES
            return True
        self.card.nodes += NODES
        return self.capturable

def timed(graph, capturable=True):
    card = adapter.cuda = Card()
    x, result = np.zeros((1, 3, 2, 2), np.float32), np.zeros((1, 6, 5), np.float32)
    model = adapter.Model(None, None, Context(card, capturable), 7, "images", "output0", 100, 200, result)
    try:
        said = adapter.time_on_device(model, x, 4, graph=graph)
    except adapter.EngineUnusable as error:
        said = str(error)
    return said, card.copies, card.nodes

print(json.dumps([timed(False), timed(True), timed(True, capturable=False)]))
"""
on_python_3_11 = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")


def answers(environments: Environments, family: str, program: str, folder: Path) -> Any:
    script = folder / "card.py"
    script.write_text(program, encoding="utf-8")
    command = [str(environments.ensure(family).python), str(script), str(GUEST)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.options
@on_python_3_11
def test_an_engine_is_timed_between_events_without_copies_and_as_a_graph(
    environments: Environments, tmp_path: Path
) -> None:
    """Ten kernels that take 0.5 ms each to hand out and 0.1 ms to replay; the copies of one inference stay outside."""
    alone, graph, refused = answers(environments, "tensorrt-rtx", CARD, tmp_path)
    assert alone == [[5.0] * 4, 2, None]
    assert graph == [pytest.approx([1.0] * 4), 2, None]
    said, copies, capturing = refused
    assert said == "TensorRT for RTX 1.7.1.116 refused to run the engine; see the log."
    assert (copies, capturing) == (2, None), "the capture is ended"


TORCH = """
import contextlib, inspect, json, sys
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import torch
import server
_torch = server.import_adapter(Path(sys.argv[1], "runtimes", "_torch.py"))
real = {name: getattr(torch.cuda, name) for name in ("Event", "graph", "CUDAGraph", "Stream")}
assert callable(real["CUDAGraph"].replay) and callable(real["Event"].elapsed_time)
clock = SimpleNamespace(now=0.0, captured=None)

class Event:
    def __init__(self, enable_timing):
        inspect.signature(real["Event"].__new__).bind(None, enable_timing=enable_timing)
        assert enable_timing
    def record(self, stream):
        self.at = clock.now
    def synchronize(self):
        assert clock.captured is None
    def elapsed_time(self, end):
        return end.at - self.at

class Graph:
    nodes = 0
    def replay(self):
        clock.now += 0.1 * self.nodes

@contextlib.contextmanager
def capture(captured, *, stream):
    inspect.signature(real["graph"].__init__).bind(None, captured, stream=stream)
    clock.captured = captured
    yield
    clock.captured = None

torch.cuda.Event, torch.cuda.CUDAGraph, torch.cuda.graph = Event, Graph, capture
torch.cuda.Stream, torch.cuda.stream = lambda device: "a stream", lambda stream: contextlib.nullcontext()

def network(x):
    assert torch.is_inference_mode_enabled()
    if clock.captured is None:
        clock.now += 5.0
    else:
        clock.captured.nodes += 10
    return x, None

given = SimpleNamespace(to=lambda device: torch.zeros(1, 3, 2, 2))
card = _torch.Model(network, SimpleNamespace(type="cuda"), torch.float32, (1, 3, 2, 2))
processor = _torch.Model(network, torch.device("cpu"), torch.float32, (1, 3, 2, 2))
print(json.dumps([
    _torch.time_on_device(card, given, 4, graph=False),
    _torch.time_on_device(card, given, 4, graph=True),
    _torch.time_on_device(processor, given, 4, graph=True),
]))
"""


@pytest.mark.options
@on_python_3_11
def test_a_network_of_pytorch_is_timed_likewise(environments: Environments, tmp_path: Path) -> None:
    """Kernels that take 5 ms to hand out and 1 ms to replay; a processor has no events."""
    alone, graph, processor = answers(environments, "torchscript", TORCH, tmp_path)
    assert alone == [5.0] * 4
    assert graph == pytest.approx([1.0] * 4)
    assert processor is None


# -- on a card -------------------------------------------------------------------------------------------------------


@pytest.mark.options
@needs_gpu
@pytest.mark.parametrize("option", ["pytorch", "torchscript", "tensorrt"])
def test_a_card_tells_both_times_and_computes_as_before(
    option: str, artifacts: Artifacts, environments: Environments
) -> None:
    family = option if option == "tensorrt" else f"{option}-cuda"
    source = artifacts.ensure(request_for("onnx" if option == "tensorrt" else option))
    artifact = source
    if option == "tensorrt":
        exporter = EXPORTERS / "tensorrt.py"
        artifact = artifacts.ensure(
            ExportRequest(CHECKPOINT, option, "fp32", IMGSZ, 1, exporter, "export-tensorrt", source=source)
        )
    x = letterbox(render(1)[0], IMGSZ)[0]
    python, variables = environments.ensure(family).python, environments.variables()
    with Worker(python, RUNTIMES / f"{option}.py", variables=variables, threads=1) as worker:
        worker.load(spec_for(artifact, "fp32", "cuda"))
        before = worker.infer(x)
        for graph in (False, True):
            samples = worker.time_on_device(SAMPLES, WARMUP, graph=graph)
            assert samples is not None
            assert samples.shape == (SAMPLES,)
        assert np.array_equal(worker.infer(x), before)
        assert worker.stats(attest=True).attested["device"] == "cuda"
