"""NCNN, MNN and PaddlePaddle for real on the demo checkpoint: what they ran, what they refuse, and how they break.

The first run builds the locked environments (some 4 GB, a minute or two); later ones take them from the cache.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guest_spec import spec
from numpy.typing import NDArray

from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments.locked import Env, Environments
from bench.grid import machine, matrix
from bench.guest.runtimes._stored import stored_as
from bench.places import EXPORTERS, RUNTIMES
from bench.reasons import CellProblem, Reason, Status
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.confinement import UNCONFINED
from bench.wall.worker import Worker

ROOT = Path(__file__).parents[1]
IMGSZ = 160
X86 = sys.platform == "linux" and os.uname().machine == "x86_64"
OPTIONS = matrix.load().options
VULKAN = machine.detect(matrix.load().targets["vulkan"])
needs_vulkan = pytest.mark.skipif(not VULKAN.found, reason=VULKAN.text)
Image = NDArray[np.float32]
pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]

# option, precision, largest difference from PyTorch FP32 in box px and in score
CASES: list[tuple[str, str, float, float]] = [
    ("ncnn", "fp32", 0.05, 1e-4),
    ("ncnn", "bf16", 24.0, 0.2),
    ("ncnn", "fp16", 2.0, 0.05),
    ("mnn", "fp32", 0.05, 1e-4),
    ("mnn", "low", 0.05, 1e-4),
    ("mnn", "fp16", 2.0, 0.05),
    ("mnn", "int8", 24.0, 0.2),
    ("paddle", "fp32", 0.05, 1e-4),
]


@pytest.fixture(scope="module")
def inputs() -> list[Image]:
    return [letterbox(render(seed)[0], IMGSZ)[0] for seed in (1, 2)]


def exported(artifacts: Artifacts, option: str, precision: str, batch: int = 1) -> Artifact:
    """The artifact of an option as its matrix file says it is made."""
    entry = OPTIONS[option].making
    request = ExportRequest(
        weights=CHECKPOINT,
        option=option,
        precision=OPTIONS[option].precisions[precision].artifact or precision,
        imgsz=IMGSZ,
        batch=batch,
        exporter=EXPORTERS / f"{entry.exporter}.py",
        environment=entry.environment,
        source=exported(artifacts, entry.source, "fp32", batch) if entry.source else None,
    )
    return artifacts.ensure(request)


def spec_for(artifact: Artifact, option: str, precision: str, target: str = "cpu", threads: int = 1) -> dict[str, Any]:
    return spec(
        artifact,
        IMGSZ,
        precision=precision,
        target=target,
        threads=threads,
        options=OPTIONS[option].precisions[precision].runtime_options,
    )


def guest(environments: Environments, option: str, threads: int = 1) -> Worker:
    adapter = RUNTIMES / f"{OPTIONS[option].runtime}.py"
    python = environments.ensure(OPTIONS[option].environment).python
    return Worker(python, adapter, variables=environments.variables(), threads=threads)


@pytest.fixture(scope="module")
def reference(artifacts: Artifacts, environments: Environments, inputs: list[Image]) -> list[Image]:
    """PyTorch FP32 on the same inputs."""
    with guest(environments, "pytorch") as worker:
        worker.load(spec_for(exported(artifacts, "pytorch", "fp32"), "pytorch", "fp32"))
        outputs = [worker.infer(x) for x in inputs]
    # Random or broken weights would let everything below agree about nothing.
    assert all(output[:, 4:].max() > 0.3 for output in outputs)
    return outputs


@pytest.mark.parametrize(("option", "precision", "box", "score"), CASES)
def test_each_precision_runs_attests_and_agrees_with_pytorch(
    option: str,
    precision: str,
    box: float,
    score: float,
    artifacts: Artifacts,
    environments: Environments,
    inputs: list[Image],
    reference: list[Image],
) -> None:
    artifact = exported(artifacts, option, precision)
    with guest(environments, option) as worker:
        worker.load(spec_for(artifact, option, precision))
        outputs = [worker.infer(x) for x in inputs]
        again = worker.infer(inputs[0])
        timing = worker.time(3, 1)
        first = worker.stats(attest=True).attested
        attested = worker.stats(attest=True).attested
    assert attested == first
    assert np.array_equal(again, outputs[0])
    assert timing.samples_ms.min() > 0
    if X86:
        assert attested["compute"] == OPTIONS[option].precisions[precision].compute, attested
        assert sum(attested["convolutions"].values()) == 88  # 81 convolutions and 7 depthwise ones, none unseen
        assert attested["declared"] == []
    assert attested["device"] == "cpu"
    assert attested["threads"] == 1
    assert attested["input_shape"] == [1, 3, IMGSZ, IMGSZ]
    assert attested["version"] in artifact.manifest["versions"].values()
    for output, expected in zip(outputs, reference, strict=True):
        difference = np.abs(output - expected)
        assert difference[:, :4].max() < box
        assert difference[:, 4:].max() < score
        assert (difference.max() > 0.05) == (box > 0.05)  # what is rounded shows it, what is not does not
        assert np.corrcoef(output[0, 4:].ravel(), expected[0, 4:].ravel())[0, 1] > 0.95


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("option", ["mnn", "paddle", "ncnn"])
def test_two_threads_are_attested_as_two(option: str, artifacts: Artifacts, environments: Environments) -> None:
    artifact = exported(artifacts, option, "fp32")
    with guest(environments, option, threads=2) as worker:
        worker.load(spec_for(artifact, option, "fp32", threads=2))
        worker.infer(np.zeros((1, 3, IMGSZ, IMGSZ), np.float32))
        attested = worker.stats(attest=True).attested
    assert attested["threads"] == 2
    if X86:
        assert attested["declared"] == []


@pytest.mark.skipif(not X86, reason="Arm's kernels differ")
@pytest.mark.parametrize("option", ["ncnn", "mnn", "paddle"])
def test_a_float32_file_is_attested_as_that_whatever_was_asked_for(
    option: str, artifacts: Artifacts, environments: Environments
) -> None:
    given = spec_for(exported(artifacts, option, "fp32"), option, "fp32") | {"precision": "int8"}
    with guest(environments, option) as worker:
        worker.load(given)
        worker.infer(np.zeros((1, 3, IMGSZ, IMGSZ), np.float32))
        assert worker.stats(attest=True).attested["compute"] == "f32"


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not list threads")
def test_ncnn_attests_the_threads_it_got(artifacts: Artifacts, environments: Environments) -> None:
    """OpenMP may be told to give fewer than a program asks for; NCNN's own option knows nothing of it."""
    given = spec_for(exported(artifacts, "ncnn", "fp32"), "ncnn", "fp32", threads=2)
    python, adapter = environments.ensure("ncnn").python, RUNTIMES / "ncnn_runtime.py"
    limited = environments.variables() | {"OMP_THREAD_LIMIT": "1"}
    with Worker(python, adapter, variables=limited, threads=2) as worker:
        worker.load(given)
        worker.infer(np.zeros((1, 3, IMGSZ, IMGSZ), np.float32))
        said = worker.stats(attest=True).attested
    assert (said["threads"], said["declared"]) == (1, [])


