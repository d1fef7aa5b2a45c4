"""The workflows: valid, calling only what exists, and the nightly's decisions, with nox and gh played by recorders.

The nightly's steps with the real nox are in test_nightly.py.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import nox
import pytest
import schemas
import typer.main
import workflows
from typer.exceptions import TyperException
from workflows import WORKFLOWS, Night, Runner, expanded, holds

import noxfile as _sessions  # noqa: F401 - registers them
from bench.cli.app import app
from bench.grid import matrix
from bench.places import ROOT

SCHEMA = "https://json.schemastore.org/github-workflow.json"
NAMES = sorted(path.name for path in WORKFLOWS.glob("*.yml"))
COMMANDS = {
    "ci.yml": {"check"},
    "nightly.yml": {"run", "promote", "check", "report", "add"},
    "pages.yml": {"site"},
    "record.yml": {"run"},
}
"""What each workflow calls at least."""

NOX = '''
"""Stands for nox: records its words, and leaves what the command would, as the variables PLAY_* say."""
import json, os, pathlib, sys
words = sys.argv[1:]
with (pathlib.Path(__file__).parent / "nox.jsonl").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
def file(option):
    return pathlib.Path(words[words.index(option) + 1])
code = 0
match words[1]:
    case "bench":
        run = file("--results") / file("--run-id")
        if os.environ["PLAY_BENCH"] != "nothing":
            run.mkdir(parents=True, exist_ok=True)
            (run / "cells.parquet").touch()
        code = int(os.environ["PLAY_BENCH"] != "fine")
    case "baseline":
        made = file("--baselines") / "machine" / file("--name") / "baseline.json"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.touch()
    case "check":
        code = int(os.environ["PLAY_CHECK"] != "fine")
        if os.environ["PLAY_CHECK"] != "broken":
            file("--markdown").write_text("## what was seen\\n")
            if "--json" in words:
                file("--json").write_text(json.dumps({"regressed": bool(code)}))
sys.exit(code)
'''
ORDINARY = {"PLAY_BENCH": "fine", "PLAY_CHECK": "fine"}


def brings_no_tools(script: str) -> bool:
    """Not a step that installs nox, which is played here, and not the tests themselves."""
    return "pip install" not in script and ".ci/run" not in script


class Machine:
    """A machine of the nightly's with recorders in place of nox and gh."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.temp, self.checkout = folder, folder / "bin", folder / "temp", ROOT
        self.bin.mkdir()
        for name, program in (("nox", NOX), ("gh", workflows.GH)):
            (self.bin / name).write_text(f"#!{sys.executable}\n{program}", encoding="utf-8")
            (self.bin / name).chmod(0o755)
        (self.bin / "python3.11").symlink_to(sys.executable)  # for a step that reads JSON with it

    def night(self, why: str = "", job: dict[str, Any] | None = None, machine: str = "x64", **play: str) -> Night:
        variables = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.folder), **ORDINARY, **play}
        contexts = {
            "github": {"sha": "0123456789abcdef", "server_url": "https://forge", "repository": "o/r", "run_id": "5"},
            "matrix": {"machine": machine},
            "inputs": {"why": why},
        }
        runner = Runner(self.checkout, self.temp, variables)
        return runner.run(job or workflows.read("nightly.yml")["jobs"]["bench"], contexts, brings_no_tools)

    def calls(self) -> list[list[str]]:
        """The words of each call of nox, in order."""
        return [json.loads(line) for line in (self.bin / "nox.jsonl").read_text(encoding="utf-8").splitlines()]

    def asked(self) -> list[str]:
        """What was asked of gh, in order: the first two words of each call."""
        path = self.bin / "gh.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [" ".join(json.loads(line)["words"][:2]) for line in lines]

    def body(self) -> str:
        """The text that the newest call of gh brought."""
        return str(json.loads((self.bin / "gh.jsonl").read_text(encoding="utf-8").splitlines()[-1])["body"])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def settled(machine: Machine) -> Machine:
    """One that has its baseline."""
    machine.night()
    return machine


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """A checkout with a commit before its newest, as a pull request's is."""
    folder = tmp_path / "merged"
    shutil.copytree(ROOT / ".ci", folder / ".ci", ignore=shutil.ignore_patterns("venv"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "--quiet", str(folder)], check=True)
    for message in ("base", "merge"):
        commit = [*git, "commit", "--quiet", "--allow-empty", "--message", message]
        subprocess.run(commit, cwd=folder, check=True)
    return folder


