"""Steps of workflows as they stand, in a clone, with the real nox and bench; only GitHub itself is played.

The nightly's for x64 on three nights with the sweep `quick`, chosen as the owner of a machine would: the first makes
the baseline, the second finds nothing, and in the third the exporter of ONNX has been changed so that its files are
larger.  And the check of a pull request that changes no cell.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import workflows
from workflows import Night, Runner

from bench.environments.installers import clean
from bench.grid import matrix
from bench.grid.request import CACHE_VARIABLE, Request
from bench.places import ROOT

pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout to clone"),
]

PADDED = """
    import onnx

    model = onnx.load(reply["product"])
    model.metadata_props.add(key="padding", value="x" * 2_000_000)
    onnx.save(model, reply["product"])
"""
"""A file grows by what nobody computes: the cheapest regression that is as large as it is said to be."""


class Machine:
    """A machine of the nightly's: a clone, the variables its owner set, and gh played by a recorder."""

    def __init__(self, folder: Path) -> None:
        self.home, self.temp, self.checkout = folder / "home", folder / "temp", folder / "checkout"
        programs = folder / "bin"
        for made in (programs, folder / "cache"):
            made.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.checkout)], check=True)
        gh = programs / "gh"
        gh.write_text(f"#!{sys.executable}\n{workflows.GH}", encoding="utf-8")
        gh.chmod(0o755)
        # The user's environments and images, and artifacts of its own, among which there will be a spoilt one.
        for kept in Request({}).cache.iterdir():
            if kept.name != "artifacts":
                (folder / "cache" / kept.name).symlink_to(kept)
        self.calls = programs / "gh.jsonl"
        self.variables = clean(os.environ) | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "BENCH_HOME": str(self.home),
            "BENCH_SWEEP": "quick",
            "BENCH_MINUTES": "1",
            CACHE_VARIABLE: str(folder / "cache"),
        }

    def run(self, workflow: str, job: str, inputs: Mapping[str, str] | None = None, **variables: str) -> Night:
        """Run the steps of a job that GitHub would start on this machine, by hand with these inputs."""
        contexts: dict[str, Any] = {
            "github": {"sha": self.commit(), "server_url": "https://forge", "repository": "o/r", "run_id": "5"},
            "matrix": {"machine": "x64"},
            "inputs": inputs or {},
        }
        runner = Runner(self.checkout, self.temp, self.variables | variables)
        return runner.run(workflows.read(workflow)["jobs"][job], contexts)

    def night(self) -> Night:
        """Run the nightly."""
        return self.run("nightly.yml", "bench")

    def commit(self) -> str:
        """The checkout's commit."""
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=self.checkout, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def change(self, file: str, old: str, new: str) -> None:
        """Commit a change of a file that holds `old` once."""
        path = self.checkout / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), encoding="utf-8")
        git = [
            "git",
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b.c",
            "commit",
            "--quiet",
            "--all",
            "--message",
            "A change",
        ]
        subprocess.run(git, cwd=self.checkout, check=True)

    def runs(self) -> list[Path]:
        """Folders of the nights so far, oldest first."""
        return sorted((self.home / "runs").iterdir())

    def asked(self) -> list[str]:
        """The first two words of every call of gh."""
        lines = self.calls.read_text(encoding="utf-8").splitlines() if self.calls.exists() else []
        return [" ".join(json.loads(line)["words"][:2]) for line in lines]


