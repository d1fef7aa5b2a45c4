"""The artifact cache with real exports by a guest that needs no framework."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.environments.installers import OnOutput
from bench.environments.locked import Env, Environments
from bench.guest.seal import ISOLATED, NETWORK, WRITES
from bench.reasons import CellProblem, Reason, Status, UsageError
from bench.wall import carried
from bench.wall.artifacts import Artifacts, ExportRequest
from bench.wall.carried import Carried
from bench.wall.confinement import refusals

GUESTS = Path(__file__).parent / "guests"
ROOT = GUESTS.parents[1]


class CoreEnvironments(Environments):
    """Environments whose every family is the interpreter that runs the tests, so that nothing is installed."""

    def lock_text(self, family: str) -> str:
        return f"{family}==1\n"

    def ensure(self, family: str, on_output: OnOutput | None = None) -> Env:
        del on_output
        return Env(family, Path(sys.executable), Path(sys.prefix), "0" * 64, 0)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def artifacts(cache: Path) -> Artifacts:
    return make(cache)


def make(cache: Path) -> Artifacts:
    """What the next process has: nothing in memory."""
    return Artifacts(cache, CoreEnvironments(ROOT / "matrices", cache))


def plan(tmp_path: Path, **content: Any) -> ExportRequest:
    """A request whose weights tell the exporter what to do."""
    weights = tmp_path / "weights.pt"
    weights.write_text(json.dumps({"log": str(_log(tmp_path)), **content}), encoding="utf-8")
    return ExportRequest(weights, "option", "fp32", 32, 1, GUESTS / "exporter.py", "family")


def _log(tmp_path: Path) -> Path:
    """A place that the exporter may write to, beside its own folder: the home of all guests."""
    return tmp_path / "cache" / "home" / "log"


def exports(tmp_path: Path) -> int:
    log = _log(tmp_path)
    return len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0


def test_exported_once_and_described(artifacts: Artifacts, cache: Path, tmp_path: Path) -> None:
    request = plan(tmp_path)
    artifact = artifacts.ensure(request)
    assert artifact.key == artifacts.key(request) == artifact.directory.name
    assert artifact.size_bytes == 1000 + len("[]")
    assert [file["path"] for file in artifact.manifest["files"]] == ["model.bin", "model.json"]
    assert artifact.manifest["entry"] == "model.bin"
    assert artifact.manifest["calibration"] is None
    assert artifact.manifest["seconds"] > 0
    assert artifact.manifest["reproduce"]
    assert artifact.manifest["confined"][NETWORK] == refusals().get(NETWORK, ISOLATED)
    assert artifact.manifest["confined"][WRITES].startswith(refusals().get(WRITES, "own folders (Landlock "))
    assert make(cache).ensure(request) == artifact
    assert exports(tmp_path) == 1
    assert sorted(path.name for path in artifact.directory.iterdir()) == ["manifest.json", "model.bin", "model.json"]


def test_whatever_decides_the_outcome_changes_the_key(artifacts: Artifacts, tmp_path: Path) -> None:
    request = plan(tmp_path)
    images = [tmp_path / "a.png", tmp_path / "b.png"]
    for image in images:
        image.write_bytes(image.name.encode())
    exporter = tmp_path / "exporters" / "exporter.py"
    exporter.parent.mkdir()
    shutil.copy(GUESTS / "exporter.py", exporter)
    here = dataclasses.replace(request, exporter=exporter)
    assert artifacts.key(here) == artifacts.key(request)  # the content counts, not the place
    variants = [
        request,
        dataclasses.replace(request, option="other"),
        dataclasses.replace(request, precision="int8"),
        dataclasses.replace(request, imgsz=64),
        dataclasses.replace(request, batch=2),
        dataclasses.replace(request, environment="other"),
        dataclasses.replace(request, calibration=(images[0],)),
        dataclasses.replace(request, calibration=tuple(images)),
        dataclasses.replace(request, calibration=tuple(reversed(images))),
    ]
    keys = [artifacts.key(variant) for variant in variants]
    exporter.write_text(exporter.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    keys.append(artifacts.key(here))
    (exporter.parent / "_shared.py").touch()
    keys.append(artifacts.key(here))
    keys.append(artifacts.key(plan(tmp_path, other="weights")))
    assert len(set(keys)) == len(keys) == 12


def test_calibration_reaches_the_exporter_and_the_manifest(artifacts: Artifacts, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(b"pixels")
    artifact = artifacts.ensure(dataclasses.replace(plan(tmp_path), calibration=(image,)))
    assert artifact.manifest["calibration"] == {"split": "train", "images": 1}
    assert json.loads((artifact.directory / "model.json").read_text(encoding="utf-8")) == [str(image)]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("truncate", "has 10 bytes instead of 1000"),
        ("flip", "content of model.bin has changed"),
        ("remove", "model.bin is missing"),
        ("manifest", "manifest.json cannot be read"),
        ("forge", "manifest.json contradicts itself"),
        ("letter", "manifest.json cannot be read: ValueError('it is not as it was written')"),
        ("no manifest", "manifest.json is missing"),
    ],
)
def test_a_damaged_copy_is_reported_and_replaced(
    artifacts: Artifacts, cache: Path, tmp_path: Path, damage: str, words: str
) -> None:
    request = plan(tmp_path)
    artifact = artifacts.ensure(request)
    model, manifest = artifact.directory / "model.bin", artifact.directory / "manifest.json"
    match damage:
        case "truncate":
            model.write_bytes(b"w" * 10)
        case "flip":
            model.write_bytes(b"w" * 999 + b"v")
        case "remove":
            model.unlink()
        case "manifest":
            manifest.write_text(manifest.read_text(encoding="utf-8")[:100], encoding="utf-8")
        case "forge":
            told = {name: value for name, value in artifact.manifest.items() if name != "manifest_sha256"}
            manifest.write_text(json.dumps({**told, "files": told["files"][:1]}), encoding="utf-8")
        case "letter":
            text = manifest.read_text(encoding="utf-8")
            assert text.count('"channels_first"') == 1
            manifest.write_text(text.replace('"channels_first"', '"channels_fjrst"'), encoding="utf-8")
        case "no manifest":
            manifest.unlink()
    replaced = make(cache).ensure(request)
    assert words in replaced.warnings[0]
    assert (replaced.directory / "model.bin").read_bytes() == b"w" * 1000
    assert exports(tmp_path) == 2
    assert make(cache).ensure(request).warnings == ()


@pytest.mark.parametrize(
    ("behaviour", "reason", "words"),
    [
        ("raise", Reason.EXPORT_FAILED, "operator not supported"),
        ("sigkill", Reason.CRASHED, "SIGKILL"),
        ("sleep", Reason.TIMED_OUT, "within 1 s"),
        ("unlisted", Reason.EXPORT_FAILED, "does not list: model.json"),
        ("absent", Reason.EXPORT_FAILED, "model.xml"),
    ],
)
def test_an_export_that_fails_leaves_nothing(
    artifacts: Artifacts, cache: Path, tmp_path: Path, behaviour: str, reason: Reason, words: str
) -> None:
    with pytest.raises(CellProblem, match=words) as problem:
        artifacts.ensure(plan(tmp_path, behaviour=behaviour), timeout=1 if behaviour == "sleep" else 60)
    assert problem.value.reason is reason
    assert [path.suffix for path in (cache / "artifacts").iterdir()] == [".lock"]


def test_what_a_killed_run_left_is_removed_and_not_used(artifacts: Artifacts, cache: Path, tmp_path: Path) -> None:
    request = plan(tmp_path)
    leftover = cache / "artifacts" / f".{artifacts.key(request)[:12]}-left"
    leftover.mkdir(parents=True)
    (leftover / "model.bin").write_bytes(b"half")
    artifacts.ensure(request)
    assert not leftover.exists()
    assert exports(tmp_path) == 1


def test_two_processes_export_once(cache: Path, tmp_path: Path) -> None:
    request = plan(tmp_path, behaviour="slow")
    text = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "from pathlib import Path\nfrom test_artifacts import *\n"
        f"weights = Path({str(request.weights)!r})\n"
        "request = ExportRequest(weights, 'option', 'fp32', 32, 1, GUESTS / 'exporter.py', 'family')\n"
        f"print(make(Path({str(cache)!r})).ensure(request).sha256)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert said[0] == said[1] != ""
    assert exports(tmp_path) == 1


def test_an_input_that_cannot_be_read_is_the_users_to_correct(artifacts: Artifacts, tmp_path: Path) -> None:
    request = dataclasses.replace(plan(tmp_path), weights=tmp_path / "absent.pt")
    with pytest.raises(UsageError, match=r"absent\.pt: cannot read this weights"):
        artifacts.ensure(request)


def test_a_cache_that_cannot_be_written_costs_the_cell(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(CellProblem, match="cannot store") as problem:
        make(tmp_path / "cache").ensure(plan(tmp_path))
    assert problem.value.reason is Reason.EXPORT_FAILED


# -- what was packed on another machine --------------------------------------------------------------------------------


class NoEnvironments(CoreEnvironments):
    """Those of a machine that can install none, and whose locks are of another time."""

    def lock_text(self, family: str) -> str:
        return f"{family}==2\n"

    def ensure(self, family: str, on_output: OnOutput | None = None) -> Env:
        del on_output
        raise CellProblem(Reason.ENVIRONMENT_FAILED, f"there is no index for {family}")

    def existing(self, family: str) -> Env | None:
        del family
        return None


def elsewhere(cache: Path) -> Artifacts:
    """The artifacts of another machine."""
    return Artifacts(cache, NoEnvironments(ROOT / "matrices", cache))


def test_an_artifact_that_was_brought_needs_no_exporter(artifacts: Artifacts, tmp_path: Path) -> None:
    """It is the same file under the same address, though this machine's own address for it would be another."""
    request, other = dataclasses.replace(plan(tmp_path), program="compiler 1"), tmp_path / "other"
    made = artifacts.ensure(request)
    carried.write(other, Carried({artifacts.asked(request): made.key}))
    shutil.copytree(made.directory, other / "artifacts" / made.key)
    there = dataclasses.replace(request, program="")
    found = elsewhere(other).ensure(there)
    assert (found.key, found.manifest) == (made.key, made.manifest)
    assert elsewhere(other).key(there) == made.key
    assert elsewhere(tmp_path / "empty").key(there) != made.key
    (found.directory / "model.bin").write_bytes(b"damaged")
    with pytest.raises(CellProblem, match="there is no index"):
        elsewhere(other).ensure(there)


