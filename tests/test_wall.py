"""The wall between core and guests is checked by import-linter, and the check can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.places import ROOT


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(root)})


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
    for name in ("pyproject.toml", "tests/contracts.py", "matrices/envs/core.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_wall_holds(copied: Path) -> None:
    done = lint(copied)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("bench/tasks/detect/score.py", "import onnxruntime", "The core imports the packages of its own lock alone"),
        ("bench/cli/app.py", "def late() -> None:\n    import torch", "The core imports the packages of its own lock"),
        ("bench/site/pages.py", "import a_package_of_no_lock", "The core imports the packages of its own lock alone"),
        ("bench/guest/runtimes/torchscript.py", "import pandas", "A guest imports nothing of the core"),
        ("bench/guest/exporters/onnx.py", "import bench.store.tables", "Nothing imports upward"),
        ("bench/guest/server.py", "from bench.reasons import Reason", "Nothing imports upward"),
        ("bench/store/reading.py", "import bench.report.page", "Nothing imports upward"),
        ("bench/grid/matrix.py", "def late() -> None:\n    import bench.measure.session", "Nothing imports upward"),
        ("bench/stats/contrast.py", "import bench.store", "Nothing imports upward"),
    ],
)
def test_a_breach_is_found(copied: Path, file: str, line: str, contract: str) -> None:
    path = copied / file
    path.write_text(path.read_text(encoding="utf-8") + f"\n\n{line}\n", encoding="utf-8")
    done = lint(copied)
    assert done.returncode != 0
    assert f"{contract}" in done.stdout
    assert "BROKEN" in done.stdout
