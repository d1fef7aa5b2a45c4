"""Several processes for what takes minutes: they end with the one that waits for them, whatever ends it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

from bench.grid import machine


@contextmanager
def workers(chunk: int = 1) -> Iterator[Any]:
    """A `map` over as many processes as there are CPUs, each given `chunk` tasks at a time.

    Where an exception leaves it, Ctrl-C and a stop signal too, tasks that are at work are ended and not waited for.
    """
    before = set(multiprocessing.active_children())
    # Not forked: a progress bar has a thread of its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(machine.available_cpus()), context, _begin) as pool:
        try:
            yield partial(pool.map, chunksize=chunk)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
            raise


def _begin() -> None:
    """Leave Ctrl-C, which reaches every process of a terminal, to the one that waits, and end where that has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # nobody is there to be told anything