@pytest.mark.skipif(not X86, reason="Arm CPUs with half precision honour the defaults")
def test_ncnns_default_half_precision_is_float32_on_x86(artifacts: Artifacts, environments: Environments) -> None:
    artifact = exported(artifacts, "ncnn", "fp32")
    x = np.random.default_rng(0).random((1, 3, IMGSZ, IMGSZ), dtype=np.float32)
    outputs, options = [], []
    for precision in ("fp32", "fp16"):
        with guest(environments, "ncnn") as worker:
            worker.load(spec_for(artifact, "ncnn", precision))
            outputs.append(worker.infer(x))
            options.append(worker.stats(attest=True).attested["options"]["use_fp16_arithmetic"])
    assert options == [False, True]
    assert np.array_equal(outputs[0], outputs[1])


def test_convolutions_are_told_apart_by_what_they_stored() -> None:
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert stored_as(x) == "f32"
    assert stored_as(x.astype(np.float16).astype(np.float32)) == "f16"
    assert stored_as((x.view(np.uint32) & 0xFFFF0000).view(np.float32) * np.float32(2.0**100)) == "bf16"


@needs_vulkan
@pytest.mark.parametrize(("precision", "compute", "box"), [("fp32", "f32", 0.05), ("fp16", "f16", 2.0)])
def test_ncnn_runs_on_vulkan_and_says_what_it_computed_in(
    precision: str,
    compute: str,
    box: float,
    artifacts: Artifacts,
    environments: Environments,
    inputs: list[Image],
    reference: list[Image],
) -> None:
    artifact = exported(artifacts, "ncnn", precision)
    with guest(environments, "ncnn") as worker:
        loaded = worker.load(spec_for(artifact, "ncnn", precision, "vulkan"))
        outputs = [worker.infer(x) for x in inputs]
        attested = worker.stats(attest=True).attested
    assert (attested["device"], attested["compute"]) == ("vulkan", compute)
    assert loaded.emulated == (attested["provider"] if "llvmpipe" in attested["provider"] else "")
    for output, expected in zip(outputs, reference, strict=True):
        assert np.abs(output - expected)[:, :4].max() < box


