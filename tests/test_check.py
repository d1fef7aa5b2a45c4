"""A check by its user's commands: a baseline, a present state that is equal, slower or broken, and what is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from running import Done, bench
from sweeps import LATENCY_OF_SECONDS

from bench.decide import gate
from bench.decide.gate import Looks, Verdict
from bench.environments import houses
from bench.grid import machine, tolerances
from bench.places import GUEST, MATRICES, ROOT
from bench.reasons import UsageError
from bench.stats.change import Change, decide
from bench.store import baselines
from bench.tasks.registry import TASKS
from bench.wall.worker import Operator

SWEEP = """
description = "Seconds: for the tests of the gate."
imgsz = [160]
images = 16
options = ["onnx"]
precisions = ["fp32"]
targets = ["cpu"]
"""
CELL = "yolo11n-demo/onnx-fp32-cpu-160-b1-t1"
ALLOWED = tolerances.load(MATRICES)


class Place:
    """A house of its own with a baseline of it, as a checkout has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.house = folder / "house"
        shutil.copytree(MATRICES, self.house / "matrices", ignore=shutil.ignore_patterns("claims", "packages"))
        shutil.copytree(GUEST, self.house / "guest", ignore=shutil.ignore_patterns("__pycache__"))
        (self.house / "matrices" / "sweeps" / "tiny.toml").write_text(SWEEP + LATENCY_OF_SECONDS, encoding="utf-8")
        # A wide margin takes few pairs, and what is planted here is far beyond it.
        tolerances_file = self.house / "matrices" / tolerances.FILE
        text = tolerances_file.read_text(encoding="utf-8")
        tolerances_file.write_text(
            text.replace("[latency]\nmargin = 0.003", "[latency]\nmargin = 0.3"), encoding="utf-8"
        )

    def command(self, *words: str, house: Path | None = None) -> Done:
        """A command of a process of its own, since a run inside it starts pytest."""
        line = [sys.executable, "-m", "bench", *words, "--results", str(self.folder / "runs")]
        line += ["--matrices", str((house or self.house) / "matrices")]
        environment = os.environ | {"COLUMNS": "200"}
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900)
        return Done(done.returncode, done.stdout + done.stderr)

    def check(self, *words: str, house: Path | None = None) -> tuple[Done, dict[str, Any]]:
        """A check against the baseline, and the facts that it wrote."""
        told = self.folder / "check.json"
        told.unlink(missing_ok=True)
        done = self.command(
            "check", "--against", "main", "--baselines", str(self.baselines), "--json", str(told), *words, house=house
        )
        return done, json.loads(told.read_text()) if told.is_file() else {}

    def changed(self, name: str, old: str, new: str) -> Path:
        """A copy of the house with another ONNX adapter."""
        other = self.folder / name
        shutil.copytree(self.house, other)
        adapter = other / "guest" / "runtimes" / "onnx_runtime.py"
        text = adapter.read_text(encoding="utf-8")
        assert old in text
        adapter.write_text(text.replace(old, new), encoding="utf-8")
        return other

    @property
    def baselines(self) -> Path:
        return self.folder / "baselines"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("place"))
    run = made.command("run", "--sweep", "tiny", "--run-id", "first", "-k", "not test_latency",
                       "--markdown", str(made.folder / "run.md"))  # fmt: skip
    assert run.code == 0, run.said
    promoted = made.command("baseline", "promote", "first", "--name", "main", "--why", "the first one",
                            "--baselines", str(made.baselines))  # fmt: skip
    assert promoted.code == 0, promoted.said
    return made


def verdicts(facts: dict[str, Any]) -> dict[str, str]:
    return {line["metric"]: line["verdict"] for line in facts["lines"] if line["cell"] == CELL}


