"""What only an NVIDIA GPU can show; skipped elsewhere.

The environments of its options are built, or brought by the variables BENCH_ENV_*, so that this runs as well where
there is a GPU and no package index.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_gpu_readings import turn as stored
from test_options_cuda import GPU, request_for, run, spec_for

from bench.demo.render import render
from bench.environments.locked import Environments
from bench.grid import matrix
from bench.measure.gpu import ENERGY_S, Gpu, first_gpu
from bench.places import RUNTIMES
from bench.stats.turns import OTHERS_LIMIT, OnGpu, contaminated
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifacts
from bench.wall.worker import Worker

IMGSZ = 320
pytestmark = [pytest.mark.options, pytest.mark.skipif(not GPU.found, reason=GPU.text)]
Array = NDArray[np.float32]

# Large products without a pause: what another user of the card may do.
BUSY = """
import torch
x = torch.randn(4096, 4096, device="cuda")
while True:
    x @ x
    torch.cuda.synchronize()
"""


@pytest.fixture(scope="module")
def x() -> Array:
    return letterbox(render(1)[0], IMGSZ)[0]


@pytest.fixture(scope="module")
def card() -> Gpu:
    found = first_gpu()
    assert found is not None, "nvidia-smi lists a card, so NVML knows it"
    return found


def boxes(
    option: str, precision: str, stored: str, artifacts: Artifacts, environments: Environments, x: Array
) -> Array:
    """Raw boxes of an option on the card."""
    options = matrix.load().options[option].precisions[precision].runtime_options
    spec = spec_for(artifacts.ensure(request_for(option, stored)), precision, "cuda") | {"options": dict(options)}
    (output,), attested = run(environments, f"{option}-cuda", option, spec, [x])
    assert attested["compute"] == {"fp32": "f32"}.get(precision, precision)
    return output[:, :4]


def test_float32_of_an_archive_is_that_of_the_checkpoint(
    artifacts: Artifacts, environments: Environments, x: Array
) -> None:
    """Within a hundredth of a pixel on the same card; an archive that is traced with TF32 is further away."""
    eager = boxes("pytorch", "fp32", "fp32", artifacts, environments, x)
    archive = boxes("torchscript", "fp32", "fp32", artifacts, environments, x)
    rounded = boxes("torchscript", "tf32", "tf32", artifacts, environments, x)
    assert np.abs(archive - eager).max() < 0.01
    assert np.abs(rounded - eager).max() > 0.02


@pytest.fixture
def guest(artifacts: Artifacts, environments: Environments, x: Array) -> Iterator[Worker]:
    """A guest that has inferred on the card."""
    python = environments.ensure("torchscript-cuda").python
    variables = environments.variables()
    with Worker(python, RUNTIMES / "torchscript.py", variables=variables, threads=1) as worker:
        worker.load(spec_for(artifacts.ensure(request_for("torchscript")), "fp32", "cuda"))
        worker.infer(x)
        worker.time(20)
        yield worker


def told_of(worker: Worker, card: Gpu) -> OnGpu:
    """What the card tells of a turn that is long enough for its energy counter."""
    inferences = int(2 * ENERGY_S * 1e3 / np.median(worker.time(20).samples_ms))
    end = card.watch()
    worker.time(inferences)
    return end(inferences)


def test_the_card_tells_of_a_turn_and_of_the_guests_memory(guest: Worker, card: Gpu) -> None:
    told = told_of(guest, card)
    assert told.sm_mhz is not None
    assert told.sm_mhz > 0
    assert told.temperature_c is not None
    assert 10 < told.temperature_c < 110
    assert told.energy_j is None or 1e-4 < told.energy_j < 100, "a card of before 2017 counts none"
    held, free = card.held_bytes(guest.pid), card.free_bytes()
    assert held is None or held > 100e6, "a context of CUDA alone holds as much"
    assert free is not None
    assert free > 0


@pytest.fixture
def neighbour(environments: Environments, tmp_path: Path) -> Iterator[int]:
    """A process on the card that is no child of this one: the shell that started it has ended."""
    python, program = environments.ensure("torchscript-cuda").python, tmp_path / "busy.py"
    program.write_text(BUSY, encoding="utf-8")
    line = f"'{python}' -s '{program}' > /dev/null 2>&1 & echo $!"
    shell = subprocess.run(["sh", "-c", line], env=environments.variables(), capture_output=True, text=True, check=True)
    pid = int(shell.stdout)
    yield pid
    os.kill(pid, signal.SIGKILL)


def test_another_process_on_the_card_contaminates_a_turn(guest: Worker, card: Gpu, neighbour: int) -> None:
    deadline = time.monotonic() + 60
    while card.held_bytes(neighbour) is None and time.monotonic() < deadline:
        time.sleep(0.2)
    if card.held_bytes(guest.pid) is None:
        pytest.skip("the driver calls processes by the numbers of another system")
    time.sleep(2)  # what the driver tells of a process is smoothed over seconds
    told = told_of(guest, card)
    assert told.others is not None
    assert told.others > OTHERS_LIMIT
    assert contaminated([stored(number, told) for number in range(3)]) == [True] * 3
