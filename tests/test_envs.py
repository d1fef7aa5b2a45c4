"""Environments built for real, from wheels that the tests write themselves, so that no index is needed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bench.environments import installers, locked, locks
from bench.environments.locked import Environments
from bench.reasons import CellProblem, Reason, UsageError

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")


def write_wheel(
    folder: Path, version: str, name: str = "probe", body: str = "VALUE = 1\n", requires: str | None = None
) -> None:
    """A pure wheel with one module."""
    asks = f"Requires-Dist: {requires}\n" if requires else ""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": body,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{asks}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A find-links folder that is set the way a user of pip sets it, and the only place to install from."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder, "1.0")
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_", "BENCH_TORCH"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return folder


@pytest.fixture
def matrices(tmp_path: Path) -> Path:
    folder = tmp_path / "matrices"
    (folder / "envs").mkdir(parents=True)
    (folder / "envs" / "small.txt").write_text("probe==1.0\n", encoding="utf-8")
    return folder


@pytest.fixture
def environments(matrices: Path, wheels: Path, tmp_path: Path) -> Environments:
    assert wheels.is_dir()
    return Environments(matrices, tmp_path / "cache")


def again(environments: Environments, tmp_path: Path) -> Environments:
    """What the next process has: nothing in memory."""
    del environments
    return Environments(tmp_path / "matrices", tmp_path / "cache")


def marker_of(tmp_path: Path) -> Path:
    (marker,) = (tmp_path / "cache" / "envs").glob("small-*/complete.json")
    return marker


def test_an_environment_is_built_once_and_holds_the_lock(environments: Environments, tmp_path: Path) -> None:
    assert environments.existing("small") is None
    lines: list[str] = []
    env = environments.ensure("small", lines.append)
    assert again(environments, tmp_path).existing("small") == env
    said = subprocess.run(
        [env.python, "-c", "import probe; print(probe.VALUE)"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "1\n"
    assert env.packages() == ("probe==1.0",)
    assert lines
    marker = json.loads(marker_of(tmp_path).read_text(encoding="utf-8"))
    assert marker["lock_sha256"] == env.lock_sha256 == hashlib.sha256(b"probe==1.0\n").hexdigest()
    assert marker["bytes"] == env.bytes
    built = marker_of(tmp_path).stat().st_mtime_ns
    assert again(environments, tmp_path).ensure("small") == env
    assert marker_of(tmp_path).stat().st_mtime_ns == built


def test_size_counts_each_inode_once_and_leaves_caches_and_pip_out(environments: Environments) -> None:
    site = environments.ensure("small").site_packages
    before = locked._installed_bytes(site)
    (site / "data.bin").write_bytes(b"x" * 1000)
    os.link(site / "data.bin", site / "linked.bin")
    (site / "symbolic.bin").symlink_to(site / "data.bin")
    for left_out in ("__pycache__", "pip", "pip-26.0.dist-info"):
        (site / left_out).mkdir(exist_ok=True)
        (site / left_out / "file").write_bytes(b"y" * 500)
    (site / "pipeline").mkdir()
    (site / "pipeline" / "file").write_bytes(b"z" * 10)
    assert locked._installed_bytes(site) == before + 1010


def test_freeze_notices_a_reinstall_of_the_same_version(environments: Environments, wheels: Path) -> None:
    env = environments.ensure("small")
    before = env.freeze()
    assert env.freeze() == before
    uv = installers.find_uv()
    assert uv is not None
    command = [
        uv,
        "pip",
        "install",
        "--python",
        str(env.python),
        "--reinstall",
        "--find-links",
        str(wheels),
        "probe==1.0",
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert env.packages() == ("probe==1.0",)
    assert env.freeze() != before


@pytest.mark.parametrize("damage", ["no marker", "marker cut short", "package removed", "package added", "no python"])
def test_what_is_not_whole_is_built_again(environments: Environments, tmp_path: Path, damage: str) -> None:
    env = environments.ensure("small")
    marker = marker_of(tmp_path)
    match damage:
        case "no marker":
            marker.unlink()
        case "marker cut short":
            marker.write_text(marker.read_text(encoding="utf-8")[:40], encoding="utf-8")
        case "package removed":
            shutil.rmtree(env.site_packages / "probe-1.0.dist-info")
        case "package added":
            (env.site_packages / "stranger-2.0.dist-info").mkdir()
        case "no python":
            env.python.unlink()
    stray = env.site_packages / "stray.py"
    stray.touch()
    lines: list[str] = []
    repaired = again(environments, tmp_path).ensure("small", lines.append)
    assert repaired.packages() == ("probe==1.0",)
    assert repaired.python.exists()
    assert not stray.exists()
    assert "building it again" in lines[0]


def test_a_changed_lock_is_another_environment(
    environments: Environments, matrices: Path, wheels: Path, tmp_path: Path
) -> None:
    first = environments.ensure("small")
    write_wheel(wheels, "1.1")
    (matrices / "envs" / "small.txt").write_text("probe==1.1\n", encoding="utf-8")
    second = again(environments, tmp_path).ensure("small")
    assert second.packages() == ("probe==1.1",)
    assert first.python.exists()
    assert first.lock_sha256 != second.lock_sha256


def test_what_cannot_be_installed_costs_the_cell_and_leaves_nothing_whole(
    environments: Environments, matrices: Path, tmp_path: Path
) -> None:
    (matrices / "envs" / "small.txt").write_text("probe==9.9\n", encoding="utf-8")
    with pytest.raises(CellProblem, match=r"probe==9\.9") as problem:
        environments.ensure("small")
    assert problem.value.reason is Reason.ENVIRONMENT_FAILED
    assert not list((tmp_path / "cache" / "envs").glob("*/complete.json"))


def test_byte_code_lies_where_guests_look_whatever_the_users_python_is_told(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every guest would compile what it imports, and the time of an import would be another."""
    for name, value in {
        "PYTHONPYCACHEPREFIX": str(tmp_path / "elsewhere"),
        "PYTHONOPTIMIZE": "2",
        "PYTHONSAFEPATH": "1",
        "PYTHONWARNINGS": "error",
    }.items():
        monkeypatch.setenv(name, value)
    env = environments.ensure("small")
    assert (env.site_packages / "__pycache__" / "probe.cpython-311.pyc").is_file()
    assert not (tmp_path / "elsewhere").exists()