def test_a_run_writes_its_comparison_for_a_step_summary(place: Place) -> None:
    lines = (place.folder / "run.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "### first"
    assert len([line for line in lines if line.startswith("|")]) == 2 + 2, "head and rule, the cell and its reference"


def test_what_is_as_it_was_is_not_measured(place: Place) -> None:
    done, facts = place.check()
    assert done.code == 0, done.said
    assert facts["counts"]["unchanged"] == 2, "the cell and its reference"
    assert not facts["regressed"]
    assert "no regression against baseline main" in done.said


def test_a_slower_adapter_is_red_and_named(place: Place) -> None:
    # Twice the work, which no noise of two shared cores hides.
    twice = place.changed("twice", "    output: np.ndarray =", "    for _ in range(2): output: np.ndarray =")
    markdown = place.folder / "summary.md"
    done, facts = place.check("--minutes", "5", "--markdown", str(markdown), house=twice)
    assert done.code == 1, done.said
    expected = {"latency": "worse", "map50_95": "same", "status": "same", "operators": "same"}
    assert verdicts(facts) | expected == verdicts(facts)
    (line,) = [line for line in facts["lines"] if line["metric"] == "latency"]
    assert 1.6 < line["change"]["value"] < 2.4
    assert "onnx-fp32-cpu-160" in markdown.read_text()
    assert "REGRESSED" in done.said
    (pairs,) = {path.parent for path in (place.folder / "checks").glob("*/pairs.parquet") if len(pd.read_parquet(path))}
    assert set(pd.read_parquet(pairs / "pairs.parquet").cell) == {CELL, "A/A control"}
    page = pairs / "candidate" / "report.html"
    written = bench("report", page.parent)
    assert written.code == 0, written.said
    assert 'id="check"' in page.read_text(encoding="utf-8")
    foreseen = place.command("plan", "--against", "main", "--baselines", str(place.baselines), house=twice)
    assert "assumed" not in foreseen.said, "what was seen is known now"
    assert "adapter" in foreseen.said


def test_a_cell_that_fails_is_red_whatever_its_speed(place: Place) -> None:
    broken = place.changed(
        "broken", "def prepare(", "def load(_spec):\n    raise ValueError('broken')\n\n\ndef prepare("
    )
    done, facts = place.check("--minutes", "5", house=broken)
    assert done.code == 1, done.said
    assert verdicts(facts) == {"status": "worse"}
    assert "ValueError: broken" in done.said


def test_another_model_or_an_unknown_baseline_is_wrong_usage(place: Place) -> None:
    other, facts = place.check("--images", "8")
    assert other.code == 2
    assert not facts
    assert "another images" in other.said
    unknown = bench("check", "--against", "mian", "--baselines", place.baselines, "--matrices", MATRICES)
    assert unknown.code == 2
    assert "did you mean main?" in unknown.said
    assert "baseline promote" in unknown.said


def test_promotions_stay_on_record(place: Place, tmp_path: Path) -> None:
    run = place.folder / "runs" / "first"
    house = houses.pack(place.house / "matrices")
    for why in ("one", "another"):
        made = baselines.promote(run, tmp_path, "here", "main", why, house)
    assert [one["why"] for one in baselines.history(made)] == ["one", "another"]
    with pytest.raises(UsageError, match="say why"):
        baselines.promote(run, tmp_path, "here", "main", " ", house)
    with pytest.raises(UsageError, match="has changed since"):
        baselines.promote(run, tmp_path, "here", "main", "stale", house + b" ")
    with pytest.raises(UsageError, match="slash"):
        baselines.promote(run, tmp_path, "here", "../main", "why", house)


def test_a_house_comes_back_as_it_was_packed(tmp_path: Path) -> None:
    packed = houses.pack(MATRICES)
    assert packed == houses.pack(MATRICES)
    matrices = houses.unpack(packed, tmp_path)
    assert (matrices / "envs" / "onnx.txt").read_bytes() == (MATRICES / "envs" / "onnx.txt").read_bytes()
    assert (matrices.parent / "guest" / "server.py").read_bytes() == (GUEST / "server.py").read_bytes()
    with pytest.raises(UsageError, match="not a packed house"):
        houses.unpack(b"nothing", tmp_path)
    with pytest.raises(UsageError, match="nor a revision"):
        houses.commit_of("no-such-revision")


def cells(**changes: Any) -> dict[str, Any]:
    row = {"status": "measured", "reason_code": "", "reason": "", "attested": '{"compute": "f32"}', "size_bytes": 1000,
           "env_bytes": 1000, "map50_95": 0.5, "cell_id": "m/c"}  # fmt: skip
    return {"m/c": pd.Series(row | changes)}


def tables(rows: dict[str, Any]) -> gate.Tables:
    nothing = pd.DataFrame({"cell_id": []})
    return gate.Tables(rows, nothing, nothing, TASKS["detect"])


@pytest.mark.parametrize(
    ("now", "metric", "verdict"),
    [
        (cells(), "status", Verdict.SAME),
        ({}, "status", Verdict.WORSE),
        (cells(status="failed", reason_code="crashed"), "status", Verdict.WORSE),
        (cells(status="invalid", reason_code="parity_exceeded"), "status", Verdict.WORSE),
        (cells(status="skipped", reason_code="target_absent"), "status", Verdict.INCOMPARABLE),
        (cells(status="skipped", reason_code="precision_unsupported"), "status", Verdict.WORSE),
        (cells(attested='{"compute": "f16"}'), "attested", Verdict.WORSE),
        (cells(size_bytes=1010), "size_bytes", Verdict.WORSE),
        (cells(size_bytes=1001), "size_bytes", Verdict.SAME),
        (cells(size_bytes=900), "size_bytes", Verdict.BETTER),
        (cells(env_bytes=1460), "env_bytes", Verdict.WORSE),
        (cells(env_bytes=1015), "env_bytes", Verdict.SAME),
    ],
)
def test_the_ladder(now: dict[str, Any], metric: str, verdict: Verdict) -> None:
    lines = gate.ladder("m/c", tables(cells()), tables(now), ALLOWED)
    found = {line.metric: line.verdict for line in lines}
    assert found[metric] is verdict
    assert gate.stands(lines) == (found["status"] is Verdict.SAME and found["attested"] is Verdict.SAME)


def test_what_failed_before_and_runs_now_is_better() -> None:
    (line,) = gate.ladder("m/c", tables(cells(status="failed", reason_code="crashed")), tables(cells()), ALLOWED)
    assert line.verdict is Verdict.BETTER


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (("Conv", "Conv", "Add"), Verdict.SAME),
        (("Conv", "Add", "Conv"), Verdict.SAME),
        (("Conv", "Conv", "Mul"), Verdict.UNDECIDED),
        (("Conv", "Conv", "Add", "Reorder"), Verdict.UNDECIDED),
        (("Conv",), Verdict.UNDECIDED),
    ],
)
def test_other_operators_are_told_and_never_red(now: tuple[str, ...], verdict: Verdict) -> None:
    base, candidate = ([Operator(str(at), kind, 1.0) for at, kind in enumerate(side)] for side in (
        ("Conv", "Conv", "Add"), now))  # fmt: skip
    line = gate.executed("m/c", base, candidate)
    assert (line.verdict, line.base, line.candidate) == (verdict, "3", str(len(now)))
    assert not gate.regressed([line])


