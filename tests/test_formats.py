"""Adding a format: three files inside the project, or a package from outside, and nothing else in either case."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from installing import Venv, build, copied_project, files_below, said
from sweeps import LATENCY_OF_SECONDS

from bench import store
from bench.environments.locked import Environments
from bench.grid import matrix, outside
from bench.grid.request import CACHE_VARIABLE, Request
from bench.places import MATRICES, ROOT
from bench.reasons import UsageError
from bench.wall.artifacts import Artifacts, ExportRequest

PACKAGE = ROOT / "tests" / "packages" / "ort_format"
LOCK = PACKAGE / "ort_format" / "envs" / "ort-format.txt"
SWEEP = """
description = "A minute: for the tests of the harness."
imgsz = [160]
images = 16
calibration_images = 8
precisions = ["fp32"]
targets = ["cpu", "arm-cpu"]
"""
SWEEP += LATENCY_OF_SECONDS


NATIVE = "arm-cpu" if platform.machine().lower() in ("aarch64", "arm64") else "cpu"


def cells(run: Path) -> pd.DataFrame:
    """The rows of this machine's own CPU, by option."""
    table = store.read_table(run, "cells")
    return table[table.target == NATIVE].set_index("option")


# -- a package from outside ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Swept:
    """An installed project with a format from outside: a run of it, made in a repository of somebody else's."""

    venv: Venv
    folder: Path
    matrices: Path

    @property
    def run(self) -> Path:
        return self.folder / "results" / "runs" / "r"

    @property
    def cells(self) -> pd.DataFrame:
        return cells(self.run)

    def bench(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self.venv.run("yolo11-bench", *arguments, cwd=self.folder)


@pytest.fixture(scope="module")
def swept(installed: Venv, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    home = tmp_path_factory.mktemp("outside")
    source = shutil.copytree(PACKAGE, home / "source", ignore=shutil.ignore_patterns("__pycache__"))
    installed.install(build(source, home / "dist", "--wheel"))
    matrices = shutil.copytree(MATRICES, home / "matrices")
    (matrices / "sweeps" / "tiny.toml").write_text(SWEEP, encoding="utf-8")
    folder = home / "theirs"
    folder.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    made = Swept(installed, folder, matrices)
    done = made.bench("run", "--matrices", matrices, "--sweep", "tiny", "--options", "ort-format", "--run-id", "r")
    assert done.returncode == 0, said(done)
    return made


def test_a_package_brings_an_option_that_is_measured(swept: Swept) -> None:
    row = swept.cells.loc["ort-format"]
    assert row.status == "measured"
    assert row.map50_95 > 0
    assert 0 < row.parity_box_max < 0.1
    assert row.latency_ratio > 0
    assert json.loads(str(row.attested))["compute"] == "f32"
    assert row.reproduce.startswith("yolo11-bench run --sweep tiny --options ort-format")
    assert set(swept.cells.index) == {"pytorch", "ort-format"}


def test_its_lock_is_used_and_its_code_stays_behind_the_wall(swept: Swept) -> None:
    facts = store.read_table(swept.run, "environment").set_index(["scope", "key"]).value
    assert facts["env:ort-format", "lock_sha256"] == hashlib.sha256(LOCK.read_bytes()).hexdigest()
    # Whoever imports the package itself is told off, and its runtime is not in the core's environment.
    for module in ("ort_format", "onnxruntime"):
        assert swept.venv.run("python", "-c", f"import {module}", cwd=swept.folder).returncode != 0
    log = next((swept.run / "logs").glob("*ort-format*"))
    assert log.is_file()


def test_the_run_keeps_no_commit_of_the_repository_it_was_made_in(swept: Swept) -> None:
    facts = store.read_table(swept.run, "environment").set_index(["scope", "key"]).value
    assert facts["run", "commit"] == ""


def test_it_is_shown_by_its_name(swept: Swept) -> None:
    assert "ORT format" in (swept.run / "report.html").read_text(encoding="utf-8")
    for arguments in (
        ["list", "--matrices", swept.matrices, "--sweep", "tiny", "--options", "ort-format"],
        ["doctor", "--matrices", swept.matrices],
        ["show", "r"],
        ["recommend", "r"],
    ):
        done = swept.bench(*arguments)
        assert "ORT format" in done.stdout, said(done)
        if arguments[0] in ("list", "recommend"):
            assert "not in the guide" in done.stdout


def test_uninstalled_it_is_gone_and_its_runs_can_still_be_read(swept: Swept) -> None:
    wheel = next(swept.matrices.parent.glob("dist/*.whl"))
    swept.venv.uninstall("ort-format")
    try:
        done = swept.bench("list", "--options", "ort-format")
        assert done.returncode == 2
        assert "unknown ort-format" in done.stderr
        page = swept.bench("report", "r", "--out", "again.html")
        assert page.returncode == 0, said(page)
        assert "ORT format" in (swept.folder / "again.html").read_text(encoding="utf-8")
    finally:
        swept.venv.install(wheel)


# -- what can be wrong with one ------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package from outside, found by this process as an installer would leave it; returns its folder."""
    shutil.copytree(PACKAGE / "ort_format", tmp_path / "ort_format", ignore=shutil.ignore_patterns("__pycache__"))
    announce(tmp_path, "ort_format")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "ort_format"


@pytest.fixture(autouse=True)
def _looked_up_anew() -> Iterator[None]:
    """What one test has on its path is not there for the next."""
    outside.folders.cache_clear()
    yield
    outside.folders.cache_clear()


def announce(folder: Path, module: str) -> None:
    """What an installer writes about a distribution that names `module` in the entry point group."""
    about = folder / "ort_format-0.1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ort-format\nVersion: 0.1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[{outside.GROUP}]\nort-format = {module}\n", encoding="utf-8")
    importlib.invalidate_caches()


def test_a_package_is_found_and_not_imported(package: Path) -> None:
    read = matrix.load()
    option = read.options["ort-format"]
    assert not option.in_guide
    assert read.module(option, "runtimes", "ort_format") == package / "runtimes" / "ort_format.py"
    assert "ort_format" not in sys.modules
    assert matrix.option_names()["ort-format"] == "ORT format"


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("no_such_package", "there is no such module"),
        ("no_such_package.formats", "it cannot be found"),
        ("lonely", "a module and no package with a folder"),
        ("barren", "holds no option"),
    ],
)
def test_an_entry_point_that_leads_nowhere(package: Path, module: str, why: str) -> None:
    (package.parent / "lonely.py").touch()
    (package.parent / "barren").mkdir()
    (package.parent / "barren" / "__init__.py").touch()
    announce(package.parent, module)
    with pytest.raises(UsageError, match="uninstall ort-format") as raised:
        matrix.load()
    assert f"ort-format = {module} (yolo11_bench.formats)" in str(raised.value)
    assert why in str(raised.value)


