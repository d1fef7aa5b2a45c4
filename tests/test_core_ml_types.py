"""The Core ML adapter held to coremltools' own signatures by mypy: what only a Mac can run is called as it is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.environments.locked import Environments
from bench.places import GUEST

pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]
ADAPTER = Path("bench", "guest", "runtimes", "coreml.py")
# The package has annotations and no file that says so (PEP 561), functions without any, and names it does not list.
SETTINGS = """
[mypy]
python_version = 3.11
strict = true
disallow_untyped_calls = false
implicit_reexport = true
explicit_package_bases = true
[mypy-coremltools.*]
follow_untyped_imports = true
"""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy keeps of coremltools from one look to the next."""
    return tmp_path_factory.mktemp("mypy")


def complaints(environments: Environments, folder: Path, known: Path, old: str = "", new: str = "") -> list[str]:
    """What mypy says of the adapter, with `new` in the place of `old`, beside the coremltools that it runs with."""
    shutil.copytree(GUEST, folder / "bench" / "guest", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mypy.ini").write_text(SETTINGS, encoding="utf-8")
    adapter = folder / ADAPTER
    text = adapter.read_text(encoding="utf-8")
    assert old in text
    adapter.write_text(text.replace(old, new), encoding="utf-8")
    python = environments.ensure("coreml").python
    mypy = [sys.executable, "-m", "mypy"]
    command = [*mypy, "--cache-dir", str(known), "--python-executable", str(python), str(ADAPTER)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not done.stderr
    assert "Found" in done.stdout or "Success" in done.stdout
    return [line for line in done.stdout.splitlines() if line.startswith(str(ADAPTER))]


def test_the_adapter_calls_coremltools_as_it_is(environments: Environments, tmp_path: Path, known: Path) -> None:
    assert complaints(environments, tmp_path, known) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("usage.preferred_compute_device", "usage.preferred_device", 'has no attribute "preferred_device"'),
        # What coremltools' own description of the function calls it, and its signature does not.
        ("load_from_path(path=", "load_from_path(compiled_model_path=", "compiled_model_path"),
        ("compute_units=model.units)\n    program", "compute_units=model.units.name)\n    program", "ComputeUnit"),
        ("get_compiled_model_path()", "get_compiled_path()", 'has no attribute "get_compiled_path"'),
        ("    assert program is not None", "    assert plan is not None", 'has no attribute "functions"'),
    ],
)
def test_a_call_that_coremltools_does_not_have_is_found(
    old: str, new: str, said: str, environments: Environments, tmp_path: Path, known: Path
) -> None:
    found = complaints(environments, tmp_path, known, old, new)
    assert any(said in line for line in found), found
