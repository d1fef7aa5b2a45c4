"""Runtimes in a page on WebGPU, in Firefox and in WebKit: what they compute, what they say ran, and what is missing.

Without a GPU Chromium draws in software, without half precision.  Firefox and WebKit are run where they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guest_spec import spec
from processes import below, left

from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments.javascript import JsEnvironments
from bench.environments.locked import Environments
from bench.grid import machine, matrix
from bench.places import EXPORTERS, GUEST, ROOT, RUNTIMES
from bench.reasons import CellProblem, Reason, Status
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.worker import Worker
from bench.words.messages import messages

IMGSZ = 160
Image = np.ndarray[Any, np.dtype[np.float32]]
READ = matrix.load()
OTHERS = {"firefox-wasm": "Firefox", "webkit-wasm": "WebKit"}
"""Browsers that are not Chromium, by target."""
OPTIONS = ("tfjs", "ort-web", "litert-js")
pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]


def needs(target: str) -> pytest.MarkDecorator:
    """Skips where the browser of a target is not here."""
    presence = machine.detect(READ.targets[target])
    lacking = target == "webkit-wasm" and "WebKitWebDriver" in presence.text and not shutil.which("weston")
    return pytest.mark.skipif(not presence.found or lacking, reason=f"needs {READ.targets[target].needs}")


@pytest.fixture(scope="module")
def artifacts(cache: Path, environments: Environments) -> Artifacts:
    return Artifacts(cache, environments)


def exported(artifacts: Artifacts, option: str, precision: str = "fp32") -> Artifact:
    export = READ.options[option].making
    source = None
    for exporter, family in (*export.chain, (export.exporter, export.environment)):
        named = precision if exporter == export.exporter else "fp32"
        path = EXPORTERS / f"{exporter}.py"
        source = artifacts.ensure(ExportRequest(CHECKPOINT, exporter, named, IMGSZ, 1, path, family, source=source))
    assert source is not None
    return source


def guest(
    environments: Environments, option: str, *, threads: int = 1, variables: Mapping[str, str] | None = None
) -> Worker:
    """A guest of an option in a browser, with as many seconds as software needs."""
    python, adapter = environments.ensure("browser").python, RUNTIMES / f"{READ.options[option].runtime}.py"
    cpus = machine.available_cpus()[-threads:]
    return Worker(
        python, adapter, variables={**environments.variables(), **(variables or {})}, threads=threads, cpus=cpus
    )


def asked(
    artifact: Artifact, option: str, target: str, cache: Path, precision: str = "fp32", threads: int = 1
) -> dict[str, Any]:
    family = READ.options[option].javascript
    assert family is not None
    packages = JsEnvironments(ROOT / "matrices", cache).ensure(family).directory
    return spec(artifact, IMGSZ, target=target, precision=precision, threads=threads, javascript=packages)


@pytest.fixture(scope="module")
def x() -> Image:
    return letterbox(render(1)[0], IMGSZ)[0]


@pytest.fixture(scope="module")
def expected(artifacts: Artifacts, environments: Environments, x: Image) -> Image:
    """PyTorch FP32 on the same input."""
    artifact = exported(artifacts, "pytorch")
    adapter = RUNTIMES / "pytorch.py"
    with Worker(environments.ensure("pytorch").python, adapter, variables=environments.variables()) as worker:
        worker.load(spec(artifact, IMGSZ))
        return worker.infer(x)


# -- WebGPU ----------------------------------------------------------------------------------------------------------


@needs("browser-webgpu")
@pytest.mark.parametrize("option", OPTIONS)
def test_webgpu_agrees_with_pytorch_and_tells_kernels_and_adapter(
    option: str, artifacts: Artifacts, environments: Environments, cache: Path, x: Image, expected: Image
) -> None:
    with guest(environments, option) as worker:
        loaded = worker.load(asked(exported(artifacts, option), option, "browser-webgpu", cache), timeout=300)
        difference = np.abs(worker.infer(x, timeout=300) - expected)
        attested = worker.stats(attest=True).attested
    assert (attested["device"], attested["compute"], attested["declared"]) == ("webgpu", "f32", [])
    assert attested["input_shape"] == [1, 3, IMGSZ, IMGSZ]
    assert attested["browser"].startswith("Chromium 1")
    # 88 convolutions, which no library computes in less than as many dispatches; none of them in half precision.
    assert attested["kernels"].keys() == {"f32"}
    assert attested["kernels"]["f32"] >= 88
    adapter = attested["adapter"]
    assert adapter["api"] == "webgpu"
    assert adapter["vendor"]
    assert attested["renderer"] == adapter["renderer"]
    assert attested["software"] == bool(loaded.emulated)
    assert adapter["fallback"] in (attested["software"], None)
    assert difference[:, :4].max() < 0.05
    assert difference[:, 4:].max() < 1e-4


@needs("browser-webgpu")
def test_the_providers_of_onnx_runtimes_nodes_are_those_of_its_profile(
    artifacts: Artifacts, environments: Environments, cache: Path, x: Image
) -> None:
    with guest(environments, "ort-web") as worker:
        worker.load(asked(exported(artifacts, "ort-web"), "ort-web", "browser-webgpu", cache), timeout=300)
        worker.infer(x, timeout=300)
        attested = worker.stats(attest=True).attested
    assert attested["provider"] == "WebGpuExecutionProvider"
    assert sum(attested["convolutions"].values()) == 88
    assert all(name.endswith(" float on WebGpuExecutionProvider") for name in attested["convolutions"])


@needs("browser-webgpu")
@pytest.mark.parametrize("option", ["ort-web", "litert-js"])
def test_half_precision_is_computed_in_it_or_refused_with_what_the_adapter_lacks(
    option: str, artifacts: Artifacts, environments: Environments, cache: Path, x: Image, expected: Image
) -> None:
    artifact, refused = exported(artifacts, option, "fp16"), None
    with guest(environments, option) as worker:
        try:
            worker.load(asked(artifact, option, "browser-webgpu", cache, "fp16"), timeout=300)
            difference = np.abs(worker.infer(x, timeout=300) - expected)
            attested = worker.stats(attest=True).attested
        except CellProblem as problem:
            refused = problem
    if refused is None:
        assert (attested["device"], attested["compute"]) == ("webgpu", "f16")
        assert attested["adapter"]["shader_f16"] is True
        assert 0.01 < difference[:, :4].max() < 16  # a mantissa of 10 bits moves boxes, by pixels and not by objects
    else:
        assert (refused.reason, refused.status) == (Reason.PRECISION_UNSUPPORTED, Status.SKIPPED)
        assert refused.text.endswith("its WebGPU adapter lacks the feature shader-f16.")
        assert messages("zh").knows(refused.text)


DISPATCHING = """
import {adapter, witnessed} from "/page/webgpu.js";

