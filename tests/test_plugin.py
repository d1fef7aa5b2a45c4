"""The pytest plugin, in this process: its options, its ids, what it says, and that it leaves other projects alone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import running  # noqa: F401 - what it imports is not to be forgotten by `pytester`

from bench.grid import matrix
from bench.grid.request import OPTIONS, Request, expand
from bench.measure.instruments.registry import INSTRUMENTS, of_runs
from bench.places import ROOT

pytest_plugins = ["pytester"]

BENCH = ROOT / "bench"
HEAVY = ("pandas", "pyarrow", "scipy", "matplotlib", "cv2", "pydantic", "rich", "jinja2", "hotcoco", "typer")
SOMEBODY_ELSES = """
import sys

def test_nothing_heavy_is_here():
    assert "bench.plugin" in sys.modules
    assert not set({heavy}) & set(sys.modules)
"""


def collected(pytester: pytest.Pytester, *arguments: str | Path) -> list[str]:
    """Names of the tests that pytest would run in the suites, in its order."""
    done = pytester.runpytest_inprocess(BENCH, "-p", "no:cacheprovider", "--collect-only", "-q", *arguments)
    assert done.ret == 0, done.stdout.str()
    return re.findall(r"^bench/suites/test_cells\.py::(.+)$", done.stdout.str(), re.MULTILINE)


def install(folder: Path) -> None:
    """What an installation leaves for pytest to find in a folder on `sys.path`: the project's entry points."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / "yolo11_deployment_bench-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n", encoding="utf-8")
    points = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["pytest11"].items())
    (info / "entry_points.txt").write_text(f"[pytest11]\n{points}", encoding="utf-8")


def test_every_cell_has_a_test_by_every_instrument(pytester: pytest.Pytester) -> None:
    cells = expand(Request({"sweep": "smoke"})).cells
    names = collected(pytester, "--sweep", "smoke")
    assert len(names) == len(set(names))
    assert set(names) == {f"test_{name}[{cell.id}]" for name in INSTRUMENTS for cell in cells}
    assert "test_latency[onnx-int8-cpu-320]" in names


def test_cells_come_one_after_another_and_what_measures_them_together_comes_last(pytester: pytest.Pytester) -> None:
    cells = expand(Request({"sweep": "smoke"})).cells
    together = [one.name for one in of_runs()]
    alone = [name for name in INSTRUMENTS if name not in together]
    expected = [f"test_{name}[{cell.id}]" for cell in cells for name in alone]
    expected += [f"test_{name}[{cell.id}]" for cell in cells for name in together]
    assert collected(pytester, "--sweep", "smoke") == expected


def test_options_choose_cells_and_k_chooses_among_them(pytester: pytest.Pytester) -> None:
    names = collected(pytester, "--sweep", "smoke", "--options", "onnx", "--imgsz", "64,96", "-k", "int8 and export")
    assert names
    assert all(re.fullmatch(r"test_export\[onnx-int8(-s8)?-[a-z-]+-(64|96)\]", name) for name in names), names


def test_each_option_of_a_run_is_registered_once(pytester: pytest.Pytester) -> None:
    shown = pytester.runpytest_inprocess(BENCH, "--help", "-p", "no:cacheprovider").stdout.str()
    for name in OPTIONS:
        assert len(re.findall(rf"^  --{name}=", shown, re.MULTILINE)) == 1, name


def test_an_installed_plugin_that_conftest_names_too_is_one_plugin(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(pytester.mkdir("installed"))
    pytester.syspathinsert(pytester.path / "installed")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    done = pytester.runpytest_inprocess(BENCH, "--collect-only", "-p", "no:cacheprovider", "--sweep", "smoke")
    assert done.ret == 0, done.stdout.str()
    assert "yolo11-deployment-bench-0" in done.stdout.str()  # it was found by its entry point
    assert len(collected(pytester, "--sweep", "smoke")) == len(INSTRUMENTS) * len(expand(Request({})).cells)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sweep", "smok"), "no sweep 'smok' in .* (did you mean smoke?); there are: .*"),
        (("--options", "onxx"), "options: unknown onxx (did you mean onnx?); allowed: .*"),
        (("--imgsz", "large"), "--imgsz large: not whole numbers separated by commas"),
        (("--sweep", "nope", "-k", "onnx"), "no sweep 'nope' .*"),
    ],
)
def test_wrong_usage_is_one_line(pytester: pytest.Pytester, arguments: tuple[str, ...], said: str) -> None:
    done = pytester.runpytest_inprocess(BENCH, "-q", "-p", "no:cacheprovider", *arguments)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in done.errlines if line]
    assert len(lines) == 1, lines
    pattern = "".join(".*" if part == ".*" else re.escape(part) for part in re.split(r"(\.\*)", said))
    assert re.fullmatch(f"ERROR: {pattern}", lines[0])
    assert "Traceback" not in done.stdout.str()
    assert "bench/plugin.py" not in done.stdout.str()


def test_nothing_can_be_prepared_is_said_without_a_traceback(pytester: pytest.Pytester, tmp_path: Path) -> None:
    done = pytester.runpytest_inprocess(
        BENCH, "-q", "-p", "no:cacheprovider", "--results", tmp_path, "--model", "x.pt", "-k", "onnx and export"
    )
    assert done.ret == 2
    assert "bench: --model needs --data" in done.stdout.str() + done.stderr.str()
    assert "Traceback" not in done.stdout.str()


def test_other_projects_tests_get_no_options_and_nothing_heavy(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an interpreter of its own: what this process has imported long since says nothing."""
    install(pytester.mkdir("installed"))
    monkeypatch.setenv("PYTHONPATH", f"{pytester.path / 'installed'}:{ROOT}")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    pytester.makepyfile(SOMEBODY_ELSES.format(heavy=HEAVY))
    pytester.makeconftest('def pytest_addoption(parser): parser.addoption("--model", help="of somebody else")')
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--model", "theirs")
    done.assert_outcomes(passed=1)


def test_reading_the_matrix_twice_gives_the_same_cells() -> None:
    """Workers of pytest-xdist each collect for themselves and must find the same tests."""
    read = matrix.load()
    first, second = (read.cells("m", read.sweep("smoke")) for _ in range(2))
    assert [cell.id for cell in first] == [cell.id for cell in second]