def test_what_was_brought_is_found_by_what_it_is(artifacts: Artifacts, tmp_path: Path) -> None:
    request = plan(tmp_path)
    image = tmp_path / "image.png"
    image.write_bytes(b"pixels")
    same = [
        dataclasses.replace(request, environment="other"),
        dataclasses.replace(request, program="compiler 1"),
    ]
    others = [
        dataclasses.replace(request, option="other"),
        dataclasses.replace(request, imgsz=64),
        dataclasses.replace(request, device="a card"),
        dataclasses.replace(request, calibration=(image,)),
    ]
    assert {artifacts.asked(one) for one in same} == {artifacts.asked(request)}
    assert len({artifacts.asked(one) for one in [request, *others]}) == 1 + len(others)


def test_why_there_is_no_artifact_is_brought_too(artifacts: Artifacts, tmp_path: Path) -> None:
    """Where nothing can be exported; a machine that can tries for itself."""
    request, other = plan(tmp_path), tmp_path / "other"
    refusal = (Reason.PRECISION_UNSUPPORTED.value, "not in 8 bits", Status.SKIPPED.value)
    carried.write(other, Carried(problems={artifacts.asked(request): refusal}))
    with pytest.raises(CellProblem, match="not in 8 bits") as problem:
        elsewhere(other).ensure(request)
    assert (problem.value.reason, problem.value.status) == (Reason.PRECISION_UNSUPPORTED, Status.SKIPPED)
    with pytest.raises(CellProblem, match="there is no index"):
        elsewhere(tmp_path / "empty").ensure(request)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"artifacts": {}, "problems": {"x": 1}}'])
def test_a_damaged_list_of_what_was_brought_is_named(text: str, cache: Path) -> None:
    cache.mkdir()
    (cache / carried.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=f"{carried.FILE} is damaged"):
        make(cache)
