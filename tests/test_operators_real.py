"""Operators that real runtimes tell of the demo checkpoint, against what they attest and against a known regression."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from guest_spec import spec
from running import bench

from bench.decide.operators import operator_counts
from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments.locked import Environments
from bench.environments.pinned import PinnedEnvironments
from bench.grid import matrix
from bench.places import EXPORTERS, MATRICES, RUNTIMES
from bench.store.pairs import FACTS
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.worker import Operator, Worker

IMGSZ = 160
OPTIONS = matrix.load().options
pytestmark = [
    pytest.mark.skipif(not CHECKPOINT.is_file(), reason=f"{CHECKPOINT.name} is not there yet"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]
x86 = pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="graphs of x86-64")
CONVOLUTIONS = 88
"""Of YOLO11n, depthwise ones included."""


def exported(
    artifacts: Artifacts, option: str, precision: str = "fp32", calibration: tuple[Path, ...] = ()
) -> Artifact:
    entry = OPTIONS[option].making
    source = exported(artifacts, entry.source) if entry.source else None
    exporter = EXPORTERS / f"{entry.exporter}.py"
    return artifacts.ensure(
        ExportRequest(
            weights=CHECKPOINT,
            option=option,
            precision=precision,
            imgsz=IMGSZ,
            batch=1,
            exporter=exporter,
            environment=entry.environment,
            calibration=calibration,
            source=source,
        )
    )


def guest(environments: Environments, option: str) -> Worker:
    python = environments.ensure(OPTIONS[option].environment).python
    adapter = RUNTIMES / f"{OPTIONS[option].runtime}.py"
    return Worker(python, adapter, variables=environments.variables(), threads=1)


def image() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return letterbox(render(1)[0], IMGSZ)[0]


def named(operators: list[Operator]) -> Counter[tuple[str, str]]:
    return Counter((one.name, one.type) for one in operators)


@pytest.mark.parametrize(
    ("option", "convolution"),
    [
        ("onnx", "Conv"),
        ("openvino", ("Convolution ", "GroupConvolution ")),
        ("pytorch", "aten::_convolution"),
        ("torchscript", "aten::_convolution"),
        pytest.param("ncnn", "Convolution", marks=pytest.mark.options),
        pytest.param("mnn", "Convolution", marks=pytest.mark.options),
    ],
)
def test_a_runtime_tells_what_it_executes_and_goes_on_as_before(
    option: str, convolution: str | tuple[str, ...], cache: Path, environments: Environments
) -> None:
    artifact = exported(Artifacts(cache, environments), option)
    with guest(environments, option) as worker:
        worker.load(spec(artifact, IMGSZ, options=OPTIONS[option].precisions["fp32"].runtime_options))
        before = worker.infer(image())
        one, other = worker.profile(2), worker.profile(3)
        after = worker.infer(image())
        attested = worker.stats(attest=True).attested
    assert one is not None
    assert other is not None
    assert np.array_equal(before, after), "the session that is timed was left alone"
    assert named(one) == named(other), "names and types are the same each time"
    counts = operator_counts(one)
    found = {kind: count for kind, count in counts.items() if kind.startswith(convolution)}
    assert sum(found.values()) == CONVOLUTIONS == sum(attested["convolutions"].values())
    assert sum(operator.ms for operator in one) > 0
    if option in ("onnx", "mnn"):
        assert counts == attested["operators"], "the attestation counts the same nodes another way"


@x86
@pytest.mark.options
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_graph_that_grew_and_the_one_that_did_not(
    precision: str, cache: Path, environments: Environments, tmp_path: Path
) -> None:
    """ONNX Runtime 1.24.4 reorders layouts where 1.25.1 does not, and treats a quantised graph as it does."""
    images = tuple(tmp_path / f"{seed}.png" for seed in range(8)) if precision == "int8" else ()
    for seed, path in enumerate(images):
        assert cv2.imwrite(str(path), render(900_000 + seed)[0])
    artifact = exported(Artifacts(cache, environments), "onnx", precision, images)
    counts = []
    for version in ("1.25.1", "1.24.4"):
        with guest(PinnedEnvironments(MATRICES, cache, [f"onnxruntime=={version}"]), "onnx") as worker:
            worker.load(spec(artifact, IMGSZ, precision=precision))
            worker.infer(image())
            operators = worker.profile(1)
        assert operators is not None
        counts.append(operator_counts(operators))
    base, candidate = counts
    if precision == "int8":
        assert base == candidate
        assert sum(base.values()) == 603
    else:
        assert (sum(base.values()), sum(candidate.values())) == (290, 409)
        assert [one["ReorderInput"] + one["ReorderOutput"] for one in counts] == [51, 170]
        rest = [
            {kind: n for kind, n in one.items() if not kind.startswith(("Reorder", "Resize", "Up"))} for one in counts
        ]
        assert rest[0] == rest[1], "nothing else grew; the two resizes are only called otherwise"


def test_a_comparison_lists_operators_and_can_be_asked_for_again(tmp_path: Path) -> None:
    results = shlex.quote(str(tmp_path / "runs"))
    asked = f"ab --options onnx --precisions fp32 --results {results} --candidate current --pairs 3 --inferences 4"
    done = bench(*shlex.split(f"{asked} --minutes 0.1 --profile --format json"))
    assert done.code == 0, done.said  # three pairs are too few to confirm anything
    facts = json.loads(done.said[done.said.index("{\n") :])
    assert facts["operators"]["base"] == facts["operators"]["candidate"] > CONVOLUTIONS
    assert all(one["base"] == one["candidate"] for one in facts["operators"]["types"])
    (folder,) = (tmp_path / "ab").iterdir()
    assert json.loads((folder / FACTS).read_text(encoding="utf-8")) == facts
    stored = pd.read_parquet(folder / "operators.parquet")
    assert stored.side.value_counts().to_dict() == dict.fromkeys(("base", "candidate"), facts["operators"]["base"])
    words = shlex.split(facts["again"])
    again = [word for word in words[words.index("ab") :] if word != "--profile"]
    silent = bench(*again, columns=1000)
    assert silent.code == 0, silent.said
    assert facts["again"].removesuffix(" --profile") in silent.said, "the same options, so the same command"
    assert "operators" not in silent.said, "listed where it is asked for, or where something grew"
