"""The probes for real on the demo checkpoint, each with something it must say no to.

The first run builds the locked environments (some gigabytes); later ones take them from the cache.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench import store
from bench.demo import CHECKPOINT
from bench.environments.locked import Environments
from bench.grid import matrix
from bench.guest.seal import NETWORK
from bench.places import EXPORTERS
from bench.probes import data_only, devices, interchange, no_network, no_python, sandbox
from bench.probes.context import Context
from bench.probes.observation import Observation
from bench.progress import Reporter
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.confinement import Confinement, refusals
from bench.wall.worker import Worker

GUESTS = Path(__file__).parent / "guests"
BROWSER = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
TARGETS = {"tfjs": "browser-wasm"}
pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them"),
]


def exported(artifacts: Artifacts, option: str, imgsz: int) -> Artifact:
    entry = matrix.load().options[option].making
    chain = [*entry.chain, (entry.exporter, entry.environment)]
    made: Artifact | None = None
    for exporter, family in chain:
        path = EXPORTERS / f"{exporter}.py"
        made = artifacts.ensure(ExportRequest(CHECKPOINT, exporter, "fp32", imgsz, 1, path, family, source=made))
    assert made is not None
    return made


def make_context(cache: Path, environments: Environments, folder: Path, imgsz: int, *options: str) -> Context:
    artifacts = Artifacts(cache, environments)
    rows = [
        {"run_id": "r", "cell_id": f"demo/{name}", "model": "demo", "option": name, "precision": "fp32",
         "target": TARGETS.get(name, "cpu"), "imgsz": imgsz, "batch": 1, "threads": 1, "status": "measured",
         "artifact_key": exported(artifacts, name, imgsz).key, "reproduce": ""}
        for name in options
    ]  # fmt: skip
    store.write_table(folder, "cells", rows)
    return Context(folder, matrix.load(), cache, Reporter(Console(file=io.StringIO()), enabled=False))


@pytest.fixture(scope="module")
def context(cache: Path, environments: Environments, tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("run")
    return make_context(cache, environments, folder, 160, "pytorch", "torchscript", "onnx", "openvino")


def by_subject(found: Iterator[Observation]) -> dict[str, str]:
    return {row.subject: row.outcome.value for row in found}


def test_readers_of_one_onnx_file(context: Context) -> None:
    chosen = [reader for reader in interchange.READERS if reader.name in ("openvino", "opencv-dnn", "mnn", "ncnn")]
    assert by_subject(interchange.observe(context, chosen)) == dict.fromkeys(
        ["onnxruntime", "openvino", "opencv-dnn", "mnn", "ncnn"], "yes"
    )


@pytest.mark.parametrize(("imgsz", "told"), [(64, "differs from ONNX Runtime"), (96, "load_failed")])
def test_a_reader_with_other_weights_or_half_a_file_is_a_no(
    imgsz: int, told: str, cache: Path, environments: Environments, tmp_path: Path
) -> None:
    own = make_context(cache, environments, tmp_path, imgsz, "onnx")
    step = interchange.Step(GUESTS / "converting.py", "export-torch")
    bad = interchange.Reader("bad", "through a bad converter", "openvino", steps=(step,))
    *_, row = interchange.observe(own, [bad])
    assert row.outcome.value == "no"
    assert told in row.text


def test_the_cpu_packages_have_no_gpu_built_in(context: Context) -> None:
    for option in ("torchscript", "onnx"):
        family = context.matrix.options[option].environment
        found = by_subject(devices.rows(option, family, devices.ask(context, option)))
        assert (found["cpu"], found["cuda"]) == ("yes", "no")
    found = by_subject(devices.rows("openvino", "openvino", devices.ask(context, "openvino")))
    assert found["intel-gpu"] == "yes"


def test_only_the_checkpoint_runs_code_when_loaded(context: Context) -> None:
    found = {row.option: row for row in data_only.observe(context)}
    assert {name: row.outcome.value for name, row in found.items()} == {
        "pytorch": "no", "torchscript": "yes", "onnx": "yes", "openvino": "yes",
    }  # fmt: skip
    assert "ultralytics" in found["pytorch"].text or "torch.nn" in found["pytorch"].text
    assert "0 of them known as dangerous" in found["pytorch"].text


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.skipif(NETWORK in refusals(), reason=refusals().get(NETWORK, ""))
def test_onnx_runtime_needs_no_network(context: Context) -> None:
    subject = context.subject("onnx")
    x = context.inputs(160)[0]
    spec = context.spec(subject)

    def start(wrapper: Sequence[str], reach: Confinement) -> Worker:
        return context.runtime(subject, wrapper=wrapper, confinement=reach)

    output, traffic = no_network.traced(start, spec, x)
    assert (traffic.sockets, traffic.outside) == (0, ())
    row = no_network.isolated("onnx", start, spec, x, output, context.settings.parity)
    assert row.outcome.value == "yes"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_torchscript_runs_without_python(context: Context) -> None:
    (row,) = no_python.observe(context)
    assert row.outcome.value == "yes", row.text
    assert "0 of Python" in row.text
    assert row.value is not None
    assert row.value < 1e-3


@pytest.fixture(scope="module")
def page(context: Context) -> Iterator[Worker]:
    with context.guest(sandbox.GUEST, "browser") as guest:
        yield guest


def visit(page: Worker, folder: Path, runtime: str, policy: str) -> dict[str, Any]:
    (folder / "runtime.js").write_text(runtime, encoding="utf-8")
    np.zeros(1, np.float32).tofile(folder / "input")
    query = {"runtime": "/own/runtime.js", "shape": "1", "threads": "1", "model": "", "backend": ""}
    arguments = {
        "folders": {"own": str(folder)}, "policy": policy, "query": query, "input": str(folder / "input"),
        "target": "browser-wasm", "sandbox": False, "seconds": 20,
    }  # fmt: skip
    return page.call("visit", arguments, 120)


RUNTIME = """
export async function start() { return {active: ACTIVE}; }
export async function load() {}
export async function run(input) { return {data: new Float32Array([7]), shape: [1]}; }
"""


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
def test_a_policy_without_eval_stops_a_page_that_evaluates(page: Worker, tmp_path: Path) -> None:
    strict = sandbox.policy(())
    evaluating, plain = RUNTIME.replace("ACTIVE", 'eval("true")'), RUNTIME.replace("ACTIVE", "true")
    seen = visit(page, tmp_path, evaluating, strict)
    assert "EvalError" in seen["error"]
    assert seen["violations"] == ["script-src blocks eval"]
    assert not seen["output"]
    assert visit(page, tmp_path, evaluating, "")["error"] == ""
    seen = visit(page, tmp_path, plain, strict)
    assert (seen["error"], seen["shape"], seen["elsewhere"]) == ("", [1], [])
    assert np.fromfile(seen["output"], np.float32).tolist() == [7]


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
def test_a_page_that_asks_elsewhere_is_seen(page: Worker, tmp_path: Path) -> None:
    calling = RUNTIME.replace("ACTIVE", 'await fetch("http://127.0.0.1:9/x", {mode: "no-cors"}).catch(() => 0) !== 1')
    assert visit(page, tmp_path, calling, "")["elsewhere"] == ["http://127.0.0.1:9"]


@pytest.mark.skipif(BROWSER is None or shutil.which("npm") is None, reason="needs Chromium or Chrome, and npm")
def test_tfjs_infers_in_a_sandbox_under_a_policy(cache: Path, environments: Environments, tmp_path: Path) -> None:
    found = {row.subject: row for row in sandbox.observe(make_context(cache, environments, tmp_path, 160, "tfjs"))}
    assert found["content-security-policy wasm"].outcome.value == "yes"
    assert "'wasm-unsafe-eval'" in found["content-security-policy wasm"].text
    assert "'unsafe-eval'" not in found["content-security-policy wasm"].text
    assert found["policy enforced"].outcome.value == "yes"
    assert found["browser sandbox"].outcome.value in ("yes", "unavailable")
