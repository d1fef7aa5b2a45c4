"""The campaign: faults injected one after another, inputs tried, counted and written down.

    nox -s faults -- --faults 1000 --inputs 10000 --minutes 45

Kinds of faults take turns by their share of a thousand, those of whole runs after the others, since they take longest.
Each experiment is made in a process of its own, since one that crashes is a fault found.  Figures are added to those of
the same machine and commit; `--anew` begins again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from faults import files, guests, runs
from faults.fuzz import INPUTS, Input, Place, Tally, try_out
from faults.holds import changed, environments
from faults.kinds import Kind, Outcome, Setting
from faults.prepare import prepare

from bench.grid import machine
from bench.places import ROOT
from bench.store.pairs import write_facts

KINDS: tuple[Kind, ...] = (*files.KINDS, *guests.KINDS, *runs.KINDS)
GROUPS = {"files": files.KINDS, "guests": guests.KINDS, "runs": runs.KINDS}
RESULTS = ROOT / "results" / "faults"
VERSION = 1
_KEPT = 40
"""Failures of which the words are kept."""


def schedule(kinds: Sequence[Kind], number: int) -> Iterator[Kind]:
    """About so many kinds in turn by their share; whole runs, which take longest, after all others."""
    total = sum(kind.full for kind in kinds)
    short, long = ([kind for kind in kinds if (kind in runs.KINDS) is whole] for whole in (False, True))
    for part in filter(None, (short, long)):
        whole = sum(kind.full for kind in part)
        due = {kind.name: 0.0 for kind in part}
        for _ in range(round(number * whole / total)):
            for kind in part:
                due[kind.name] += kind.full / whole
            kind = max(part, key=lambda one: due[one.name])
            due[kind.name] -= 1.0
            yield kind


def experiment(name: str, setting: Setting, seed: int) -> list[Outcome]:
    """One experiment of a kind: what came of each of its faults."""
    kind = next(kind for kind in KINDS if kind.name == name)
    try:
        return list(kind.inject(setting, Random(seed)))
    except Exception:  # noqa: BLE001 - whatever the bench lets through is a fault found
        return [Outcome("raised", (traceback.format_exc()[-1500:],))]


def _commit() -> str:
    """The commit of the checkout, with `+changes` where the tree differs from it in more than a campaign's figures."""
    commit = machine.git_commit(ROOT)
    figures = f":!{RESULTS.relative_to(ROOT).as_posix()}"
    changed = machine.git(ROOT, "status", "--porcelain", "--untracked-files=no", "--", ".", figures).stdout.strip()
    return commit if changed else commit.removesuffix("+changes")


class Campaign:
    """What was found so far, and where it is written."""

    def __init__(self, path: Path, *, anew: bool) -> None:
        """Go on from the figures that are there, if they are of this version and commit."""
        self.path = path
        self.commit = _commit()
        self.facts: dict[str, Any] = {
            "version": VERSION,
            "machine": machine.short_name(machine.fingerprint([])),
            "commit": self.commit,
            "seconds": 0.0,
            "faults": {},
            "inputs": {},
            "lacking": {},
            "broken": [],
        }
        if path.is_file() and not anew:
            known = json.loads(path.read_text(encoding="utf-8"))
            if (known["version"], known["commit"]) == (VERSION, self.commit):
                self.facts = known

    def lacking(self) -> list[Kind]:
        """Kinds that this machine can have; why it cannot have the others is noted."""
        for kind in KINDS:
            if why := kind.lacks():
                self.facts["lacking"][kind.name] = why
        return [kind for kind in KINDS if kind.name not in self.facts["lacking"]]

    def add(self, kind: Kind, outcomes: Sequence[Outcome]) -> None:
        """Count what came of some faults of a kind; those that came too late for themselves."""
        own = self._of("faults", kind.name, what=kind.what, holds=kind.holds)
        for outcome in outcomes:
            own["broken"] += bool(outcome.broken)
            if outcome.late:
                own["late"] = own.get("late", 0) + 1
            else:
                own["number"] += 1
                own["seen"][outcome.seen] = own["seen"].get(outcome.seen, 0) + 1
            self._keep(kind.name, outcome.broken)

    def add_inputs(self, one: Input, tally: Tally) -> None:
        """Count what came of some inputs."""
        own = self._of("inputs", one.name, what=one.what)
        own["number"] += tally.examples
        own["broken"] += len(tally.broken)
        own["seen"] = dict(Counter(own["seen"]) + tally.seen)
        self._keep(one.name, tally.broken)

    def _of(self, table: str, name: str, **words: str) -> dict[str, Any]:
        empty = {"number": 0, "broken": 0, "seen": {}}
        own: dict[str, Any] = self.facts[table].setdefault(name, empty)
        own.update(words)
        return own

    def _keep(self, name: str, broken: Sequence[str]) -> None:
        for text in broken:
            print(f"BROKEN {name}: {text}", flush=True)
            if len(self.facts["broken"]) < _KEPT:
                self.facts["broken"].append(f"{name}: {text}")

    def write(self, seconds: float) -> None:
        """Write what was found, `seconds` after the last time."""
        self.facts["seconds"] += seconds
        write_facts(self.path, self.facts)

    def count(self, table: str, column: str) -> int:
        """Faults or examples, or how many of them were broken."""
        return sum(one[column] for one in self.facts[table].values())


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s faults --", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--faults", type=int, default=1000, help="how many faults are injected")
    parser.add_argument("--inputs", type=int, default=10_000, help="how many inputs are tried")
    parser.add_argument("--minutes", type=float, default=60.0, help="no fault is injected after that")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of everything that is drawn")
    parser.add_argument("--only", default="", help="kinds or inputs whose names hold this, or files, guests, runs")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{machine.machine_id()}.json", help="where figures go")
    parser.add_argument("--anew", action="store_true", help="forget what was found before")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run a campaign; the exit code is 1 where something did not hold."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was found is then written, and folders go
    asked = _asked(arguments)
    found = Campaign(asked.out, anew=asked.anew)
    started = written = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="bench-faults-"))
    try:
        setting = prepare(folder)
        before = environments(setting.cache)
        for one, tally in _inputs(setting, asked):
            found.add_inputs(one, tally)
            found.write(time.monotonic() - written)
            written = time.monotonic()
        deadline = started + 60 * asked.minutes
        for kind, outcomes in _faults(setting, found, asked, deadline):
            gone = [] if kind in files.KINDS else changed(before, environments(setting.cache))
            found.add(kind, outcomes if not gone else [*outcomes[:-1], outcomes[-1].worse(gone)])
            if time.monotonic() - written > 5:
                print(f"{found.count('faults', 'number')} faults after {time.monotonic() - started:.0f} s", flush=True)
                found.write(time.monotonic() - written)
                written = time.monotonic()
    except KeyboardInterrupt:
        print("stopped; what was found is kept", flush=True)
    finally:
        found.write(time.monotonic() - written)
        shutil.rmtree(folder, ignore_errors=True)
    summary(found)
    return 1 if found.count("faults", "broken") + found.count("inputs", "broken") else 0