const PLAIN = "// no f16 here\\n@group(0) @binding(0) var<storage, read_write> a: array<f32>;" +
  "@compute @workgroup_size(1) fn main() { a[0] = 1.0; }";
const HALF = "enable f16;" + PLAIN.replace("array<f32>", "array<f16>").replace("1.0", "1.0h");

export async function start() {
  const seen = await adapter();
  const device = await (await navigator.gpu.requestAdapter()).requestDevice();
  device.addEventListener("uncapturederror", (event) => event.preventDefault());
  const pipelines = [PLAIN, HALF, `enable f16;${PLAIN}`].map((code) => device.createComputePipeline(
    {layout: "auto", compute: {module: device.createShaderModule({code})}},
  ));
  const told = await witnessed(() => {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pipelines.forEach((pipeline, index) => {
      pass.setPipeline(pipeline);
      for (let i = 0; i <= index; i++) pass.dispatchWorkgroups(1);
    });
    pass.end();
  });
  return {active: true, adapter: seen, told};
}
"""
VISITING = """
import json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import server

browser = server.import_adapter(Path(sys.argv[1], "runtimes", "_browser.py"))
page, found = browser.open_page("browser-webgpu", {"test": Path(sys.argv[2])}, "/test/it.js", {}, processors=1)
page.close()
print(json.dumps(found))
"""


@needs("browser-webgpu")
def test_kernels_are_told_by_what_their_shaders_use(environments: Environments, tmp_path: Path) -> None:
    """A shader that speaks of half precision or only allows it uses none, also where the adapter has none to use."""
    (tmp_path / "it.js").write_text(DISPATCHING, encoding="utf-8")
    command = [str(environments.ensure("browser").python), "-c", VISITING, str(GUEST), str(tmp_path)]
    done = subprocess.run(command, env=environments.variables(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])  # before it, what the page wrote to its console
    assert found["told"]["kernels"] == {"f32": 1 + 3, "f16": 2}
    assert found["told"]["adapter"] == found["adapter"]


# -- Firefox and WebKit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("target", [pytest.param(target, marks=needs(target)) for target in OTHERS])
def test_other_browsers_agree_with_pytorch_and_are_named(
    target: str,
    option: str,
    artifacts: Artifacts,
    environments: Environments,
    cache: Path,
    x: Image,
    expected: Image,
) -> None:
    with guest(environments, option) as worker:
        worker.load(asked(exported(artifacts, option), option, target, cache))
        difference = np.abs(worker.infer(x) - expected)
        timing = worker.time(3, 1)
        stats = worker.stats(attest=True)
    attested = stats.attested
    assert (attested["device"], attested["compute"], attested["threads"]) == ("wasm", "f32", 1)
    assert attested["browser"].startswith(f"{OTHERS[target]} ")
    assert attested["cross_origin_isolated"] is True
    assert attested["software"] is False
    assert timing.samples_ms.min() > 0
    assert timing.cpu_s > 0
    assert stats.peak_rss_bytes > 100 << 20  # a browser's, not that of a driver
    assert difference[:, :4].max() < 0.05
    assert difference[:, 4:].max() < 1e-4


@pytest.mark.skipif(len(machine.available_cpus()) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("option", ["tfjs", "ort-web"])  # LiteRT.js does not say how many it has
@pytest.mark.parametrize("target", [pytest.param(target, marks=needs(target)) for target in OTHERS])
def test_two_threads_of_other_browsers_are_two_threads(
    target: str, option: str, artifacts: Artifacts, environments: Environments, cache: Path, x: Image, expected: Image
) -> None:
    with guest(environments, option, threads=2) as worker:
        worker.load(asked(exported(artifacts, option), option, target, cache, threads=2))
        difference = np.abs(worker.infer(x) - expected)
        attested = worker.stats(attest=True).attested
    assert attested["threads"] == 2
    assert attested["workers"] >= 1
    assert difference[:, 4:].max() < 1e-4


UNSHARED = """
import json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import server

