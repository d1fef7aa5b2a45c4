"""TensorRT's lean runtime, as far as a machine without an NVIDIA GPU goes: what is installed, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.environments.locked import Env, Environments
from bench.grid import machine, matrix
from bench.places import GUEST, MATRICES, RUNTIMES
from bench.reasons import CellProblem, Reason, Status
from bench.wall.worker import Worker

MATRIX = matrix.load()
LEAN, FULL = MATRIX.options["tensorrt-lean"], MATRIX.options["tensorrt"]
GPU = machine.detect(MATRIX.targets["cuda"])
LOOK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from guest import tensorrts
trt = tensorrts.library()
used = ("ILogger", "Runtime", "TensorIOMode", "LayerInformationFormat", "float32")
print(json.dumps({
    "name": tensorrts.name(), "versions": tensorrts.versions(), "version": trt.__version__,
    "lacks": [name for name in used if not hasattr(trt, name)],
    "told": hasattr(trt.ICudaEngine, "create_engine_inspector"), "builds": hasattr(trt, "Builder"),
}))
"""
pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
    pytest.mark.skipif(sys.platform != "linux", reason="the package is for Linux"),
]


@pytest.fixture(scope="module")
def env(environments: Environments) -> Env:
    return environments.ensure(LEAN.environment)


def test_it_has_what_the_runtime_module_uses_and_no_builder(env: Env) -> None:
    command = [str(env.python), "-s", "-c", LOOK, str(GUEST.parent)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    version = "11.4.0.106"
    assert said == {
        "name": "TensorRT lean runtime", "versions": {"tensorrt-lean-cu13-bindings": version}, "version": version,
        "lacks": [], "told": True, "builds": False,
    }  # fmt: skip


def test_what_it_takes_on_disk_is_mostly_the_runtime(env: Env) -> None:
    """106 MB of libraries with numpy and CUDA's bindings beside them; docs/method.md tells the sum."""
    (libraries,) = (env.python.parents[1] / "lib").glob("python3*/site-packages/tensorrt_lean_libs")
    assert sum(path.stat().st_size for path in libraries.rglob("*.so*")) / 1e6 == pytest.approx(106, rel=0.02)
    assert env.bytes / 1e6 == pytest.approx(198, rel=0.05)


def test_its_engines_are_those_of_the_release_that_runs_them() -> None:
    """A version-compatible engine works with its own release and later ones, so the locks go together."""
    locks = [(MATRICES / "envs" / f"{one}.txt").read_text("utf-8") for one in ("tensorrt-lean", "export-tensorrt")]
    (lean,), (full,) = ([line for line in lock.splitlines() if "cu13-libs==" in line] for lock in locks)
    assert lean.partition("==")[2] == full.partition("==")[2]
    assert {LEAN.export.environment, LEAN.export.device} == {FULL.export.environment, FULL.export.device}


@pytest.mark.skipif(GPU.found, reason="has an NVIDIA GPU")
@pytest.mark.parametrize(
    ("target", "words", "reason"),
    [
        ("cpu", "TensorRT lean runtime runs on the target cuda, not on cpu", Reason.TARGET_UNSUPPORTED),
        ("cuda", "CUDA finds no device", Reason.TARGET_ABSENT),
    ],
)
def test_without_a_card_it_says_what_is_missing(
    target: str, words: str, reason: Reason, env: Env, environments: Environments, tmp_path: Path
) -> None:
    manifest = {"entry": "model.engine", "output": {"layout": "channels_first", "units": "px"}}
    spec = {"artifact_dir": str(tmp_path), "manifest": manifest, "target": target, "imgsz": 320}
    runtime = RUNTIMES / f"{LEAN.runtime}.py"
    with (
        Worker(env.python, runtime, variables=environments.variables()) as guest,
        pytest.raises(CellProblem, match=words) as problem,
    ):
        guest.load(spec)
    assert (problem.value.reason, problem.value.status) == (reason, Status.SKIPPED)
