"""What guests may hold of a GPU: handed down with what they load, and set in runtimes that would hold all of it.

On a processor the runtimes' own Python code is shown to take the limits; on a card, that they keep them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from test_gpu_readings import Stored
from test_on_device import answers, on_python_3_11
from test_options_beyond import exported
from test_options_cuda import IMGSZ, needs_gpu, spec_for

from bench.demo.render import render
from bench.environments.locked import Environments
from bench.grid import matrix
from bench.grid.matrix import Cell
from bench.measure import outfit
from bench.measure.gpu import Gpu, first_gpu
from bench.measure.outfit import MEMORY_SHARE, Ingredients, Outfit
from bench.places import MATRICES, RUNTIMES
from bench.progress import Reporter
from bench.reasons import CellProblem
from bench.tasks.dataset import Dataset
from bench.tasks.detect.task import DETECT
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifact, Artifacts
from bench.wall.worker import Worker


def handed_down(card: Gpu | None, target: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a guest of a cell is given to load, where the machine has such a card."""
    monkeypatch.setattr(outfit, "first_gpu", lambda: card)
    read = matrix.load()
    given = Ingredients(
        read, read.sweep("smoke"), folder, DETECT, {}, cast("Dataset", None),
        Environments(MATRICES, folder), Reporter(Console(), enabled=False),
    )  # fmt: skip
    cell = Cell("m", read.options["onnx"], "fp32", target, 320, 1, 1)
    return Outfit(given).load_spec(cell, Artifact("key", folder, {}))


def test_a_guest_is_told_what_it_may_hold_of_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h200 = Gpu(Stored("busy"), "card 0")
    assert h200.total_bytes() == 150_754_820_096
    told = handed_down(h200, "cuda", tmp_path, monkeypatch)
    assert told["gpu_limit_bytes"] == int(MEMORY_SHARE * 150_754_820_096)
    assert "gpu_limit_bytes" not in handed_down(h200, "cpu", tmp_path, monkeypatch)
    assert "gpu_limit_bytes" not in handed_down(None, "cuda", tmp_path, monkeypatch)


ONNX_RUNTIME = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import server
adapter = server.import_adapter(Path(sys.argv[1], "runtimes", "onnx_runtime.py"))
limited, free = adapter.cuda_options({"gpu_limit_bytes": 5000}, tf32=False), adapter.cuda_options({}, tf32=True)
print(json.dumps([limited, free]))
"""


@pytest.mark.options
@on_python_3_11
def test_onnx_runtimes_arena_takes_what_is_asked_for(environments: Environments, tmp_path: Path) -> None:
    """Options of the CUDA provider as ONNX Runtime documents them, whose values are text."""
    limited, free = answers(environments, "onnx", ONNX_RUNTIME, tmp_path)
    assert limited == {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested", "gpu_mem_limit": "5000"}
    assert free == {"use_tf32": "1", "arena_extend_strategy": "kSameAsRequested"}


TENSORFLOW = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import server
adapter = server.import_adapter(Path(sys.argv[1], "runtimes", "_tensorflow.py"))
from tensorflow.python.eager import context
own = context.context()
own._initialize_physical_devices()
card = context.PhysicalDevice("/physical_device:GPU:0", "GPU")
own._physical_devices.append(card)
own._visible_device_list.append(card)
own._memory_growth_map[card] = None
spec = {"target": "cuda", "threads": 1, "gpu_limit_bytes": 3 * 2**30}
for _ in range(2):  # a model is loaded again, at other addresses
    adapter.set_up(spec)
options = own._compute_gpu_options()
(device,) = options.experimental.virtual_devices
print(json.dumps([list(device.memory_limit_mb), os.environ["TF_FORCE_GPU_ALLOW_GROWTH"], adapter._limits()]))
"""
"""TensorFlow's own context makes the options of a device that it is told of; only its first use looks for a driver."""


@pytest.mark.options
@on_python_3_11
def test_tensorflow_is_given_a_limit_and_grows_up_to_it(environments: Environments, tmp_path: Path) -> None:
    assert answers(environments, "tensorflow", TENSORFLOW, tmp_path) == [[3072], "true", [3072]]


# -- on a card -------------------------------------------------------------------------------------------------------


def fails(worker: Worker, spec: dict[str, Any], x: NDArray[np.float32]) -> bool:
    """Whether a guest cannot load a model or infer with it."""
    try:
        worker.load(spec)
        worker.infer(x)
    except CellProblem:
        return True
    return False


@pytest.mark.options
@needs_gpu
@pytest.mark.parametrize(
    ("option", "runtime", "told"),
    [("onnx", "onnx_runtime", "gpu_mem_limit"), ("saved_model", "saved_model", "gpu_mem_limit_mib")],
)
def test_a_guest_on_a_card_keeps_to_its_limit(
    option: str, runtime: str, told: str, artifacts: Artifacts, environments: Environments
) -> None:
    """It says the limit and does not hold all of it, and runs out of memory where that is a megabyte."""
    card = first_gpu()
    total = None if card is None else card.total_bytes()
    assert card is not None
    assert total is not None
    artifact = exported(artifacts, option, "fp32", imgsz=IMGSZ)
    x = letterbox(render(1)[0], IMGSZ)[0]
    family = matrix.load().options[option].environments["cuda"]
    python, variables = environments.ensure(family).python, environments.variables()

    def asked(limit: int) -> dict[str, Any]:
        return spec_for(artifact, "fp32", "cuda") | {"gpu_limit_bytes": limit}

    with Worker(python, RUNTIMES / f"{runtime}.py", variables=variables, threads=1) as worker:
        worker.load(asked(total // 2))
        worker.infer(x)
        held, attested = card.held_bytes(worker.pid), worker.stats(attest=True).attested
        assert held is None or held < total // 2
        assert str(attested[told]).strip("[]") in (str(total // 2), str(total // 2 // 2**20))
    with Worker(python, RUNTIMES / f"{runtime}.py", variables=variables, threads=1) as worker:
        assert fails(worker, asked(2**20), x)
