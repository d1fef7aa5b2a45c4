"""The short version of the campaign (`nox -s faults`), and that each of its checks can find something."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pyarrow as pa
import pytest
from faults import campaign, fuzz, strategies
from faults.campaign import KINDS, Campaign, experiment, schedule
from faults.files import DAMAGES, damage
from faults.fuzz import INPUTS, Input, Place, try_out
from faults.going import SWEEP_TEXT
from faults.holds import (
    TRACEBACK,
    Watched,
    asked,
    changed,
    ended,
    environments,
    orphans,
    readable,
)
from faults.kinds import Kind, Outcome, Setting
from faults.prepare import prepare
from faults.runs import KINDS as RUNS
from hypothesis import given, settings
from hypothesis.strategies import integers
from processes import environment
from report_fixture import write_run
from running import Done, signals_kept

from bench.places import ROOT
from bench.reasons import UsageError
from bench.store import write_table
from bench.store.parquet import read
from bench.store.tables import add_part

EXAMPLES = {"result tables": 15}
"""Of inputs that take longer than the others, of which there are 35."""


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("faults")
    few = SWEEP_TEXT.replace('["onnx", "openvino"]', '["onnx"]')
    return prepare(folder, run=write_run(folder / "run"), sweep=few)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.short], ids=lambda kind: kind.name.replace(" ", "-"))
def test_faults(kind: Kind, setting: Setting) -> None:
    if why := kind.lacks():
        pytest.skip(why)
    before = environments(setting.cache)
    outcomes: list[Outcome] = []
    while len(outcomes) < kind.short:
        outcomes += experiment(kind.name, setting, len(outcomes))
    assert not [broken for outcome in outcomes for broken in outcome.broken]
    assert not changed(before, environments(setting.cache))


@pytest.mark.parametrize("one", INPUTS, ids=lambda one: one.name.replace(" ", "-"))
def test_inputs(one: Input, setting: Setting, tmp_path: Path) -> None:
    place = Place(tmp_path / "inputs", setting.run, setting.artifacts["onnx"], tmp_path / "canary")
    number = EXAMPLES.get(one.name, 35)
    tally = try_out(one, place, number, 0, derandomise=True)
    assert not tally.broken
    assert tally.examples >= number / 2  # a strategy of few values runs out
    assert tally.seen["refused"], "nothing of it is wrong"


def test_a_campaign_is_a_thousand_faults_of_every_kind() -> None:
    counts = Counter(kind.name for kind in schedule(KINDS, 1000))
    total = sum(kind.full for kind in KINDS)
    assert total >= 1000
    assert sum(counts[kind.name] for kind in RUNS) >= 100, "whole runs"
    assert sum(one.full for one in INPUTS) >= 10_000
    for kind in KINDS:
        assert abs(counts[kind.name] - 1000 * kind.full / total) <= 1, kind.name
    order = [kind.name for kind in schedule(KINDS, 1000)]
    for part in (KINDS[: -len(RUNS)], RUNS):
        own = [name for name in order if name in {kind.name for kind in part}]
        assert {kind.name for kind in part} == set(own[: len(own) // 2]), "half of its time has seen all kinds"
    assert order[-1] in {kind.name for kind in RUNS}


def test_an_end_that_is_not_right_is_found() -> None:
    assert not ended(Done(0, "fine"), {0})
    assert not ended(Done(2, "bench: cannot read a/very-long-na\nme.yaml: no"), {0, 2}, ["very-long-name.yaml"])
    assert ended(Done(1, ""), {0, 2})
    assert ended(Done(0, f"{TRACEBACK}:\n  File"), {0})
    assert ended(Done(2, "something went wrong"), {2})
    assert ended(Done(2, "bench: one\nbench: two"), {2})
    assert ended(Done(2, "bench: no"), {2}, ["data.yaml"])


def test_what_a_command_lets_through_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_words: object) -> Done:
        raise KeyError("status")

    monkeypatch.setattr("faults.holds.bench", fails)
    assert len(ended(asked("show"), {0, 1, 2})) == 2, "the code and the traceback"


def test_an_orphan_is_found_and_ended() -> None:
    assert not orphans("no process has this", 0.0)
    with subprocess.Popen(["sleep", "60"], env={"MARK": "orphan-7f3a", "PATH": "/usr/bin:/bin"}) as process:
        assert orphans("orphan-7f3a", 0.0) == [f"an orphan: {process.pid} sleep 60"]
        assert process.wait(10) < 0


def test_what_has_just_started_is_known_by_its_variables() -> None:
    # So many that the kernel is still writing them when `Popen` returns: read at once, there were none in 60 of 60.
    many = {str(number): "" for number in range(100_000)}
    for _ in range(5):
        with subprocess.Popen(["sleep", "60"], env=many, executable="/bin/sleep") as started:
            found = environment(psutil.Process(started.pid))
            started.kill()
        assert len(found) == len(many)


def test_what_has_no_variables_is_not_waited_for() -> None:
    with subprocess.Popen(["sleep", "60"], env={}, executable="/bin/sleep") as started:
        process = psutil.Process(started.pid)
        assert environment(process) == {}
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
        with pytest.raises(psutil.ZombieProcess):
            environment(process)


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read(run / f"{name}.parquet").to_pylist()
    return found


def test_what_is_lost_is_found(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    watched = Watched(run)
    watched.look()
    assert not watched.lost()
    cells, samples = rows(run, "cells"), rows(run, "samples")
    first = cells[0]["cell_id"]
    write_table(run, "cells", [one | {"map50_95": None} for one in cells])
    assert f"{first}: map50_95 was there and is gone" in watched.lost()
    write_table(run, "cells", [one | {"latency_p50_ms": None} for one in cells])
    assert any(text.startswith(first) and text.endswith("samples and no p50") for text in watched.lost())
    write_table(run, "cells", cells)
    write_table(run, "samples", [one for one in samples if one["cell_id"] != first])
    assert any(text.startswith(first) and text.endswith("samples were there, now 0") for text in watched.lost())
    (run / "samples.parquet").unlink()
    add_part(run, "samples", samples)
    assert not watched.lost(), "parts count"


def test_what_cannot_be_read_or_has_no_reason_is_found(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert not readable(run)
    cells = rows(run, "cells")
    write_table(run, "cells", [one | {"reason_code": ""} if one["status"] == "failed" else one for one in cells])
    assert len(readable(run)) == 1
    (run / "detections.parquet").write_bytes(b"PAR1")
    assert any("detections.parquet" in text for text in readable(run))


def test_a_changed_environment_is_found(tmp_path: Path) -> None:
    site = tmp_path / "envs" / "onnx-1" / "lib" / "python3.11" / "site-packages"
    record = site / "a-1.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    record.touch()
    (tmp_path / "envs" / "onnx-1" / "complete.json").write_text("{}", encoding="ascii")
    before = environments(tmp_path)
    assert set(before) == {"onnx-1"}
    assert not changed(before, environments(tmp_path))
    (site / "b").mkdir()
    assert changed(before, environments(tmp_path)) == ["the environment onnx-1 was changed"]


@pytest.mark.parametrize("what", ["raises", "executes", "words"])
def test_an_input_that_breaks_something_is_found(what: str, tmp_path: Path) -> None:
    """Numbers from a hundred on break it; Hypothesis finds the smallest."""

    def holds(place: Place, number: int) -> str:
        def read() -> None:
            if number >= 100:
                {"raises": broken, "executes": place.canary.touch, "words": wordless}[what]()

        return place.clear(read, "number.txt")

    def broken() -> None:
        raise KeyError("path")

    def wordless() -> None:
        raise UsageError("it is wrong")

    place = Place(tmp_path, tmp_path, None, tmp_path / "canary")
    tally = try_out(Input("numbers", "", lambda _: integers(0, 10_000), holds, 1), place, 200, 1)
    (said,) = tally.broken
    assert "100" in said
    assert {"raises": "KeyError", "executes": "something was executed", "words": "number.txt"}[what] in said


def test_figures_are_added_to_those_of_the_same_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "machine.json"
    kind = KINDS[0]
    for _ in range(2):
        found = Campaign(path, anew=False)
        found.add(kind, [Outcome("refused"), Outcome("as it was", ("it is not",))])
        found.write(30.0)
    assert found.count("faults", "number") == 4
    assert found.count("faults", "broken") == 2
    assert found.facts["faults"][kind.name]["seen"] == {"refused": 2, "as it was": 2}
    assert found.facts["seconds"] == 60.0
    assert Campaign(path, anew=True).count("faults", "number") == 0
    monkeypatch.setattr("bench.grid.machine.git_commit", lambda _folder: "another")
    assert Campaign(path, anew=False).count("faults", "number") == 0


def test_a_fault_that_came_too_late_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not counted, another takes its place, and what did not hold all the same is told."""
    came = iter([Outcome("exit 0", late=True), Outcome("exit 130"), Outcome("exit 0", ("it is gone",), late=True)])
    kind = Kind("stop", "Ctrl-C", "exit code 130", lambda *_: [next(came, Outcome("exit 130"))], full=1)
    monkeypatch.setattr(campaign, "KINDS", (kind,))
    monkeypatch.setattr(campaign, "prepare", lambda folder: Setting(folder, folder, folder, folder, folder, {}))
    monkeypatch.setattr(campaign, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    path = tmp_path / "machine.json"
    with signals_kept(signal.SIGTERM):
        assert campaign.main(["--faults", "3", "--inputs", "0", "--out", str(path)]) == 1
    (found,) = json.loads(path.read_text(encoding="utf-8"))["faults"].values()
    assert (found["number"], found["late"], found["broken"]) == (3, 2, 1)
    assert found["seen"] == {"exit 130": 3}


@settings(max_examples=50, deadline=None, database=None, derandomize=True)
@given(strategies._table("cells", pa.table([[1, None], [2, 3]], names=["", ""]), "canary"))
def test_columns_of_one_name_are_damaged_too(damaged: tuple[str, pa.Table]) -> None:
    assert damaged[0] == "cells"


def test_hostile_texts_would_be_seen(tmp_path: Path) -> None:
    """A shell that executes one of them makes the file that is looked for."""
    canary = tmp_path / "canary"
    text = next(text for text in strategies._ILL if text.startswith("$(")).format(canary=canary)
    subprocess.run(["sh", "-c", f"echo {text}"], check=True, capture_output=True)
    place = Place(tmp_path, tmp_path, None, canary)
    with pytest.raises(fuzz.Broken, match="executed"):
        place.unharmed()


def test_the_program_says_what_it_takes() -> None:
    line, here = [sys.executable, "-m", "faults", "--help"], os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(line, cwd=ROOT, env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--minutes" in done.stdout


def test_damages_differ_from_what_they_damage(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8
    for one in DAMAGES:
        assert all(one(data, Random(seed)) != data for seed in range(5)), one.__name__
    for seed in range(20):
        path = tmp_path / "file"
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        path.write_bytes(data)
        damage(path, Random(seed))
        assert not path.is_file() or path.read_bytes() != data
