"""The nightly's history: its steps as they stand, over nights in which machines come, fail and leave damaged runs.

The bench merges for real; GitHub, and nox in front of the bench, are played.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import workflows
from synthetic import Fleet, Source
from workflows import Night, Runner

from bench.history import reading
from bench.history.reading import Filters
from bench.places import ROOT

NOX = f"""
'''Stands for nox: the history's command runs for real, in this Python; the site's is recorded.'''
import json, pathlib, subprocess, sys
flag, session, dashes, *words = sys.argv[1:]
assert (flag, dashes) == ("-s", "--")
with (pathlib.Path(__file__).parent / "nox.jsonl").open("a") as calls:
    calls.write(json.dumps([session, *words]) + "\\n")
if session == "history":  # nox ends with 1 whatever the code was
    sys.exit(bool(subprocess.run([{sys.executable!r}, "-m", "bench", session, *words]).returncode))
"""
GH = '''
"""Stands for GitHub: artifacts are folders below `kept`, by run and name."""
import fnmatch, pathlib, shutil, sys
kept = pathlib.Path(__file__).parents[1] / "kept"
words = sys.argv[1:]
match words:
    case ["run", "list", *_]:
        print("\\n".join(sorted((path.name for path in kept.iterdir()), reverse=True)))
    case ["api", address, *_]:
        print("1234" if (kept / address.split("/")[-2] / "history").is_dir() else "")
    case ["run", "download", run, "--name", name, "--dir", folder]:
        shutil.copytree(kept / run / name, folder)
    case ["run", "download", run, "--pattern", pattern, "--dir", folder]:
        found = [path for path in (kept / run).iterdir() if fnmatch.fnmatch(path.name, pattern)]
        if not found:
            sys.exit("no artifact matches any of the names or patterns provided")
        for path in found:
            shutil.copytree(path, pathlib.Path(folder) / path.name)
'''


@dataclass(frozen=True)
class Forge:
    """A repository's artifacts by night, and what plays GitHub and nox."""

    folder: Path

    def __post_init__(self) -> None:
        """Nothing was kept yet."""
        for name in ("bin", "kept", "runs"):
            (self.folder / name).mkdir()
        for name, program in (("nox", NOX), ("gh", GH)):
            (self.folder / "bin" / name).write_text(f"#!{sys.executable}\n{program}", encoding="utf-8")
            (self.folder / "bin" / name).chmod(0o755)

    def left(self, number: int, *machines: str) -> list[Path]:
        """Runs that machines leave as artifacts in a night."""
        fleet = Fleet(Source.of(cells=2), machines=9, start=datetime(2026, 1, 1, tzinfo=UTC))
        folders = []
        for machine in machines:
            run = fleet.write(self.folder / "runs", number, ("x64", "arm64").index(machine))
            folders.append(self.folder / "kept" / str(number) / f"nightly-{machine}")
            shutil.copytree(run, folders[-1])
        (self.folder / "kept" / str(number)).mkdir(exist_ok=True)
        return folders

    def job(self, workflow: str, name: str, number: int) -> Night:
        """The steps of a job of a night, with what it uploads as `history` kept."""
        github = {"sha": "0123", "server_url": "https://forge", "repository": "o/r", "run_id": str(number)}
        contexts: dict[str, Any] = {"github": github}
        variables = {"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "HOME": str(self.folder)}
        runner = Runner(ROOT, self.folder / "temp", variables)
        night = runner.run(workflows.read(workflow)["jobs"][name], contexts, lambda script: "pip install" not in script)
        for action, given in night.used:
            if action == "upload-artifact" and Path(given["path"]).is_dir():
                assert given["name"] == "history"
                shutil.copytree(given["path"], self.folder / "kept" / str(number) / "history")
        return night

    def runs(self, number: int) -> list[str]:
        """Runs of the history that a night kept, oldest first, each with its link."""
        with reading.opened(self.folder / "kept" / str(number) / "history") as base:
            rows = [row for batch in reading.rows(base, "runs", Filters()) for row in batch.to_pylist()]
        return sorted(f"{row['run_id']} {row['link']}" for row in rows)

    def calls(self) -> list[list[str]]:
        """The words of each call of nox."""
        return [json.loads(line) for line in (self.folder / "bin" / "nox.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


def link(number: int) -> str:
    return f"https://forge/o/r/actions/runs/{number}"


def test_each_night_is_merged_with_those_before_and_kept(forge: Forge) -> None:
    forge.left(1, "x64")
    assert not forge.job("nightly.yml", "history", 1).failed
    forge.left(2, "x64", "arm64")
    night = forge.job("nightly.yml", "history", 2)
    assert not night.failed, night.said
    assert forge.runs(2) == [
        f"20260101T000000-nightly-0 {link(1)}",
        f"20260102T000000-nightly-0 {link(2)}",
        f"20260102T000100-nightly-1 {link(2)}",
    ]
    (kept,) = [given for action, given in night.used if action == "upload-artifact"]
    assert kept["retention-days"] == "90"


def test_a_damaged_run_makes_the_night_red_and_the_others_are_kept_and_published(forge: Forge) -> None:
    forge.left(1, "x64")
    forge.job("nightly.yml", "history", 1)
    damaged, _ = forge.left(2, "x64", "arm64")
    (damaged / "cells.parquet").write_bytes(b"PAR1")
    night = forge.job("nightly.yml", "history", 2)
    assert night.failed
    assert "nightly-x64/cells.parquet" in night.said
    assert forge.runs(2) == [f"20260101T000000-nightly-0 {link(1)}", f"20260102T000100-nightly-1 {link(2)}"]
    jobs = workflows.read("nightly.yml")["jobs"]
    assert jobs["history"]["outputs"] == {"kept": "${{ steps.keep.outcome }}"}
    assert jobs["publish"]["if"] == "${{ !cancelled() && needs.history.outputs.kept == 'success' }}"


def test_a_night_that_left_nothing_keeps_the_history_for_as_long_again(forge: Forge) -> None:
    """Else ninety such nights, of a machine that is away, would be the end of it."""
    forge.left(1, "x64")
    forge.job("nightly.yml", "history", 1)
    forge.left(2)
    assert forge.job("nightly.yml", "history", 2).failed
    assert forge.runs(2) == forge.runs(1)


def test_the_site_is_published_with_the_newest_history_that_there_is(forge: Forge) -> None:
    build = forge.job("pages.yml", "build", 1)
    assert not build.failed, build.said
    assert "--history" not in forge.calls()[-1]
    forge.left(2, "x64")
    forge.job("nightly.yml", "history", 2)
    build = forge.job("pages.yml", "build", 3)
    assert not build.failed, build.said
    site = forge.calls()[-1]
    assert site[site.index("--history") + 1] == str(forge.folder / "temp" / "history")
    uploaded = dict(build.used)["upload-pages-artifact"]
    assert uploaded["path"] == site[site.index("--out") + 1]
    jobs = workflows.read("pages.yml")["jobs"]
    assert [step["uses"].partition("@")[0] for step in jobs["publish"]["steps"]] == ["actions/deploy-pages"]
    assert jobs["publish"]["needs"] == "build"
    assert workflows.read("nightly.yml")["jobs"]["publish"]["uses"] == "./.github/workflows/pages.yml"
