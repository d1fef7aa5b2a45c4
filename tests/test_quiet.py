"""One run at a time takes times on a machine: a second waits, says for whom, and goes on when the first is done."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from bench.measure import quiet
from bench.measure.quiet import lock_path, machine_lock
from bench.places import ROOT
from bench.progress import Reporter
from bench.reasons import UsageError

HOLDER = """
import sys
from rich.console import Console
from bench.measure.quiet import machine_lock
from bench.progress import Reporter
with machine_lock(Reporter(Console(), enabled=False)):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def _own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another lock than the one that this machine's real runs take."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(quiet, "LOOK_S", 0.1)


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock until it is sent a line."""
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def reporter() -> tuple[Reporter, io.StringIO]:
    said = io.StringIO()
    return Reporter(Console(file=said, width=200)), said


def take(progress: Reporter, taken: threading.Event) -> None:
    with machine_lock(progress):
        taken.set()


def test_a_second_process_waits_names_the_holder_and_goes_on(holder: subprocess.Popen[str]) -> None:
    progress, said = reporter()
    taken = threading.Event()
    waiting = threading.Thread(target=take, args=(progress, taken))
    waiting.start()
    assert not taken.wait(1.0)
    assert f"Process {holder.pid} takes times" in said.getvalue()
    assert said.getvalue().count("\n") == 1, "said once, however long it takes"
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert taken.wait(20)
    waiting.join()
    assert holder.wait(20) == 0


def test_a_holder_that_was_killed_holds_nothing(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    progress, said = reporter()
    with machine_lock(progress):
        assert lock_path().with_suffix(".pid").read_text() == str(os.getpid())
    assert not lock_path().with_suffix(".pid").exists()
    assert said.getvalue() == ""


def test_the_lock_is_left_after_an_error_inside() -> None:
    progress, _ = reporter()
    with pytest.raises(RuntimeError), machine_lock(progress):
        raise RuntimeError
    taken = threading.Event()
    take(progress, taken)
    assert taken.is_set()


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    progress, _ = reporter()
    with pytest.raises(UsageError, match="XDG_STATE_HOME"), machine_lock(progress):
        pass