class Recorder:
    """What a session of the noxfile is given: keeps its command instead of running it."""

    posargs: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def install(self, *_: str, **__: Any) -> None: ...

    def run(self, *command: str, **__: Any) -> None:
        assert not self.command
        self.command = command


@functools.cache
def command_of(session: str) -> tuple[str, ...]:
    """The bench's command that a session runs.  Raises KeyError for a session that there is not."""
    recorder = Recorder()
    nox.registry.get()[session].func(recorder)
    assert recorder.command[:3] == ("python", "-m", "bench")
    return recorder.command[3:]


def understood(call: list[str]) -> str:
    """Take a call of nox as nox and the command line do; returns the command's name.

    Raises KeyError for a session that there is not, and the command line's own error for what it does not take.
    """
    flag, session, *rest = call
    assert flag == "-s"
    words, here = [*command_of(session), *rest[1:]], cast("Any", typer.main.get_command(app))
    context = here.make_context("bench", list(words))
    while hasattr(here, "resolve_command"):
        _, here, words = here.resolve_command(context, words)
        context = here.make_context(here.name, list(words), parent=context)
    return str(here.name)


def test_an_option_or_session_that_there_is_not_is_found() -> None:
    assert understood(["-s", "bench", "--", "--sweep", "quick"]) == "run"
    with pytest.raises(TyperException, match="--speed"):
        understood(["-s", "bench", "--", "--speed", "quick"])
    with pytest.raises(KeyError, match="benchmark"):
        understood(["-s", "benchmark"])


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_is_as_its_published_schema_has_it(name: str) -> None:
    schemas.validator(SCHEMA).validate(workflows.read(name))


def test_rights_are_to_read_but_for_the_jobs_that_are_for_more() -> None:
    more: dict[tuple[str, str], set[str]] = {}
    for name in NAMES:
        found = workflows.read(name)
        assert "write" not in found["permissions"].values()
        for job, facts in found["jobs"].items():
            writing = {right for right, kind in facts.get("permissions", {}).items() if kind == "write"}
            more |= {(name, job): writing} if writing else {}
    published = {"pages", "id-token"}
    assert more == {
        ("nightly.yml", "bench"): {"issues"},
        ("nightly.yml", "publish"): published,
        ("pages.yml", "publish"): published,
    }


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_commits_and_leave_no_token_behind(name: str) -> None:
    text = (WORKFLOWS / name).read_text(encoding="utf-8")
    uses = [one for one in re.findall(r"uses: (.*)", text) if not one.startswith("./")]
    assert uses
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one) for one in uses)
    steps = [step for job in workflows.jobs(name) for step in job["steps"]]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_every_machine_that_can_be_chosen_has_a_sweep_of_its_own() -> None:
    chosen = workflows.read("nightly.yml")["on"]["workflow_dispatch"]["inputs"]["machine"]["options"]
    assert chosen == ["all", "x64", "gpu", "arm64", "macos"]
    sweeps = matrix.load().sweeps
    assert {"nightly"} | {f"nightly-{name}" for name in chosen[2:]} <= set(sweeps)
    recorded = workflows.read("record.yml")["on"]["workflow_dispatch"]["inputs"]["machine"]["options"]
    assert set(recorded) < set(chosen)