def test_three_nights_a_baseline_nothing_new_and_a_regression(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    first = machine.night()
    assert not first.failed, first.said
    assert "First night" in first.ran
    assert "Check" not in first.ran
    (run,) = machine.runs()
    assert (run / "report.html").is_file()
    assert list(pd.read_parquet(run / "cells.parquet").status).count("measured") == 2

    second = machine.night()
    assert not second.failed, second.said
    assert "First night" not in second.ran
    assert second.summary == (machine.runs()[1] / "check.md").read_text(encoding="utf-8")
    assert machine.asked() == ["issue list"]

    machine.change("bench/guest/exporters/onnx.py", '    reply["versions"] |=', f'{PADDED}    reply["versions"] |=')
    third = machine.night()
    assert third.failed
    assert third.ran[-1] == "Verdict", third.said
    assert machine.asked() == ["issue list", "label create", "issue list", "issue create"]
    body = json.loads(machine.calls.read_text(encoding="utf-8").splitlines()[-1])["body"]
    assert "onnx-fp32-cpu-320" in body
    assert machine.commit() in body


def test_a_machine_that_the_project_has_not_is_recorded(tmp_path: Path) -> None:
    """With this machine in the place of an Arm one: `arm-cpu` is found here, and computes float32 as that does."""
    machine = Machine(tmp_path)
    signs = 'cpu_bound = true\ndetect.machine = ["aarch64", "arm64"]'
    machine.change("matrices/targets.toml", signs, f'cpu_bound = true\ndetect.machine = ["{platform.machine()}"]')
    run = recorded(machine, tmp_path, {"machine": "arm64", "sweep": "quick"})
    assert run.name.endswith("-arm64")
    cells = pd.read_parquet(run / "cells.parquet").set_index("cell_id")
    measured = set(cells.index[cells.status == "measured"])
    on_arm = {cell.partition("/")[2] for cell in measured if "arm-cpu" in cell}
    assert on_arm == {"pytorch-fp32-arm-cpu-320-b1-t1", "onnx-fp32-arm-cpu-320-b1-t1"}
    assert (run / "report.html").is_file()


STAND_IN = (
    ("matrices/targets.toml", 'macOS 13 或更高版本的 Mac"\ndetect.system = ["Darwin"]',
     f'Mac"\ndetect.system = ["{platform.system()}"]'),
    ("matrices/options/coreml.toml", 'environment = "coreml"\nruntime = "coreml"',
     'environment = "coreml-mil"\nruntime = "coreml_mil"'),
    ("bench/guest/runtimes/coreml_mil.py", 'TARGET = "coreml-mil"', 'TARGET = "coreml"'),
    ("bench/guest/runtimes/coreml_mil.py", '"device": "mil-reference"', '"device": "coreml"'),
    ("matrices/sweeps/nightly-macos.toml", '"pytorch", "torchscript", "onnx", "openvino", "coreml"', '"coreml"'),
    ("matrices/sweeps/nightly-macos.toml", ', "saved_model", "graphdef", "tflite", "ncnn", "mnn"', ""),
    ("matrices/sweeps/nightly-macos.toml", "imgsz = [640]", "imgsz = [160]\nimages = 8"),
    ("matrices/sweeps/nightly-macos.toml", "budget_s = 900", "budget_s = 1"),
    ("matrices/sweeps/nightly-macos.toml", "samples = 10", "samples = 1"),
    ("matrices/sweeps/nightly-macos.toml", "min_launches = 8\nmax_launches = 16", "min_launches = 3\nmax_launches = 3"),
)  # fmt: skip
"""This machine in the place of a Mac: the interpreter of packages in Core ML's, on a part of the sweep."""


def test_a_mac_that_the_project_has_not_is_recorded_with_each_of_core_mls_compute_units(tmp_path: Path) -> None:
    """The sweep is that of a Mac's nights, since none is named; its cells of Core ML are all there, and each ran."""
    machine = Machine(tmp_path)
    for change in STAND_IN:
        machine.change(*change)
    run = recorded(machine, tmp_path, {"machine": "macos", "sweep": ""})
    assert run.name.endswith("-macos")
    cells = pd.read_parquet(run / "cells.parquet")
    cells = cells[cells.target == "coreml"].set_index("precision")
    units = {"fp16", "fp16-cpu", "fp16-gpu", "fp16-ne"}
    assert set(cells.index) == {"fp32", "int8", "palette8"} | units
    assert (cells.status == "measured").all(), cells.reason.tolist()
    assert {json.loads(said)["compute"] for said in cells.attested[list(units)]} == {"f16"}
    assert len(set(cells.artifact_key[list(units)])) == 1
    assert cells.map50_95.gt(0).all()
    assert (run / "report.html").is_file()


def recorded(machine: Machine, folder: Path, inputs: Mapping[str, str]) -> Path:
    """The run that `record` leaves when it is started by hand with these inputs."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "python")], check=True)
    path = f"{folder / 'python' / 'bin'}:{machine.variables['PATH']}"
    night = machine.run("record.yml", "record", inputs, PATH=path)
    assert not night.failed, night.said
    (run,) = (machine.temp / "runs").iterdir()
    return run


def test_a_pull_request_that_changes_no_cell_is_checked_without_a_clock(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.change("docs/runners.md", "# Machines for the nightly", "# The nightly's machines")
    # What setup-python gives a job: an interpreter of its own, into which the job installs nox.
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "python")], check=True)
    night = machine.run("ci.yml", "check", PATH=f"{tmp_path / 'python' / 'bin'}:{machine.variables['PATH']}")
    assert not night.failed, night.said
    read = matrix.load()
    cells = [cell for cell in read.cells("yolo11n-demo", read.sweep("smoke")) if cell.target == "cpu"]
    assert re.match(rf"### no regression against git:[0-9a-f]{{40}}: {len(cells)} unchanged\n", night.summary)
    (check,) = (machine.checkout / "results" / "checks").iterdir()
    assert pd.read_parquet(check / "pairs.parquet").empty