def looks(ratio: float, confirmed: float | None = None) -> Looks:
    noise = np.array([-0.001, 0, 0.001, 0.0005, -0.0005, 0, 0.001, -0.001])
    again = None if confirmed is None else decide(noise + np.log(confirmed), 0.01, 0.005)
    return Looks("m/c", "latency", 10.0, 10.0 * ratio, decide(noise + np.log(ratio), 0.01), again)


def test_times_are_red_where_both_looks_and_the_control_allow_it() -> None:
    assert looks(1.05).screen.change is Change.REGRESSED
    (line,) = gate.timed([looks(1.05, 1.05)], steady=True)
    assert line.verdict is Verdict.WORSE
    (line,) = gate.timed([looks(1.05, 1.0)], steady=True)
    assert (line.verdict, line.why) == (Verdict.UNDECIDED, "seen, not confirmed")
    (line,) = gate.timed([looks(1.05)], steady=True)
    assert line.verdict is Verdict.UNDECIDED
    (line,) = gate.timed([looks(1.05, 1.05)], steady=False)
    assert line.verdict is Verdict.UNDECIDED
    assert "control" in line.why
    assert gate.timed([looks(0.9, 0.9)], steady=True)[0].verdict is Verdict.BETTER
    assert gate.timed([looks(1.0)], steady=True)[0].verdict is Verdict.SAME


def test_a_machine_has_one_name() -> None:
    assert machine.machine_id() == machine.machine_id()
    assert set(machine.machine_id()) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