def test_an_id_that_is_taken(package: Path) -> None:
    path = package / "options" / "onnx.toml"
    (package / "options" / "ort-format.toml").rename(path)
    path.write_text(path.read_text(encoding="utf-8").replace('id = "ort-format"', 'id = "onnx"'), encoding="utf-8")
    with pytest.raises(UsageError, match="there is an option 'onnx' already") as raised:
        matrix.load()
    assert str(path) in str(raised.value)
    assert str(MATRICES / "options" / "onnx.toml") in str(raised.value)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("envs/ort-format.txt", "environment is 'ort-format', but envs/ort-format.txt is missing"),
        ("runtimes/ort_format.py", "the option ort-format names runtimes/ort_format.py, which is not in"),
        ("exporters/ort_format.py", "the option ort-format names exporters/ort_format.py, which is not in"),
    ],
)
def test_a_file_that_is_missing(package: Path, file: str, why: str) -> None:
    (package / file).unlink()
    with pytest.raises(UsageError) as raised:
        matrix.load()
    assert why in str(raised.value)


def test_two_locks_of_one_name(package: Path) -> None:
    """Which of the two is meant cannot be told."""
    shutil.copy(LOCK, package / "envs" / "export-torch.txt")
    with pytest.raises(UsageError, match="two locks of one name") as raised:
        matrix.load()
    assert str(MATRICES / "envs" / "export-torch.txt") in str(raised.value)
    assert str(package / "envs" / "export-torch.txt") in str(raised.value)


def test_an_artifact_is_made_anew_when_its_exporter_changes(package: Path, tmp_path: Path) -> None:
    read = matrix.load()
    weights = tmp_path / "weights.pt"
    weights.touch()
    exporter = read.exporter(read.options["ort-format"], "ort_format")
    request = ExportRequest(weights, "ort_format", "fp32", 160, 1, exporter, "ort-format")

    def key() -> str:
        return Artifacts(tmp_path, Environments(MATRICES, tmp_path)).key(request)

    keys = [key()]
    for file in ("exporters/ort_format.py", "exporters/_sessions.py", "envs/ort-format.txt"):
        with (package / file).open("a", encoding="utf-8") as sink:
            sink.write("# changed\n")
        keys.append(key())
    assert len(set(keys)) == 4


# -- inside the project --------------------------------------------------------------------------------------------

ENTRY = """\
id = "fictitious"
name = "Fictitious format"
order = 99
in_guide = false
environment = "fictitious"
runtime = "fictitious"
targets = ["cpu", "arm-cpu"]

[export]
environment = "export-torch"
exporter = "onnx"

[precisions.fp32]
compute = "f32"
"""

