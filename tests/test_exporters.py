"""Exporters that are forked from a process that has imported what they share: as new ones, and kept from as much."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import gone

from bench.demo import CHECKPOINT
from bench.environments.locked import Environments
from bench.grid import matrix
from bench.guest.seal import WRITES
from bench.places import EXPORTERS
from bench.reasons import CellProblem, Reason
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.confinement import refusals
from bench.wall.exporters import SHARED, shares, worth_forking
from bench.wall.process import GuestProcess

FAMILY = "export-torch"
FORKED = ("pytorch", "torchscript", "onnx", "openvino", "mnn", "ncnn")
DATED = {"model.onnx", "model.torchscript", "model.mnn", "metadata.yaml"}
"""Files that hold when they were written, or where; of all others each byte is the same."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="guests are forked on Linux alone")
locked = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the guests that are processes of their own, as they are started."""
    names: list[str] = []
    start = GuestProcess.start.__func__  # type: ignore[attr-defined]  # of a class method

    def noted(cls: type[GuestProcess], name: str, *rest: object) -> GuestProcess:
        names.append(name)
        return start(cls, name, *rest)  # type: ignore[no-any-return]  # what it gives

    monkeypatch.setattr(GuestProcess, "start", classmethod(noted))
    return names


def exported(artifacts: Artifacts, exporter: str, precision: str = "fp32") -> Artifact:
    path = EXPORTERS / f"{exporter}.py"
    return artifacts.ensure(ExportRequest(CHECKPOINT, exporter, precision, 64, 1, path, FAMILY))


def test_what_most_exporters_import_is_told_from_their_source(tmp_path: Path) -> None:
    ours = {path.stem for path in EXPORTERS.glob("[!_]*.py") if shares(path)}
    assert set(FORKED) <= ours
    assert not ours & {"saved_model", "tflite", "paddle", "checkpoint"}
    other = tmp_path / "torchscript.py"
    other.write_bytes((EXPORTERS / other.name).read_bytes())
    assert not shares(other), "beside it stands another module of that name, or none"
    assert not shares(tmp_path / "absent.py")
    other.write_text("def (", encoding="utf-8")
    assert not shares(other)


@linux
def test_one_process_is_worth_it_where_several_exporters_come_of_it() -> None:
    first, second, alone = (EXPORTERS / f"{name}.py" for name in ("onnx", "torchscript", "tflite"))
    assert worth_forking([(first, "a"), (second, "a"), (first, "b"), (alone, "c"), (alone, "c")]) == {"a"}


def test_every_option_that_is_exported_from_a_checkpoint_in_this_environment_shares_its_imports() -> None:
    every = [option.export for option in matrix.load().options.values() if option.export is not None]
    first = {one.exporter for one in every if one.environment == FAMILY and not one.chain}
    assert first >= set(FORKED)
    assert all(shares(EXPORTERS / f"{exporter}.py") for exporter in first)


@pytest.mark.options
@linux
@locked
def test_several_at_a_time_are_forked_from_one_and_make_what_new_ones_make(
    artifacts: Artifacts, environments: Environments, tmp_path: Path, started: list[str]
) -> None:
    began = time.monotonic()
    with artifacts.exporters.forking({FAMILY}), ThreadPoolExecutor(2) as pool:
        forked = dict(zip(FORKED, pool.map(lambda name: exported(artifacts, name), FORKED), strict=True))
        [(base, seconds)] = filter(None, artifacts.exporters._bases.values())
        pid = base.pid
    own = [artifact.manifest["seconds"] - seconds for artifact in forked.values()]
    assert min(own) > 0, "each has its share of the imports"
    assert sum(own) < 2 * (time.monotonic() - began - seconds), "and what it waited for them is not counted too"
    assert started == [SHARED.stem]
    assert gone(pid)
    alone = Artifacts(tmp_path / "cache", environments)
    new = {name: exported(alone, name) for name in FORKED}
    assert started[1:] == list(FORKED)
    for name, artifact in forked.items():
        manifest, other = artifact.manifest, new[name].manifest
        assert manifest["confined"] == other["confined"]
        assert WRITES in refusals() or manifest["confined"][WRITES].startswith("own folders (Landlock ")
        for told in ("inputs", "entry", "input", "output", "versions", "reproduce", "details"):
            assert manifest[told] == other[told]
        files, others = ({file["path"]: file for file in one["files"]} for one in (manifest, other))
        assert files.keys() == others.keys()
        differing = {path for path, file in files.items() if file["sha256"] != others[path]["sha256"]}
        assert differing <= DATED, name
        assert all(abs(files[path]["bytes"] - others[path]["bytes"]) <= 64 for path in differing)


@pytest.mark.options
@linux
@locked
def test_one_that_refuses_says_so_and_one_whose_base_died_is_a_process_of_its_own(
    artifacts: Artifacts, started: list[str]
) -> None:
    with artifacts.exporters.forking({FAMILY}):
        with pytest.raises(CellProblem, match="int8") as problem:
            exported(artifacts, "torchscript", "int8")
        assert problem.value.reason is Reason.PRECISION_UNSUPPORTED
        [(base, _)] = filter(None, artifacts.exporters._bases.values())
        os.kill(base.pid, signal.SIGKILL)
        assert exported(artifacts, "torchscript", "fp16").size_bytes > 0
    assert started == [SHARED.stem, "torchscript"]
    assert exported(artifacts, "torchscript", "tf32").size_bytes > 0
    assert started == [SHARED.stem, "torchscript", "torchscript"]
