"""Ctrl-C in the moment in which something starts: nothing is left that nobody can end, and it is heard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from running import signals_kept

from bench.interrupts import held_back, running
from bench.places import ROOT

GUESTS = ROOT / "tests" / "guests"
STOPS = (signal.SIGINT, signal.SIGTERM)

ROUNDS = """
import os, random, signal, subprocess, sys, threading, time
from contextlib import ExitStack
from pathlib import Path

import psutil

from bench.interrupts import running
from bench.wall.child import Child
from bench.wall.confinement import refusals
from bench.wall.worker import Worker

ADAPTER = Path({adapter!r})


def press(ready):
    ready.wait()
    time.sleep(random.uniform(0, {window}))
    os.kill(os.getpid(), signal.SIGINT)


def guest(stack):
    yield
    stack.enter_context(Worker(Path(sys.executable), ADAPTER, variables={{}}))


def child(stack):
    parent = stack.enter_context(Worker(Path(sys.executable), ADAPTER, variables={{}}))
    yield
    stack.enter_context(Child(parent))


def process(stack):
    yield
    alone = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    stack.enter_context(running([sys.executable, "-c", "import time; time.sleep(60)"], **alone))


def interrupted():
    ready = threading.Event()
    presser = threading.Thread(target=press, args=(ready,))
    presser.start()
    try:
        try:
            with ExitStack() as stack:
                starting = {what}(stack)
                next(starting)
                ready.set()
                next(starting, None)
                while True:
                    time.sleep(0.05)  # a longer sleep could begin just after the stop was noted
        finally:
            presser.join()
    except KeyboardInterrupt:
        return True
    return False


signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started with it ignored
refusals()  # tried once, on a process of its own
heard = left = 0
for _ in range({rounds}):
    heard += interrupted()
    left += len(psutil.Process().children(recursive=True))
print(heard, left)
"""


@pytest.mark.parametrize(("what", "window"), [("guest", 0.006), ("child", 0.006), ("process", 0.003)])
def test_a_process_that_is_just_being_started_ends_with_a_stop(tmp_path: Path, what: str, window: float) -> None:
    rounds = 25
    code = ROUNDS.format(adapter=str(GUESTS / "misbehaving.py"), window=window, rounds=rounds, what=what)
    variables = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(rounds), "0"], "as many stops as were heard, and processes left right after them"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def handled() -> Iterator[None]:
    """Signals as a command line has them, and afterwards as they were."""
    with signals_kept(*STOPS):
        for number in STOPS:
            signal.signal(number, signal.default_int_handler)
        yield


@pytest.mark.usefixtures("handled")
@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_stop_is_held_back_and_then_heard_once(number: signal.Signals) -> None:
    done = []

    def work() -> None:
        with held_back(), held_back():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
    assert signal.getsignal(number) is signal.default_int_handler


@pytest.mark.usefixtures("handled")
def test_what_fails_meanwhile_is_told_where_no_stop_came() -> None:
    with pytest.raises(OSError, match="no room"), held_back():
        raise OSError("no room")
    with pytest.raises(FileNotFoundError), running(["/no/such/program"]):
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_ignored_stays_ignored() -> None:
    with signals_kept(signal.SIGINT):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with held_back():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("handled")
def test_another_thread_holds_nothing_back() -> None:
    seen = []

    def hold() -> None:
        with held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_a_process_ends_with_its_block() -> None:
    with running([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        found = psutil.Process(process.pid)
    assert not found.is_running()
    assert process.returncode == -signal.SIGKILL