@pytest.mark.parametrize(
    ("option", "target", "words"), [("mnn", "vulkan", "built without it"), ("paddle", "kunlun", "paddlepaddle-xpu")]
)
def test_a_package_built_without_a_device_is_skipped_with_words(
    option: str, target: str, words: str, artifacts: Artifacts, environments: Environments
) -> None:
    artifact = exported(artifacts, option, "fp32")
    with guest(environments, option) as worker, pytest.raises(CellProblem, match=words) as problem:
        worker.load(spec_for(artifact, option, "fp32", target))
    assert (problem.value.reason, problem.value.status) == (Reason.TARGET_ABSENT, Status.SKIPPED)


@pytest.mark.parametrize(
    ("option", "precision", "words"),
    [("ncnn", "int8", r"Ultralytics refuses: quantize=8"), ("paddle", "fp16", r"refuses: .*not support CPU")],
)
def test_what_the_exporter_refuses_is_skipped_in_its_own_words(
    option: str, precision: str, words: str, artifacts: Artifacts
) -> None:
    with pytest.raises(CellProblem, match=words) as problem:
        exported(artifacts, option, precision)
    assert problem.value.reason is Reason.PRECISION_UNSUPPORTED
    assert problem.value.status is Status.SKIPPED


@pytest.mark.skipif(not X86, reason="oneDNN is the x86 route")
@pytest.mark.parametrize(
    ("precision", "words"),
    [("bf16", r"Paddle (refuses|accepts) bf16"), ("int8", r"accepts int8 and does not use it: oneDNN ran 88 in f32")],
)
def test_what_paddle_accepts_and_does_not_run_is_skipped_with_what_it_ran(
    precision: str, words: str, artifacts: Artifacts, environments: Environments
) -> None:
    artifact = exported(artifacts, "paddle", precision)
    with guest(environments, "paddle") as worker, pytest.raises(CellProblem, match=words) as problem:
        worker.load(spec_for(artifact, "paddle", precision))
    assert problem.value.reason is Reason.PRECISION_UNSUPPORTED
    assert problem.value.status is Status.SKIPPED


@pytest.mark.parametrize("option", ["ncnn", "mnn", "paddle"])
def test_another_target_or_batch_is_skipped_with_words(
    option: str, artifacts: Artifacts, environments: Environments
) -> None:
    artifact = exported(artifacts, option, "fp32")
    with guest(environments, option) as worker:
        with pytest.raises(CellProblem, match="not on cuda") as problem:
            worker.load(spec_for(artifact, option, "fp32", target="cuda"))
        assert problem.value.reason is Reason.TARGET_UNSUPPORTED
        worker.load(spec_for(artifact, option, "fp32"))
        with pytest.raises(CellProblem) as problem:
            worker.infer(np.zeros((2, 3, IMGSZ, IMGSZ), np.float32))
    assert problem.value.reason is Reason.BATCH_UNSUPPORTED
    assert problem.value.status is Status.SKIPPED


