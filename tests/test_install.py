"""The project as it is installed: what its wheel holds, and that it works from a folder that has nothing to do with it.

A sweep from an installed project is in test_formats.py, together with a format from outside.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from installing import Venv, build, build_editable, files_below, said

from bench import __version__
from bench.places import ROOT

RECORDED = ROOT / "results" / "reference" / "coco128-640-cpu"
DATA = ("matrices", "reports/templates", "reports/locale", "reports/vendor")
MEGABYTES = 9
HEAVY = ("pandas", "numpy", "scipy", "matplotlib", "pyarrow", "cv2", "pydantic", "rich", "typer", "jinja2")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder of the user's with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_the_wheel_holds_the_package_and_its_data_and_nothing_else(wheel: Path) -> None:
    """The one that was built from the sdist."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        size = sum(entry.file_size for entry in archive.infolist())
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    about = {name for name in names if name.partition("/")[0].endswith(".dist-info")}
    data = {f"bench/data/{name}" for name in files_below(ROOT, DATA)}
    assert names - about == files_below(ROOT, ["bench"]) | data
    assert {name.partition("/")[2] for name in about} >= {"licenses/LICENSE", "licenses/NOTICE", "METADATA"}
    assert {"bench/py.typed", "bench/demo/yolo11n-demo.pt", "bench/suites/pytest.ini"} < names
    assert {"bench/guest/runtimes/page.js", "bench/guest/runtimes/page.html", "bench/probes/cpp/detect.cpp"} < names
    vendored = {Path(name).name for name in data if "/vendor/" in name}
    assert {"vendor.toml", "jquery.LICENSE.txt", "datatables.net.LICENSE.txt"} < vendored
    wanted = re.findall(r"^Requires-Dist: ([^;\n]+)$", metadata, re.MULTILINE)
    lines = (ROOT / "matrices" / "envs" / "core.in").read_text(encoding="utf-8").splitlines()
    assert sorted(wanted) == sorted(line for line in lines if not line.startswith("#"))
    assert "yolo11-bench = bench.__main__:main" in points
    assert "bench.plugin = bench.plugin" in points
    assert size < MEGABYTES * 10**6