adapter = server.import_adapter(Path(sys.argv[1], "runtimes", "litert_js.py"))
sys.modules[f"{server.PACKAGE}.runtimes._webdriver"].VARIABLES.clear()
try:
    adapter.load(json.loads(sys.argv[2]))
except ValueError as refusal:
    print(type(refusal).__name__, refusal)
"""


@needs("webkit-wasm")
def test_a_browser_that_gives_no_shared_memory_is_not_believed_to_have_two_threads(
    artifacts: Artifacts, environments: Environments, cache: Path, tmp_path: Path
) -> None:
    """LiteRT.js would repeat that it has two.  WebKitGTK gives none unless it is told to."""
    given = asked(exported(artifacts, "litert-js"), "litert-js", "webkit-wasm", cache, threads=2)
    command = [str(environments.ensure("browser").python), "-c", UNSHARED, str(GUEST), json.dumps(given, default=str)]
    done = subprocess.run(
        command, env=environments.variables(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    kind, _, said = done.stdout.splitlines()[-1].partition(" ")
    if "WebKitWebDriver" in machine.detect(READ.targets["webkit-wasm"]).text:
        assert kind == "TargetUnsupported", done.stderr
        assert said.endswith("gives pages no shared memory: WebAssembly has one thread, not 2.")
        assert messages("zh").knows(said)


FIREFOX = shutil.which("firefox") or shutil.which("firefox-esr")
HAS_FIREFOX = pytest.mark.skipif(FIREFOX is None, reason="needs Firefox of the system")


@HAS_FIREFOX
def test_the_clock_of_a_page_in_firefox_is_not_made_coarse(
    artifacts: Artifacts, environments: Environments, cache: Path, x: Image
) -> None:
    """It would tick in steps of 20 microseconds, or of 1,000 where the page is not isolated."""
    assert FIREFOX is not None
    with guest(environments, "ort-web") as worker:
        worker.load(asked(exported(artifacts, "ort-web"), "ort-web", "firefox-wasm", cache))
        worker.infer(x)
        attested = worker.stats(attest=True).attested
    assert 0 < attested["clock_resolution_us"] < 10
    said = subprocess.run([FIREFOX, "--version"], capture_output=True, text=True, check=True).stdout
    assert attested["browser"].removeprefix("Firefox ") in said


@HAS_FIREFOX
def test_a_firefox_that_dies_is_told_and_none_outlives_its_guest(
    artifacts: Artifacts, environments: Environments, cache: Path, x: Image
) -> None:
    artifact = exported(artifacts, "ort-web")
    with guest(environments, "ort-web") as worker:
        worker.load(asked(artifact, "ort-web", "firefox-wasm", cache))
        worker.infer(x)
        living = below(worker.pid, "firefox")
        living[0].kill()
        with pytest.raises(CellProblem, match="Firefox has ended") as problem:
            worker.infer(x)
        assert problem.value.reason is Reason.INFERENCE_FAILED
    assert not left(living)
    with guest(environments, "ort-web") as worker:
        worker.load(asked(artifact, "ort-web", "firefox-wasm", cache))
        worker.infer(x)
        living = below(worker.pid, "firefox")
        assert len(living) > 1
        with pytest.raises(CellProblem) as problem:
            worker.time(10_000, 0, timeout=0.5)
    assert problem.value.reason is Reason.TIMED_OUT
    assert not left(living)


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        ('case "$*" in --version) echo Mozilla Firefox 1.2;; *) exit 3;; esac', Reason.LOAD_FAILED, "it ended with 3"),
        ("exit 127", Reason.TARGET_ABSENT, "cannot be started: it ended with 127"),  # as without a library of its own
    ],
    ids=["ended", "cannot"],
)
def test_a_firefox_that_ends_at_its_start_is_no_absent_one(
    script: str,
    reason: Reason,
    told: str,
    artifacts: Artifacts,
    environments: Environments,
    cache: Path,
    tmp_path: Path,
) -> None:
    firefox = tmp_path / "firefox"
    firefox.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    firefox.chmod(0o755)
    with (
        guest(environments, "ort-web", variables={"PATH": str(tmp_path)}) as worker,
        pytest.raises(CellProblem, match=told) as problem,
    ):
        worker.load(asked(exported(artifacts, "ort-web"), "ort-web", "firefox-wasm", cache))
    assert problem.value.reason is reason


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (
            "firefox-wasm",
            "No firefox, firefox-esr is on PATH and playwright has fetched no Firefox. Install Firefox from",
        ),
        (
            "webkit-wasm",
            "No WebKitWebDriver is on PATH and playwright has fetched no WebKit. Install webkit2gtk-driver",
        ),
    ],
)
def test_an_absent_browser_is_a_skip_with_how_to_get_it(
    target: str, told: str, artifacts: Artifacts, environments: Environments, cache: Path, tmp_path: Path
) -> None:
    nowhere = {"PATH": str(tmp_path), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    with guest(environments, "ort-web", variables=nowhere) as worker, pytest.raises(CellProblem, match=told) as problem:
        worker.load(asked(exported(artifacts, "ort-web"), "ort-web", target, cache))
    assert (problem.value.reason, problem.value.status) == (Reason.TARGET_ABSENT, Status.SKIPPED)
    assert messages("zh").knows(problem.value.text)


def test_a_webkit_without_a_display_says_what_makes_one(
    artifacts: Artifacts, environments: Environments, cache: Path, tmp_path: Path
) -> None:
    driver = tmp_path / "WebKitWebDriver"
    driver.write_text("#!/bin/sh\n", encoding="ascii")
    driver.chmod(0o755)
    told = "WebKitWebDriver needs a display, and there is no weston on PATH"
    with (
        guest(environments, "ort-web", variables={"PATH": str(tmp_path)}) as worker,
        pytest.raises(CellProblem, match=told) as problem,
    ):
        worker.load(asked(exported(artifacts, "ort-web"), "ort-web", "webkit-wasm", cache))
    assert problem.value.reason is Reason.TARGET_ABSENT
    assert messages("zh").knows(problem.value.text)
    (tmp_path / "weston").symlink_to("/bin/false")
    told = "weston cannot be started: it ended with 1"
    with (
        guest(environments, "ort-web", variables={"PATH": str(tmp_path)}) as worker,
        pytest.raises(CellProblem, match=told) as problem,
    ):
        worker.load(asked(exported(artifacts, "ort-web"), "ort-web", "webkit-wasm", cache))
    assert problem.value.reason is Reason.TARGET_ABSENT


def test_what_playwright_fetched_stands_for_a_program_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    for name in ("firefox", "webkit", "chromium"):
        target = READ.targets["browser-wasm" if name == "chromium" else f"{name}-wasm"]
        absent = machine.detect(target)
        assert not absent.found
        assert f"and playwright has fetched no {name}. It needs" in absent.text
        assert f"`playwright install {name}`" in absent.text
        assert messages("zh").knows(absent.text)
        folder = tmp_path / f"{name}-1572"
        folder.mkdir()
        assert not machine.detect(target).found, "one that was not fetched to its end"
        (folder / "INSTALLATION_COMPLETE").touch()
        assert machine.detect(target).text == str(folder)
        assert os.fspath(folder) in machine.device(target)
