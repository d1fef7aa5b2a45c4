"""One run at a time takes times on a machine: a second waits, says for whom, and goes on when the first is done."""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from bench.measure import quiet
from bench.measure.quiet import lock_path, machine_lock, working
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


WORKER = """
import sys
from bench.measure.quiet import working
with working():
    print("works", flush=True)
    sys.stdin.readline()
"""


def test_who_takes_times_waits_for_who_works_and_who_would_work_waits_for_it() -> None:
    """A worker of a fleet ends its shard first; the next begins when no times are taken any more."""
    command = [sys.executable, "-c", WORKER]
    progress, _ = reporter()
    taken, done = threading.Event(), threading.Event()

    def time_something() -> None:
        with machine_lock(progress):
            taken.set()
            assert done.wait(60)

    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "works\n"
        timing = threading.Thread(target=time_something)
        timing.start()
        assert not taken.wait(1.0), "the shard goes on"
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as second:
            first.communicate("\n")
            assert taken.wait(20)
            deadline = time.monotonic() + 20
            while not list(lock_path().parent.glob(f"working-*-{second.pid}.lock")):
                assert time.monotonic() < deadline, "it comes to look whether it may"
                time.sleep(0.05)
            time.sleep(0.5)
            assert second.poll() is None
            assert second.stdout is not None
            assert not select.select([second.stdout], [], [], 0)[0], "nobody works while times are taken"
            done.set()
            timing.join()
            assert second.stdout.readline() == "works\n"
            second.communicate("\n")
    assert not list(lock_path().parent.glob("working-*")), "nothing is left behind"


def test_a_timer_that_was_killed_keeps_nobody_from_work(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait(20)
    assert lock_path().with_suffix(".pid").exists(), "it could not take its note back"
    with working():
        assert not lock_path().with_suffix(".pid").exists()