ADAPTER = '''\
"""ONNX Runtime without graph optimisations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ..refusals import TargetUnsupported


def load(spec: dict[str, Any]) -> Any:
    """A session with as many threads as asked.  Raises TargetUnsupported."""
    if spec["target"] not in ("cpu", "arm-cpu"):
        raise TargetUnsupported(f"It is run on CPUs, not on {spec['target']}.")
    options = ort.SessionOptions()
    options.intra_op_num_threads = spec["threads"]
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def prepare(model: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """The input by its name."""
    return {model.get_inputs()[0].name: x}


def infer(model: Any, prepared: dict[str, np.ndarray]) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors)."""
    output: np.ndarray = model.run(None, prepared)[0]
    return output


def attest(model: Any) -> dict[str, Any]:
    """What the session says of itself."""
    threads = model.get_session_options().intra_op_num_threads
    return {"device": "cpu", "compute": "f32", "threads": threads, "input_shape": model.get_inputs()[0].shape}
'''

MODULE = "bench/guest/runtimes/fictitious.py"
FILES = {
    MODULE: ADAPTER,
    "matrices/options/fictitious.toml": ENTRY,
    "matrices/envs/fictitious.in": "onnxruntime==1.32.0\nnumpy\n",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with a fifteenth format: what the README says, and no file changed."""
    folder = copied_project(tmp_path_factory.mktemp("project") / "project")
    before = {name: (folder / name).read_bytes() for name in files_below(folder)}
    for name, text in FILES.items():
        assert name not in before
        (folder / name).write_text(text, encoding="utf-8")
    # `nox -s lock -- fictitious` makes this one; copied, so that the test does not change with the package index.
    shutil.copy(MATRICES / "envs" / "onnx.txt", folder / "matrices" / "envs" / "fictitious.txt")
    after = files_below(folder)
    assert after - before.keys() == {*FILES, "matrices/envs/fictitious.txt"}
    assert all((folder / name).read_bytes() == content for name, content in before.items())
    return folder


def bench(project: Path, *arguments: object) -> str:
    """What a command of the project's copy says; it must succeed."""
    variables = os.environ | {CACHE_VARIABLE: str(Request({}).cache), "PYTHONPATH": str(project), "COLUMNS": "200"}
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    done = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, said(done)
    return done.stdout


def test_the_readme_names_as_many_files() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Add a format\n")[2].partition("\n## ")[0]
    assert section.strip().startswith("Three files, and nothing else changes")
    named = re.findall(r"^\d\. `(.+?)`", section, re.MULTILINE)
    folders = [str(Path(name).parent) for name in named]
    assert folders == [str(Path(name).parent) for name in FILES]
    assert len(named) == len(FILES) == 3


def test_three_files_are_measured_and_shown_by_name(project: Path, tmp_path: Path) -> None:
    sweep = project / "matrices" / "sweeps" / "tiny.toml"
    sweep.write_text(SWEEP, encoding="utf-8")
    try:
        grid = ("--sweep", "tiny", "--options", "fictitious")
        assert "Fictitious format" in bench(project, "list", *grid)
        assert "Fictitious format (run)" in bench(project, "doctor")
        bench(project, "run", *grid, "--results", tmp_path, "--run-id", "r")
    finally:
        sweep.unlink()
    row = cells(tmp_path / "r").loc["fictitious"]
    assert row.status == "measured"
    assert row.latency_ratio > 0
    assert "Fictitious format" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "check",
    [
        ["ruff", "check", "--no-cache", MODULE],
        ["ruff", "format", "--check", "--no-cache", MODULE],
        # Of this module alone: what it imports of others is Any, as a runtime is that is in no environment here.
        ["mypy", "--cache-dir", os.devnull, "--no-site-packages", "--follow-imports", "silent", MODULE],
        ["lint-imports", "--no-cache"],
    ],
    ids=lambda check: " ".join(check[:2]),
)
def test_the_checks_hold_for_a_runtime_that_nobody_has_here(project: Path, check: list[str]) -> None:
    adapter = project / MODULE
    adapter.write_text(ADAPTER.replace("import onnxruntime as ort", "import runtime_of_nobody as ort"), "utf-8")
    variables = os.environ | {"PYTHONPATH": str(project)}
    command = [str(Path(sys.executable).parent / check[0]), *check[1:]]
    try:
        done = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=False)
    finally:
        adapter.write_text(ADAPTER, encoding="utf-8")
    assert done.returncode == 0, said(done)


def test_the_checks_can_fail_for_one(project: Path) -> None:
    """A format's adapter that reaches into the core is found in the same place."""
    adapter = project / MODULE
    adapter.write_text(ADAPTER + "\n\nimport bench.store\n", encoding="utf-8")
    variables = os.environ | {"PYTHONPATH": str(project)}
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    try:
        done = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=False)
    finally:
        adapter.write_text(ADAPTER, encoding="utf-8")
    assert done.returncode != 0
    assert "bench.guest.runtimes.fictitious" in done.stdout