def test_core_mls_compute_units_are_rows_of_what_a_mac_records() -> None:
    """All that Core ML lets a program choose from, each with the same package."""
    read = matrix.load()
    cells = [cell for cell in read.cells("m", read.sweep("nightly-macos")) if cell.target == "coreml"]
    half = [cell for cell in cells if (cell.spec.artifact or cell.precision) == "fp16"]
    units = {cell.spec.runtime_options.get("compute_units", "ALL") for cell in half}
    assert units == {"ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"}


@pytest.mark.parametrize(
    ("name", "sweep"),
    [("x64", "nightly"), ("gpu", "nightly-gpu"), ("arm64", "nightly-arm64"), ("macos", "nightly-macos")],
)
def test_a_machine_measures_its_sweep_and_the_other_steps_take_that_run(
    machine: Machine, name: str, sweep: str
) -> None:
    machine.night(machine=name)
    run, promote = machine.calls()
    assert run[run.index("--sweep") + 1] == sweep
    folder = Path(run[run.index("--results") + 1], run[run.index("--run-id") + 1])
    assert folder.name.endswith(f"-{sweep}")
    assert str(folder) in promote
    assert promote[promote.index("--baselines") + 1] == str(folder.parents[1] / "baselines")
    assert not folder.is_relative_to(ROOT)


def test_a_nights_run_has_the_name_of_its_machine_or_the_one_its_owner_gave(machine: Machine) -> None:
    def name() -> str:
        text = (machine.temp / "env").read_text(encoding="utf-8")
        return dict(line.split("=") for line in text.splitlines())["YOLO11_BENCH_MACHINE"]

    machine.night(machine="arm64")
    assert name() == "arm64"
    machine.night(machine="arm64", YOLO11_BENCH_MACHINE="kitchen")
    assert name() == "kitchen"


def test_a_machines_own_variables_say_where_and_what(settled: Machine, tmp_path: Path) -> None:
    settled.night(BENCH_SWEEP="quick", BENCH_MINUTES="3")
    run, check, _ = settled.calls()[-3:]
    assert run[run.index("--sweep") + 1] == "quick"
    assert check[check.index("--minutes") + 1] == "3"
    settled.night(BENCH_HOME=str(tmp_path / "kept"))
    run, promote = settled.calls()[-2:]
    assert run[run.index("--results") + 1] == str(tmp_path / "kept" / "runs")
    assert promote[3] == "promote"  # this home has no baseline yet


def test_the_first_night_makes_the_baseline_and_is_not_checked(machine: Machine) -> None:
    night = machine.night()
    assert not night.failed
    promote = machine.calls()[-1]
    assert promote[:4] == ["-s", "baseline", "--", "promote"]
    assert promote[promote.index("--why") + 1] == "first night of x64, at 0123456789ab"
    assert not any("check" in call for call in machine.calls())
    assert "first night" in night.summary
    assert machine.asked() == []


def test_a_night_like_the_baseline_says_so_and_opens_nothing(settled: Machine) -> None:
    night = settled.night()
    assert not night.failed
    assert night.summary == "## what was seen\n"
    assert settled.calls()[-1][1] == "report"  # anew, since it shows the check
    assert settled.asked() == ["issue list"]


def test_a_regression_opens_one_issue_keeps_it_current_and_closes_it_when_it_is_gone(settled: Machine) -> None:
    assert settled.night(PLAY_CHECK="regressed").failed
    assert settled.asked() == ["label create", "issue list", "issue create"]
    assert "## what was seen" in settled.body()
    assert "https://forge/o/r/actions/runs/5" in settled.body()
    assert settled.night(PLAY_CHECK="regressed").failed
    assert settled.asked()[3:] == ["label create", "issue list", "issue edit"]
    assert not settled.night().failed
    assert settled.asked()[6:] == ["issue list", "issue close"]
    assert not settled.night().failed
    assert settled.asked()[8:] == ["issue list"]


def test_a_cell_that_failed_is_left_to_the_check(settled: Machine) -> None:
    assert not settled.night(PLAY_BENCH="failed").failed
    assert "check" in settled.calls()[-2]