def _inputs(setting: Setting, asked: argparse.Namespace) -> Iterator[tuple[Input, Tally]]:
    chosen = [one for one in INPUTS if not asked.only or asked.only in one.name]
    total = sum(one.full for one in INPUTS)
    for place, one in enumerate(chosen if asked.inputs else ()):
        number = -(-one.full * asked.inputs // total)
        own = setting.folder / "inputs" / str(place)
        where = Place(own, setting.run, setting.artifacts["onnx"], setting.folder / "canary")
        tally = try_out(one, where, number, asked.seed)
        print(f"{one.name}: {tally.examples} inputs, {dict(tally.seen)}", flush=True)
        yield one, tally


def _faults(
    setting: Setting, found: Campaign, asked: argparse.Namespace, deadline: float
) -> Iterator[tuple[Kind, Sequence[Outcome]]]:
    possible = found.lacking()
    named = {kind.name for kind in GROUPS.get(asked.only, ())}
    kinds = [kind for kind in possible if not asked.only or kind.name in named or asked.only in kind.name]
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=spawn)
    due: Counter[str] = Counter()
    injected: Counter[str] = Counter()  # an experiment may inject more than the one that is due, or come too late
    seeds = count(asked.seed * 100_003)
    try:
        for kind in schedule(kinds, asked.faults):
            due[kind.name] += 1
            while injected[kind.name] < due[kind.name]:
                if time.monotonic() > deadline:
                    return
                seed = next(seeds)
                try:
                    outcomes = pool.submit(experiment, kind.name, setting, seed).result()
                except BrokenProcessPool:
                    outcomes = [Outcome("the process died", (f"seed {seed} killed the process",))]
                    pool = ProcessPoolExecutor(1, mp_context=spawn)
                shutil.rmtree(setting.folder / "scratch", ignore_errors=True)
                injected[kind.name] += sum(not outcome.late for outcome in outcomes)
                yield kind, outcomes
    finally:
        pool.shutdown()


def summary(found: Campaign) -> None:
    """Print what was found."""
    facts: Mapping[str, Any] = found.facts
    for table in ("faults", "inputs"):
        for name, own in facts[table].items():
            seen = ", ".join(f"{word} {times}" for word, times in sorted(own["seen"].items(), key=lambda one: -one[1]))
            late = f" ({own['late']} more came too late)" if own.get("late") else ""
            print(f"{own['number']:6} {own['broken']:4} broken  {name}: {seen}{late}")
    for name, why in facts["lacking"].items():
        print(f"not here: {name}: {why}")
    faults, inputs = found.count("faults", "number"), found.count("inputs", "number")
    broken = found.count("faults", "broken"), found.count("inputs", "broken")
    print(
        f"{faults} faults, {broken[0]} broken; {inputs} inputs, {broken[1]} broken; {facts['seconds'] / 60:.1f} minutes"
    )
    print(f"Figures  {found.path}")
