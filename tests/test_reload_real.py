"""Every option's model loaded once more in its process, as the pairs of `ab` and `check` do, or in one that was forked.

Some runtimes do a thing once in a process (name their delegate, start their threads, fix their settings): what a guest
attests must be read all the same of the model that it loaded last.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments.locked import Environments
from bench.grid import machine, matrix
from bench.grid.matrix import Cell
from bench.measure import exporting
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifacts
from bench.wall.child import Child
from bench.wall.spec import load_spec
from bench.wall.worker import Worker

IMGSZ = 160
MATRIX = matrix.load()
NATIVE = next(name for name in ("cpu", "arm-cpu") if machine.detect(MATRIX.targets[name]).found)
THREADS = min(2, len(machine.available_cpus()))
MEMORY = ("memory_mb", "said")
"""What an attestation tells of one load and not of the other: where a library keeps memory, and what it logged."""
pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]


def cells() -> list[Cell]:
    """A cell in FP32 of each option that computes on this processor, in the guest's own process."""
    return [
        Cell(CHECKPOINT.stem, option, "fp32", NATIVE, IMGSZ, 1, THREADS)
        for option in MATRIX.options.values()
        if NATIVE in option.targets and "fp32" in option.precisions and option.javascript is None
    ]


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    return letterbox(render(1)[0], IMGSZ)[0]


def in_a_fork(
    parent: Worker, spec: dict[str, Any], x: NDArray[np.float32]
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The output of a guest that another forks once it has imported its runtime, and what it attests."""
    with Child(parent) as child:
        child.load(spec)
        output = child.infer(x)
        child.time(2)
        return output, child.stats(attest=True).attested


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: cell.id)
def test_a_model_that_is_loaded_again_computes_and_attests_the_same(
    cell: Cell, artifacts: Artifacts, environments: Environments, x: NDArray[np.float32]
) -> None:
    artifact = exporting.export(exporting.stages(cell, MATRIX, CHECKPOINT, ()), artifacts, 900)
    spec = load_spec(cell, artifact, None)
    cpus = machine.available_cpus()[-THREADS:]
    python = environments.ensure(cell.environment).python
    variables = environments.variables()

    def guest_of_its_own() -> Worker:
        return Worker(python, MATRIX.runtime(cell), variables=variables, threads=THREADS, cpus=cpus)

    with guest_of_its_own() as parent, guest_of_its_own() as guest:
        loaded = guest.load(spec)
        assert loaded.movable
        first = guest.infer(x)
        before = guest.stats(attest=True).attested
        for _ in range(2):
            assert guest.load(spec, elsewhere=True).movable
            again = guest.infer(x)
        guest.time(2)
        after = guest.stats(attest=True).attested
        forked, there = in_a_fork(parent, spec, x)
    assert np.array_equal(forked, first)
    assert first[:, 4:].max() > 0.3
    assert np.allclose(again, first, rtol=0, atol=1e-4)
    told = [{key: value for key, value in said.items() if key not in MEMORY} for said in (before, after, there)]
    assert told[1] == told[0]
    assert told[2] == told[0]
    assert after["threads"] == THREADS
