"""Output that nobody reads, or no disk takes: it ends no command, and is told where what was written is not whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from report_fixture import write_run

from bench.cli.options import told_of
from bench.places import ROOT
from bench.reasons import UsageError

COMMAND = [sys.executable, "-m", "bench"]
FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run")


@pytest.mark.parametrize("words", [["show"], ["show", "--format", "csv"], ["show", "--format", "json"]])
def test_a_reader_that_goes_away_ends_nothing(run: Path, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, words[0], str(run), *words[1:]], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("words", [["show"], ["show", "--format", "csv"]])
def test_output_that_is_not_whole_is_told(run: Path, words: list[str]) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [*COMMAND, words[0], str(run), *words[1:]], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr == b"bench: the output could not be written whole: No space left on device\n"


def test_streams_that_the_caller_closed_are_missed_by_nobody(run: Path) -> None:
    line = f'exec "{sys.executable}" -m bench show "{run}" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", line], cwd=ROOT, check=False).returncode == 0


def test_a_wrong_use_is_told_whoever_reads_the_output() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "show", "nothing-of-this-name"], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert done.returncode == 2
    assert done.stderr.startswith(b"bench: ")


def test_a_file_of_the_users_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "summary.md"
    told = r"cannot write .*summary\.md: No such file.*choose another place"
    with pytest.raises(UsageError, match=told), told_of(path):
        path.open("a", encoding="utf-8").close()