def test_a_run_that_left_nothing_ends_the_night(machine: Machine) -> None:
    night = machine.night(PLAY_BENCH="nothing")
    assert night.failed
    assert night.ran[-1] == "Measure"
    assert len(machine.calls()) == 1


def test_a_check_that_broke_fails_the_night_and_is_no_regression(settled: Machine) -> None:
    night = settled.night(PLAY_CHECK="broken")
    assert night.failed
    assert night.ran[-1] == "Check"
    assert settled.asked() == []


def test_what_is_promoted_with_a_reason_is_no_regression(settled: Machine) -> None:
    reason = 'onnxruntime\'s update; we accept "slower" $(for now)'
    assert not settled.night(why=reason, PLAY_CHECK="regressed").failed
    promote = settled.calls()[-1]
    assert promote[3] == "promote"
    assert promote[promote.index("--why") + 1] == reason
    assert settled.asked() == []


@pytest.mark.parametrize("name", NAMES)
def test_every_session_and_option_that_a_workflow_calls_exists(machine: Machine, merged: Path, name: str) -> None:
    machine.checkout = merged
    for job in workflows.jobs(name):
        machine.night(job=job)
        machine.night(job=job, why="a reason")
    if (machine.bin / "nox.jsonl").exists():
        assert {understood(call) for call in machine.calls()} >= COMMANDS[name]


def test_what_this_runner_does_not_know_is_an_error() -> None:
    known = {"steps": {"check": {"outputs": {"outcome": "fine"}}}, "inputs": {}}
    assert holds("steps.check.outputs.outcome == 'fine' && inputs.why == ''", known)
    assert not holds("steps.none.outputs.outcome == 'fine'", known)
    assert expanded("nightly-${{ steps.check.outputs.outcome }}", known) == "nightly-fine"
    with pytest.raises(KeyError):
        holds("secrets.token != ''", known)


HISTORIES = '''
"""Stands for GitHub: run 9 is the newest and has kept no history, 8 and 7 have; every call is recorded."""
import os, pathlib, sys
words = sys.argv[1:]
with (pathlib.Path(__file__).parent / "calls").open("a") as calls:
    calls.write(" ".join(words) + "\\n")
match words:
    case ["run", "list", *_]:
        print(os.environ["PLAY_RUNS"])
    case ["api", address, *_]:
        print("" if "/runs/9/" in address else "1234")
    case ["run", "download", _, "--name", "history", "--dir", folder]:
        if os.environ.get("PLAY_BROKEN"):
            sys.exit(1)
        pathlib.Path(folder).mkdir()
'''


def fetched(tmp_path: Path, **play: str) -> tuple[int, list[str]]:
    """Run .ci/history; returns its exit code and what it asked of gh."""
    (tmp_path / "gh").write_text(f"#!{sys.executable}\n{HISTORIES}", encoding="utf-8")
    (tmp_path / "gh").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "GITHUB_REF_NAME": "main", "GH_REPO": "o/r", **play}
    done = subprocess.run([ROOT / ".ci" / "history", tmp_path / "history"], env=variables, check=False)
    return done.returncode, (tmp_path / "calls").read_text(encoding="utf-8").splitlines()


def test_the_newest_history_that_was_kept_is_fetched(tmp_path: Path) -> None:
    code, asked = fetched(tmp_path, PLAY_RUNS="9\n8\n7")
    assert code == 0
    assert asked[-1] == f"run download 8 --name history --dir {tmp_path / 'history'}"
    assert not any("/runs/7/" in one for one in asked)


def test_before_the_first_history_there_is_nothing_to_fetch(tmp_path: Path) -> None:
    code, asked = fetched(tmp_path, PLAY_RUNS="9")
    assert code == 0
    assert len(asked) == 2
    assert not (tmp_path / "history").exists()


def test_a_history_that_cannot_be_fetched_is_not_begun_anew(tmp_path: Path) -> None:
    assert fetched(tmp_path, PLAY_RUNS="8", PLAY_BROKEN="yes")[0] != 0
