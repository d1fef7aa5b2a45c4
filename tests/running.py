"""The command line in this process: what it prints and the code it ends with, without the start of an interpreter.

What is about the process itself (signals, kills, a full disk, a changed package) starts `python -m bench` instead.
"""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bench import report as _report  # noqa: F401 - see below
from bench.cli.app import main
from bench.grid.request import CACHE_VARIABLE, Request
from bench.measure import prepare as _prepare  # noqa: F401 - see below

# What a run imports late is imported above: `pytester` forgets what a pytest within imported, and C extensions load
# once per process.

USERS_CACHE = Request({}).cache
"""Asked for at once, since `pytester` gives its tests another home, and with it an empty cache."""


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said on standard output and standard error together."""

    code: int
    said: str


def bench(*arguments: object, columns: int = 200) -> Done:
    """Run a command as `python -m bench` does, on the user's cache; `columns` is the width of the terminal."""
    out = io.StringIO()
    words = [str(argument) for argument in arguments]
    with signals_kept(signal.SIGTERM), pytest.MonkeyPatch.context() as variables:
        variables.setenv(CACHE_VARIABLE, str(USERS_CACHE))
        variables.setenv("COLUMNS", str(columns))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), pytest.raises(SystemExit) as ended:
            main(words)
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.getvalue())


@contextlib.contextmanager
def signals_kept(*numbers: signal.Signals) -> Iterator[None]:
    """What these signals do to this process is afterwards what it was; a `main` changes it for the rest of its own."""
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
