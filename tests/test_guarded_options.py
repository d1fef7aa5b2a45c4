"""No measured guest asks for a network: every system call about sockets of every option that runs here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments.javascript import JsEnvironments
from bench.environments.locked import Environments
from bench.grid import entries, machine, matrix
from bench.grid.matrix import Cell
from bench.guest.seal import ISOLATED, NETWORK, WRITES
from bench.measure import exporting
from bench.places import MATRICES
from bench.probes.context import Settings
from bench.probes.no_network import TARGETS, read_trace, tracer, unnamed
from bench.wall.artifacts import Artifacts
from bench.wall.confinement import refusals
from bench.wall.spec import load_spec
from bench.wall.worker import Worker

BROWSERS = ("firefox-wasm", "webkit-wasm")
"""Targets that are guarded besides those that are probed."""
IMGSZ = 160
MATRIX = matrix.load()
KNOWN = entries.parse(Settings, entries.read(MATRICES / "probes.toml"), "probes.toml").known
"""What guests do with sockets though they speak to nobody, by name."""
pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]


def cells() -> list[Cell]:
    """A cell of each option on each of these targets that is here: in FP32, or in the first precision it has."""
    found = []
    for option in MATRIX.options.values():
        for target in (*TARGETS, *BROWSERS):
            here = target in option.targets and machine.detect(MATRIX.targets[target]).found
            names = [name for name, one in option.precisions.items() if not one.targets or target in one.targets]
            if here and names:
                precision = "fp32" if "fp32" in names else names[0]
                found.append(Cell(CHECKPOINT.stem, option, precision, target, IMGSZ, 1, 1))
    return found


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("calibration")
    paths = tuple(folder / f"{seed}.png" for seed in range(8))
    for seed, path in enumerate(paths):
        assert cv2.imwrite(str(path), render(900_000 + seed)[0])
    return paths


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: cell.id)
def test_a_measured_guest_looks_nothing_up_and_opens_no_socket(
    cell: Cell, cache: Path, environments: Environments, calibration: tuple[Path, ...], tmp_path: Path
) -> None:
    images = calibration if cell.spec.calibrate else ()
    stages = exporting.stages(cell, MATRIX, CHECKPOINT, images)
    artifact = exporting.export(stages, Artifacts(cache, environments), 900)
    family = cell.option.javascript
    javascript = JsEnvironments(MATRICES, cache).ensure(family).directory if family else None
    strace = shutil.which("strace")
    assert strace is not None
    guest = Worker(
        environments.ensure(cell.environment).python,
        MATRIX.runtime(cell),
        variables=environments.variables(),
        log_path=tmp_path / "log",
        wrapper=tracer(strace, tmp_path / "trace"),
    )
    with guest:
        target = MATRIX.targets[cell.target].emulates or cell.target
        guest.load(load_spec(cell, artifact, javascript) | {"target": target}, 300)
        guest.infer(np.full((1, 3, IMGSZ, IMGSZ), 0.5, np.float32), 300)
        guest.time(2, timeout=300)
        attested = guest.stats(attest=True).attested
    for what, said in ((NETWORK, ISOLATED), (WRITES, "own folders")):
        assert attested[what].startswith(refusals().get(what, said))
    seen = read_trace(tmp_path / "trace")
    assert not unnamed(cell.option.id, seen, KNOWN), "a call that is not named, with its cause, in probes.toml"
    if family is None:  # a browser does not always do all that it may
        named = {call for one in KNOWN if cell.option.id in one.options for call in one.calls}
        assert set(seen.calls) == named, "what is named in probes.toml is done"
        assert not seen.outside
