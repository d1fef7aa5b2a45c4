"""Faults of whole runs whose guests are struck: killed, made to crash or hang, left without memory."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from random import Random

import psutil
from faults import machine
from faults.going import KEPT, UNTIMED, going, judged
from faults.kinds import Kind, Outcome, Setting

from bench.reasons import Reason
from bench.store.parts import files
from bench.store.tables import read_table

_CRASHED = (Reason.CRASHED, Reason.OK)
"""A guest that had said all that it was asked for by then is not missed, nor one that was there to be forked."""


def guests(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Each guest but the reference's is struck once in its life: killed, or made to crash."""
    return _struck(setting, random, setting.artifacts.keys() - {"pytorch"}, _CRASHED, _crash)


def early(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A guest is struck where it is characterised."""
    return _struck(setting, random, {"onnx"}, _CRASHED, _crash, first=True)


def reference(setting: Setting, random: Random) -> Sequence[Outcome]:
    """The guest of what others are compared with."""
    return _struck(setting, random, {"pytorch"}, _CRASHED, _crash)


def hanging(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A guest hangs where it is characterised; while it is timed, the deadline is a minute."""
    return _struck(setting, random, {random.choice(["onnx", "openvino"])}, {Reason.TIMED_OUT}, _hang, first=True)


def greedy(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A guest gets no more memory from some moment on."""
    reasons = {Reason.OUT_OF_MEMORY, Reason.CRASHED, Reason.LOAD_FAILED, Reason.INFERENCE_FAILED, Reason.OK}
    return _struck(setting, random, {random.choice(["onnx", "openvino"])}, reasons, _starve)


def _crash(process: psutil.Process, random: Random) -> None:
    process.send_signal(random.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS]))


def _hang(process: psutil.Process, _random: Random) -> None:
    process.suspend()


def _starve(process: psutil.Process, random: Random) -> None:
    size = machine.address_space(process.pid) + random.randrange(1 << 20)
    machine.limit(process.pid, resource.RLIMIT_AS, size)


def _struck(
    setting: Setting,
    random: Random,
    options: set[str],
    reasons: Collection[Reason],
    strike: Callable[[psutil.Process, Random], None],
    *,
    first: bool = False,
) -> Sequence[Outcome]:
    """Strike a guest of each option once, at a random moment after one of them has begun, the first where `first` is.

    Struck is that `first` one, and otherwise the newest at that moment, since it is forked from those before it.
    """
    scratch = setting.scratch()
    due = {name: (1 if first else random.randrange(1, 5), random.uniform(0, 0.8)) for name in options}
    lives: dict[str, list[int]] = {name: [] for name in options}
    born: dict[int, float] = {}
    struck: set[str] = set()
    with going(setting, scratch, *(UNTIMED if first else ())) as one:

        def all_struck() -> bool:
            for option, process in one.guests():
                if option not in options - struck:
                    continue
                if process.pid not in lives[option]:
                    lives[option].append(process.pid)
                    born[process.pid] = time.monotonic()
                life, age = due[option]
                begun = len(lives[option]) >= life and time.monotonic() - born[lives[option][life - 1]] >= age
                if begun and process.pid == lives[option][0 if first else -1]:
                    with contextlib.suppress(psutil.Error, OSError):
                        strike(process, random)
                        struck.add(option)
            return struck == options

        one.follow(all_struck)
        one.follow(lambda: False)
        found = judged(one, scratch, {0, 1})
    told = [_reason(one.watched.run, option) for option in sorted(struck)]
    wrong = [
        f"{option} was struck and its reason is {code!r}"
        for option, code in zip(sorted(struck), told, strict=True)
        if code not in reasons
    ]
    outcomes = [Outcome(code or "went on") for code in told] or [Outcome("ended before", late=True)]
    return [outcomes[0].worse([*found.broken, *wrong]), *outcomes[1:]]


def _reason(run: Path, option: str) -> str:
    if not files(run, "cells"):
        return "no table"
    table = read_table(run, "cells")
    own = table[(table.option == option) & (table.reason_code != Reason.TARGET_ABSENT.value)]
    return str(own.reason_code.iloc[0])


KINDS = (
    Kind("guests crash in a run", "SIGKILL, SIGSEGV, SIGABRT or SIGBUS of a guest of each measured cell, or of what "
         "its next ones are forked from, at a random moment", "exit code 1 and the cell says that it crashed, or it "
         f"goes on where nothing more was asked of that process; {KEPT}", guests, full=12),
    Kind("guest crashes early in a run", "the same of one guest, where it is characterised",
         f"exit code 1, the cell says that it crashed; {KEPT}", early, full=6, short=1),
    Kind("reference crashes in a run", "the same of PyTorch's", f"exit code 1, others say why they have no ratio; "
         f"{KEPT}", reference, full=3),
    Kind("guest hangs in a run", "SIGSTOP", f"exit code 1, the cell says timed_out; {KEPT}", hanging, full=4),
    Kind("guest without memory in a run", "RLIMIT_AS at what it has, at a random moment", "the cell goes on or says "
         f"what failed; {KEPT}", greedy, full=3, lacks=machine.lacks_limits),
)  # fmt: skip