def test_a_batch_is_part_of_an_mnn_artifact(
    artifacts: Artifacts, environments: Environments, inputs: list[Image], reference: list[Image]
) -> None:
    artifact = exported(artifacts, "mnn", "fp32", batch=2)
    with guest(environments, "mnn") as worker:
        worker.load(spec_for(artifact, "mnn", "fp32"))
        output = worker.infer(np.concatenate(inputs))
        assert worker.stats(attest=True).attested["input_shape"] == [2, 3, IMGSZ, IMGSZ]
    assert np.abs(output - np.concatenate(reference)).max() < 0.05


def test_an_ncnn_guest_that_segfaults_costs_its_call_alone(
    artifacts: Artifacts, environments: Environments, inputs: list[Image], reference: list[Image]
) -> None:
    assert OPTIONS["ncnn"].batch_max == 1
    whole, four = exported(artifacts, "ncnn", "fp32"), exported(artifacts, "ncnn", "fp32", batch=4)
    with guest(environments, "ncnn") as survivor:
        survivor.load(spec_for(whole, "ncnn", "fp32"))
        with guest(environments, "ncnn") as doomed:
            doomed.load(spec_for(four, "ncnn", "fp32"))
            with pytest.raises(CellProblem) as problem:
                doomed.infer(inputs[0])
        assert problem.value.reason is Reason.CRASHED
        assert problem.value.status is Status.FAILED
        assert "SIGSEGV during 'infer'" in problem.value.text
        assert np.abs(survivor.infer(inputs[0]) - reference[0]).max() < 0.05


@pytest.mark.parametrize(
    ("option", "file"),
    [
        ("ncnn", "model.ncnn.param"),
        ("ncnn", "model.ncnn.bin"),
        ("mnn", "model.mnn"),
        ("paddle", "model.json"),
        ("paddle", "model.pdiparams"),
    ],
)
def test_a_corrupt_artifact_is_a_load_that_fails(
    option: str, file: str, artifacts: Artifacts, environments: Environments, tmp_path: Path
) -> None:
    artifact = exported(artifacts, option, "fp32")
    shutil.copytree(artifact.directory, tmp_path / "copy")
    broken = tmp_path / "copy" / file
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    with guest(environments, option) as worker, pytest.raises(CellProblem) as problem:
        worker.load(spec_for(dataclasses.replace(artifact, directory=tmp_path / "copy"), option, "fp32"))
    assert problem.value.reason is Reason.LOAD_FAILED
    assert problem.value.status is Status.FAILED


def test_mnns_converter_installs_nothing_anywhere(environments: Environments, tmp_path: Path) -> None:
    """Its import asks a shell for `pip install`.  Here a pip that notes each call comes first on PATH."""
    calls = tmp_path / "calls"
    for name in ("pip", "pip3", "uv"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$0 $@" >> {calls}\n', encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    variables = environments.variables()
    variables["PATH"] = f"{tmp_path}{os.pathsep}{variables['PATH']}"
    env = environments.ensure("export-torch")
    core = Env("core", Path(sys.executable), Path(sysconfig.get_path("purelib")), "", 0)
    before = env.freeze(), core.freeze()
    assert any(package.startswith("numpy==") for package in core.packages())

    (tmp_path / "out").mkdir()
    arguments = {"weights": str(CHECKPOINT), "output_dir": str(tmp_path / "out"), "imgsz": 64, "batch": 1}
    arguments |= {"precision": "fp32", "calibration": []}
    # Unconfined, so that what it might call could leave its trace.
    with Worker(env.python, EXPORTERS / "mnn.py", variables=variables, confinement=UNCONFINED) as worker:
        assert worker.call("export", arguments, 300)["files"] == ["model.mnn"]
    assert not calls.exists()
    assert (env.freeze(), core.freeze()) == before

    # The same import without the exporter's precaution, so that the silence above means something.
    unguarded = [str(env.python), "-B", "-c", "import MNN.tools.mnnconvert"]
    subprocess.run(unguarded, env=variables, cwd=tmp_path, capture_output=True, check=True)
    assert "pip install" in calls.read_text(encoding="utf-8")
    assert (env.freeze(), core.freeze()) == before
