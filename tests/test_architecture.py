"""The documents that are written from the code are current, and one that is not is found."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.places import ROOT

ARCHITECTURE = Path("docs", "architecture.md")


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "docs" / "generate.py"), "--check"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.png", "__pycache__"))
    shutil.copytree(ROOT / "results", tmp_path / "results", ignore=shutil.ignore_patterns("reference", "runs"))
    shutil.copytree(ROOT / "reports" / "locale", tmp_path / "reports" / "locale")
    (tmp_path / "matrices").mkdir()  # by which it is known to be a checkout
    shutil.copy(ROOT / "matrices" / "targets.toml", tmp_path / "matrices")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_documents_are_current() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "document"),
    [
        ("bench/decide/compare.py", "import math\n", "import math\nimport bench.files\n", ARCHITECTURE),
        ("bench/stats/__init__.py", '"""Statistics', '"""Sums', ARCHITECTURE),
        ("bench/store/tables.py", "Stable code of", "Code of", Path("docs", "results-format.md")),
    ],
)
def test_a_document_that_is_not_current_is_found(copied: Path, file: str, old: str, new: str, document: Path) -> None:
    source = (copied / file).read_text(encoding="utf-8")
    assert old in source
    (copied / file).write_text(source.replace(old, new, 1), encoding="utf-8")
    done = check(copied)
    assert done.returncode == 1
    assert done.stderr == f"{document} is not current; run `nox -s docs` and commit it\n"


def test_every_folder_of_the_package_is_in_the_picture_of_the_data() -> None:
    """That one is drawn by hand: a folder that is new, renamed or gone must be told there too."""
    page = (ROOT / ARCHITECTURE).read_text(encoding="utf-8")
    drawn = page[page.index("## The way of the data") : page.index("## The code")]
    folders = {path.name for path in (ROOT / "bench").iterdir() if (path / "__init__.py").is_file()}
    named = set(re.findall(r"`([a-z]+)/`", drawn))
    assert named - {"bench", "matrices"} == folders