def test_an_interrupted_build_is_not_taken_for_a_whole_one(environments: Environments, tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if "probe" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environments.ensure("small", interrupt)
    assert not list((tmp_path / "cache" / "envs").glob("*/complete.json"))
    assert again(environments, tmp_path).ensure("small").packages() == ("probe==1.0",)


def test_two_processes_build_it_once(environments: Environments, tmp_path: Path) -> None:
    del environments
    text = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\nfrom bench.environments.locked import Environments\n"
        f"env = Environments(Path({str(tmp_path / 'matrices')!r}), Path({str(tmp_path / 'cache')!r}))"
        ".ensure('small', print)\nprint(env.packages())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert all("probe==1.0" in out for out, _ in said)
    assert sum("Installed 1 package" in out for out, _ in said) == 1


def test_a_family_without_a_lock_names_the_remedy(environments: Environments) -> None:
    with pytest.raises(UsageError, match=r"no lock for the environment 'smal'.*known: small"):
        environments.ensure("smal")


def test_pip_builds_the_same_where_uv_is_missing(environments: Environments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installers, "find_uv", lambda: None)
    base = installers.base_python()
    assert base is not None
    try:
        installers.find_pip(base)
    except UsageError as error:
        pytest.skip(str(error))
    assert environments.ensure("small").packages() == ("probe==1.0",)


def test_pips_settings_reach_uv_and_uvs_own_win(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://one.example/simple https://two.example/simple")
    monkeypatch.setenv("PIP_INDEX_URL", "https://main.example/simple")
    monkeypatch.setenv("VIRTUAL_ENV", "elsewhere")
    variables = installers.uv_variables()
    assert variables["UV_FIND_LINKS"] == str(wheels)
    assert variables["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert variables["UV_DEFAULT_INDEX"] == "https://main.example/simple"
    assert variables["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert "VIRTUAL_ENV" not in variables
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.example/simple")
    assert installers.uv_variables()["UV_DEFAULT_INDEX"] == "https://mine.example/simple"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyPI's torch is a CPU build")
def test_the_build_of_torch_follows_the_folder_then_the_variable(wheels: Path) -> None:
    lock = "numpy==2.4.6\ntorch==2.13.0\ntorchvision==0.28.0\n"
    assert installers.torch_backend("torchmetrics==1.0\n", "") == []
    assert installers.torch_backend(lock, "") == ["--torch-backend", "cpu"]
    (wheels / "torch-2.12.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    assert installers.torch_backend(lock, "") == ["--torch-backend", "cpu"]
    (wheels / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    assert installers.torch_backend(lock, "") == []
    assert installers.torch_backend(lock, "cu128") == ["--torch-backend", "cu128"]


def test_a_lock_has_no_local_label_and_no_place_in_it(matrices: Path, wheels: Path) -> None:
    (wheels / "probe-1.0-py3-none-any.whl").unlink()
    write_wheel(wheels, "2.0+cpu")
    source = matrices / "envs" / "made.in"
    source.write_text("# what we ask\nprobe>=1\n", encoding="utf-8")
    path = locks.lock("made", matrices)
    assert path.read_text(encoding="utf-8") == "probe==2.0\n"
    source.write_text("probe>=3\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"made\.in: no set of versions"):
        locks.lock("made", matrices)
    with pytest.raises(UsageError, match="does not exist"):
        locks.lock("absent", matrices)


def test_packages_below_no_deps_are_locked_and_installed_alone(matrices: Path, wheels: Path) -> None:
    write_wheel(wheels, "3.0", requires="absent-package")
    source = matrices / "envs" / "made.in"
    source.write_text("# bench: no-deps\nprobe\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"must be name==version; not: probe"):
        locks.lock("made", matrices)
    source.write_text("# why\n# bench: no-deps\nprobe==3.0\n", encoding="utf-8")
    assert locks.lock("made", matrices).read_text(encoding="utf-8") == "# bench: no-deps\nprobe==3.0\n"
    assert "probe==3.0" in Environments(matrices, matrices.parent / "cache").ensure("made").packages()
    pins = ["other==1.0 ; platform_machine == 'none'", "probe==1.0 ; platform_machine != 'none'"]
    source.write_text("\n".join(["probe==1.0", "# bench: no-deps", *pins]), encoding="utf-8")
    assert locks.lock("made", matrices).read_text(encoding="utf-8").splitlines() == ["# bench: no-deps", *pins]
    assert "probe==1.0" in Environments(matrices, matrices.parent / "cache").ensure("made").packages()


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_the_windows_of_opencv_come_in_only_where_their_package_is_asked_for(
    installer: str, matrices: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need libGL, which servers and containers lack; a package that asks for them is given the same module."""
    for name in ("opencv-python", "opencv-python-headless"):
        write_wheel(wheels, "99.0", name=name.replace("-", "_"))
    write_wheel(wheels, "4.0", requires="opencv-python")
    source = matrices / "envs" / "made.in"
    source.write_text("probe==4.0\n", encoding="utf-8")
    assert locks.lock("made", matrices).read_text(encoding="utf-8") == "opencv-python==99.0\nprobe==4.0\n"
    source.write_text("probe==4.0\nopencv-python-headless\n", encoding="utf-8")
    assert locks.lock("made", matrices).read_text(encoding="utf-8") == "opencv-python-headless==99.0\nprobe==4.0\n"
    if installer == "pip":
        monkeypatch.setattr(installers, "find_uv", lambda: None)
        monkeypatch.setattr(installers, "find_pip", lambda _base: [sys.executable, "-m", "pip"])
        pytest.importorskip("pip")
    packages = Environments(matrices, matrices.parent / "cache").ensure("made").packages()
    assert {name.replace("_", "-") for name in packages} == {"opencv-python-headless==99.0", "probe==4.0"}


def test_no_committed_lock_has_the_windows_of_opencv() -> None:
    found = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "matrices" / "envs").glob("*.txt")}
    assert sum("opencv-python-headless==" in text for text in found.values()) > 8
    assert [name for name, text in found.items() if "opencv-python==" in text] == []


@pytest.mark.parametrize("source", sorted((ROOT / "matrices" / "envs").glob("*.in")), ids=lambda path: path.stem)
def test_the_committed_locks_pin_what_they_are_asked_for(source: Path) -> None:
    pins = source.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    if pins[0] == "# bench: no-deps":
        assert pins.pop(0) in source.read_text(encoding="utf-8").splitlines()
    assert pins
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+( ; .+)?", pin) for pin in pins), pins
    names = {pin.split("==")[0].lower() for pin in pins}
    asked = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
    wanted = [line for line in asked if line and not line.startswith(("#", "-"))]
    wanted = [re.sub(r"\[.*?\]", "", line) for line in wanted]  # an extra is pinned by what it asks for
    assert {re.split(r"[=<>]", line)[0].lower() for line in wanted} <= names
    assert {line for line in wanted if "==" in line} <= {*pins, *(pin.partition(" ; ")[0] for pin in pins)}


def test_a_guests_variables_are_few_and_its_pip_refuses(
    environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    variables = environments.variables()
    assert variables["YOLO_AUTOINSTALL"] == "false"
    assert variables["YOLO_OFFLINE"] == "true"
    assert not {"PYTHONPATH", "OMP_NUM_THREADS"} & variables.keys()
    done = subprocess.run(
        ["/bin/sh", "-c", "pip install six"], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "nothing installs itself" in done.stderr
