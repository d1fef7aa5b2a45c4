"""Processes that Ctrl-C does not lose: Python raises it between any two steps, also before a process has a name."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any


@contextmanager
def running(command: Sequence[str], **how: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that is started as `subprocess.Popen` does, and ends when this does at the latest.  Raises OSError."""
    with ExitStack() as stack:
        with held_back():
            process = stack.enter_context(subprocess.Popen(command, **how))
            stack.callback(process.kill)
        yield process


@contextmanager
def held_back() -> Iterator[None]:
    """Ctrl-C, and a request to end that is taken for one, wait until this is done, and are raised then.

    A process that starts meanwhile is given its name, by which it can be ended and reaped.  Nothing is interrupted but
    the main thread, so nothing happens in another.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _held(signal.SIGINT), _held(signal.SIGTERM):
        yield


@contextmanager
def _held(number: signal.Signals) -> Iterator[None]:
    """One signal, where it has a handler of Python's: any other ends this process, or is ignored."""
    handler = signal.getsignal(number)
    if not callable(handler):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    try:
        signal.signal(number, lambda *heard: came.append(heard))
        yield
    finally:
        signal.signal(number, handler)
        for heard in came[:1]:
            handler(*heard)