def test_a_wheel_built_from_the_checkout_is_the_same(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(build(ROOT, tmp_path, "--wheel")) as other:
        content = [{entry.filename: entry.CRC for entry in archive.infolist()} for archive in (one, other)]
    assert content[0] == content[1]


def test_it_answers_in_an_empty_folder(installed: Venv, empty: Path) -> None:
    before = files_below(installed.site_packages / "bench")
    version = installed.run("yolo11-bench", "--version", cwd=empty)
    assert version.stdout.strip() == f"yolo11-bench {__version__}"
    module = installed.run("python", "-m", "bench", "--version", cwd=empty)
    assert module.stdout == version.stdout
    for arguments, expected in ((["list"], "onnx-int8-cpu-320"), (["doctor"], "export-torch")):
        done = installed.run("yolo11-bench", *arguments, cwd=empty)
        assert done.returncode == 0, said(done)
        assert expected in done.stdout
    assert not list(empty.iterdir())
    assert files_below(installed.site_packages / "bench") == before


def test_a_run_that_was_copied_here_is_shown_reported_and_judged(installed: Venv, empty: Path) -> None:
    run = shutil.copytree(RECORDED, empty / "run", ignore=shutil.ignore_patterns("*.html", "claims.parquet"))
    for arguments, expected in (
        (["show", "run"], "OpenVINO"),
        (["report", "run", "--out", "page.html"], "page.html"),
        (["claims", "run"], "claims.parquet"),
    ):
        done = installed.run("yolo11-bench", *arguments, cwd=empty)
        assert done.returncode == 0, said(done)
        assert expected in done.stdout
    assert (empty / "page.html").stat().st_size > 200_000
    assert (run / "claims.parquet").is_file()


@pytest.mark.parametrize("arguments", [["lock", "onnx"], ["probe", "--refresh-packages"]])
def test_what_is_installed_is_not_written_in(installed: Venv, empty: Path, arguments: list[str]) -> None:
    done = installed.run("yolo11-bench", *arguments, cwd=empty)
    assert done.returncode == 2, said(done)
    assert "not changed" in done.stderr
    assert "--matrices" in done.stderr


def test_an_installation_without_its_data_says_so(installed: Venv, tmp_path: Path) -> None:
    package = tmp_path / "bench"
    shutil.copytree(installed.site_packages / "bench", package, ignore=shutil.ignore_patterns("vendor", "options"))
    done = installed.run("python", "-m", "bench", "list", cwd=tmp_path)
    assert done.returncode == 2, said(done)
    assert "Traceback" not in said(done)
    for name in ("matrices/options", "reports/vendor"):
        assert str(package / "data" / name) in done.stderr
    assert "install yolo11-deployment-bench again" in done.stderr


def test_pytest_finds_the_suites_of_an_installed_project(installed: Venv, empty: Path) -> None:
    suites = ["--pyargs", "bench.suites", "--sweep", "smoke", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    shown = installed.run("pytest", *suites, "-k", "onnx and int8", "--collect-only", "-q", cwd=empty)
    assert "test_latency[onnx-int8-cpu-320]" in shown.stdout, said(shown)
    assert "pytorch" not in shown.stdout
    assert not list(empty.iterdir())
    wrong = installed.run("pytest", *suites[:2], "--sweep", "smok", cwd=empty)
    assert wrong.returncode == 4, said(wrong)
    assert "did you mean smoke?" in said(wrong)


def test_other_projects_tests_beside_it_are_left_alone(installed: Venv, empty: Path) -> None:
    """They may have options and fixtures of our names, and wait for none of our imports."""
    (empty / "conftest.py").write_text(
        "import pytest\n"
        "def pytest_addoption(parser):\n"
        "    for name in ('--model', '--data', '--sweep', '--results', '--images'):\n"
        "        parser.addoption(name, default='mine')\n"
        "@pytest.fixture\n"
        "def measured():\n"
        "    return 'mine'\n",
        encoding="utf-8",
    )
    (empty / "test_theirs.py").write_text(
        "import sys\n"
        "def test_theirs(measured, pytestconfig):\n"
        "    assert measured == pytestconfig.getoption('--model') == 'mine'\n"
        "    assert pytestconfig.pluginmanager.has_plugin('bench.plugin')\n"
        f"    assert not {set(HEAVY)} & set(sys.modules)\n",
        encoding="utf-8",
    )
    done = installed.run("pytest", "-q", "-W", "error", cwd=empty)
    assert done.returncode == 0, said(done)
    assert "1 passed" in done.stdout


def test_a_checkout_installed_as_it_stands(tmp_path: Path, empty: Path) -> None:
    """`pip install -e`: its own data is used, and its plugin, which the root conftest.py names too, is there once."""
    venv = Venv.make(tmp_path / "venv", build_editable(ROOT, tmp_path))
    assert not (venv.site_packages / "bench").exists()
    code = "import bench.places as p; print(p.IN_CHECKOUT, p.MATRICES)"
    assert venv.run("python", "-c", code, cwd=empty).stdout.split() == ["True", str(ROOT / "matrices")]
    wanted = ["--sweep", "smoke", "-k", "onnx and int8 and cuda", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = venv.run("pytest", "bench", "--trace-config", *wanted, cwd=ROOT)
    assert "bench/suites/test_cells.py::test_latency[onnx-int8-cuda-320]" in done.stdout, said(done)
    assert done.stdout.count("PLUGIN registered: <module 'bench.plugin'") == 1


def test_a_commit_is_recorded_of_the_project_alone(tmp_path: Path) -> None:
    """Sources that were unpacked inside somebody's repository are no part of that repository's history."""
    from bench.grid import machine

    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    inside = tmp_path / "unpacked"
    inside.mkdir()
    assert len(machine.git_commit(tmp_path)) == 40
    assert machine.git_commit(inside) == ""


def test_a_commit_is_recorded_whoever_owns_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git refuses a checkout of another user, as in a mounted folder, a rule its own tests can switch on."""
    from bench.grid import machine

    for name, value in {
        "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
    }.items():
        monkeypatch.setenv(name, value)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", f"safe.directory={tmp_path}"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "file").write_text("as committed", encoding="utf-8")
    for command in (["add", "file"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    refused = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "dubious ownership" in refused.stderr
    assert len(machine.git_commit(tmp_path)) == 40
    (tmp_path / "file").write_text("changed since", encoding="utf-8")
    assert machine.git_commit(tmp_path).endswith("+changes")
