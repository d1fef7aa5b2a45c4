"""Faults of whole runs: what happens to their own process, and all the others."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from random import Random

from faults import struck, surroundings
from faults.going import KEPT, UNTIMED, going, judged, moment
from faults.kinds import Kind, Outcome, Setting

from bench.guest.server import FOLDER


def killed(setting: Setting, random: Random) -> Sequence[Outcome]:
    """SIGKILL of the run."""
    scratch = setting.scratch()
    with going(setting, scratch) as one:
        one.wait(moment(setting, random))
        one.process.kill()
        return [judged(one, scratch, {-signal.SIGKILL, 0, 1})]


def stopped(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Ctrl-C, or a stop signal."""
    scratch = setting.scratch()
    with going(setting, scratch) as one:
        one.wait(moment(setting, random))
        one.process.send_signal(random.choice([signal.SIGINT, signal.SIGTERM]))
        return [judged(one, scratch, {130, 0, 1, *_BEFORE_IT_LISTENS})]


def stopped_early(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Ctrl-C before there is anything to be seen."""
    scratch = setting.scratch()
    with going(setting, scratch) as one:
        one.wait(random.uniform(0, 2.5))
        one.process.send_signal(signal.SIGINT)
        return [judged(one, scratch, {130, *_BEFORE_IT_LISTENS})]


def stopped_at_a_start(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Ctrl-C just when a guest is started, or forked: its folder, which comes first, has just been made."""
    scratch, due, seen = setting.scratch(), random.randrange(1, 15), set[str]()
    with going(setting, scratch) as one:
        while one.process.poll() is None and len(seen) < due:  # without a pause, which would be longer than a start
            with suppress(FileNotFoundError):  # a guest has ended, and its folder with it
                seen.update(path.name for path in (scratch / "tmp").rglob(f"{FOLDER}*"))
        one.late = len(seen) < due
        time.sleep(random.uniform(0, 0.006))
        one.process.send_signal(signal.SIGINT)
        return [judged(one, scratch, {130, 0, 1})]


def hung_up(setting: Setting, random: Random) -> Sequence[Outcome]:
    """The terminal is closed."""
    scratch = setting.scratch()
    with going(setting, scratch) as one:
        one.wait(moment(setting, random))
        one.process.send_signal(signal.SIGHUP)
        return [judged(one, scratch, {-signal.SIGHUP, 0})]


def suspended(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Ctrl-Z, and some seconds later on with it; half of the time for longer than an inference may take."""
    scratch = setting.scratch()
    with going(setting, scratch) as one:
        one.wait(moment(setting, random))
        one.process.send_signal(signal.SIGSTOP)
        time.sleep(random.choice([random.uniform(0, 3.0), random.uniform(6.5, 9.0)]))
        one.process.send_signal(signal.SIGCONT)
        one.follow(lambda: False)
        return [judged(one, scratch, {0})]


def unheard(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Whoever reads what the run prints goes away, as `head` does."""
    scratch = setting.scratch()
    reading, writing = os.pipe()
    command = ["head", "-c", str(random.choice([1, random.randrange(1, 400), random.randrange(1, 4000)]))]
    with (
        subprocess.Popen(command, stdin=reading, stdout=subprocess.DEVNULL),
        going(setting, scratch, *UNTIMED, said=writing) as one,
    ):
        os.close(reading)
        os.close(writing)
        one.follow(lambda: False)
        return [judged(one, scratch, {0})]


def stopped_twice(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Ctrl-C, and again before the run has ended."""
    scratch = setting.scratch()
    with going(setting, scratch) as one:
        one.wait(moment(setting, random))
        one.process.send_signal(signal.SIGINT)
        again = one.seconds + random.choice([random.uniform(0, 0.2), random.uniform(0, 2.0)])
        one.follow(lambda: one.seconds >= again)
        one.process.send_signal(random.choice([signal.SIGINT, signal.SIGTERM]))
        return [judged(one, scratch, {130, 0, 1, *_BEFORE_IT_LISTENS})]


_BEFORE_IT_LISTENS = (-signal.SIGINT, -signal.SIGTERM)
"""How an interpreter ends that has not read the first line of ours yet."""


_OWN = (
    Kind("run killed", "SIGKILL at a random moment of a run", KEPT, killed, full=24),
    Kind("run stopped", "Ctrl-C or SIGTERM, likewise", f"exit code 130; {KEPT}", stopped, full=14),
    Kind("run stopped early", "Ctrl-C in its first seconds", "exit code 130, and nothing is left behind", stopped_early,
         full=12),
    Kind("run stopped at a guest's start", "Ctrl-C within 6 ms of when a guest is given its folder", "exit code 130; "
         f"{KEPT}", stopped_at_a_start, full=8),
    Kind("run stopped twice", "Ctrl-C, and again within two seconds", f"exit code 130; {KEPT}", stopped_twice,
         full=10),
    Kind("run suspended", "Ctrl-Z at a random moment, and on with it some seconds later", f"exit code 0; {KEPT}",
         suspended, full=8),
    Kind("terminal closed", "SIGHUP at a random moment", KEPT, hung_up, full=6),
    Kind("output unheard", "what reads the run's output ends", f"exit code 0; {KEPT}", unheard, full=6),
)  # fmt: skip
KINDS: tuple[Kind, ...] = (*_OWN, *struck.KINDS, *surroundings.KINDS)
