"""The wall between core and guests is checked by import-linter, and the check can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.matrix import ROOT


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(root)})


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_wall_holds(copied: Path) -> None:
    done = lint(copied)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("bench/coco.py", "import onnxruntime", "The core imports no runtime"),
        ("bench/cli.py", "def late() -> None:\n    import torch", "The core imports no runtime"),
        ("bench/runtimes/torchscript.py", "import pandas", "A guest imports neither"),
        ("bench/exporters/onnx.py", "import bench.store", "A guest imports neither"),
        ("bench/guest/server.py", "from bench.reasons import Reason", "A guest imports neither"),
    ],
)
def test_a_breach_is_found(copied: Path, file: str, line: str, contract: str) -> None:
    path = copied / file
    path.write_text(path.read_text(encoding="utf-8") + f"\n\n{line}\n", encoding="utf-8")
    done = lint(copied)
    assert done.returncode != 0
    assert f"{contract}" in done.stdout
    assert "BROKEN" in done.stdout
