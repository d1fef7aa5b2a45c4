"""Processes that work for another one: they end when it is stopped, and when it is killed, in the middle of a task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from operator import add

import psutil
import pytest

from bench.check.workers import workers
from bench.places import ROOT

PROGRAM = """
import signal, time
from bench.check.workers import workers

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line does
    with workers() as spread:
        print("up", flush=True)
        try:
            list(spread(time.sleep, [600] * 8))
        except KeyboardInterrupt:
            print("stopped", flush=True)
            raise SystemExit(130)
"""


def test_tasks_are_spread_in_their_order() -> None:
    with workers(2) as spread:
        assert list(spread(add, range(5), range(5))) == [0, 2, 4, 6, 8]
        assert set(spread(_pid, range(4))).isdisjoint({os.getpid()})


def _pid(_task: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_no_worker_outlives_the_one_it_works_for(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        deadline = time.monotonic() + 60
        while not (working := _at_work(running.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(number)
        assert running.wait(20) == (-number if number is signal.SIGKILL else 130)
    _, alive = psutil.wait_procs(working, timeout=20)
    assert not alive


def _at_work(pid: int) -> list[psutil.Process]:
    """Its children, once one of them sleeps in a task: it has had all it needs of the processor then."""
    children = psutil.Process(pid).children(recursive=True)
    tasks = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    idle = [child for child in tasks if child.num_threads() > 1 and child.status() == psutil.STATUS_SLEEPING]
    return children if tasks and len(idle) == len(tasks) else []
