"""What must hold after a fault, whatever it was: looked at by the campaign itself."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from processes import command_line, end, environment, lives
from running import Done, bench

from bench.reasons import Reason, Status, StoreError
from bench.store.parts import files
from bench.store.tables import TABLES, read_table

TRACEBACK = "Traceback (most recent call last)"
"""At the beginning of a line it is the bench's; a guest's, which is part of a cell's reason, is set in from there."""
FIGURES = ("size_bytes", "parity_box_max", "map50_95", "latency_p50_ms")
"""Columns of `cells` that each come from another instrument."""
_MARK = "bench: "


def asked(*words: object) -> Done:
    """How a command of the bench ends in this process; what it lets through is its traceback, with exit code 70."""
    try:
        return bench(*words)
    except Exception:  # noqa: BLE001 - whatever it lets through is what is looked for
        return Done(70, traceback.format_exc())


def ended(done: Done, allowed: Collection[int], names: Collection[str] = ()) -> list[str]:
    """What is wrong with how a command ended: its code, a traceback, an error without one clear line.

    An error names one of `names`, where there are any.
    """
    broken = []
    if done.code not in allowed:
        broken.append(f"exit code {done.code}, not one of {sorted(allowed)}: {_last(done.said)}")
    if any(line.startswith(TRACEBACK) for line in done.said.splitlines()):
        broken.append(f"a traceback: {_last(done.said)}")
    if done.code == 2 and done.said.count(_MARK) != 1:
        broken.append(f"{done.said.count(_MARK)} error messages where one is due: {_last(done.said)}")
    # Where a line is broken is up to the terminal.
    told = "".join(done.said.split())
    if done.code == 2 and names and not any("".join(name.split()) in told for name in names):
        broken.append(f"the error names none of {', '.join(names)}: {_last(done.said)}")
    return broken


def _last(said: str) -> str:
    return " | ".join(said.strip().splitlines()[-3:])[-400:]


@dataclass
class Watched:
    """What a run had on disk when it was last looked at: figures by cell, and how many samples each cell had."""

    run: Path
    figures: dict[str, set[str]] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Note what there is now; that a table which is there cannot be read is a fault of its own."""
        try:
            rows: list[Any] = list(self._table("cells").itertuples())
            for row in rows:
                there = {name for name in FIGURES if not pd.isna(getattr(row, name))}
                self.figures.setdefault(str(row.cell_id), set()).update(there)
            counts = self._table("samples").groupby("cell_id", observed=True).size()
            self.samples = {
                str(name): max(int(count), self.samples.get(str(name), 0)) for name, count in counts.items()
            }
        except StoreError as error:
            self.broken.append(f"a run that goes on cannot be read: {error}")

    def lost(self) -> list[str]:
        """What was there when it was looked at and is not there now."""
        try:
            cells, samples = self._table("cells"), self._table("samples")
        except StoreError as error:
            return [f"the run cannot be read: {error}"]
        rows: dict[str, Any] = {str(row.cell_id): row for row in cells.itertuples()}
        counts = samples.groupby("cell_id", observed=True).size()
        lost = [
            f"{cell}: {name} was there and is gone"
            for cell, names in self.figures.items()
            for name in names
            if cell not in rows or pd.isna(getattr(rows[cell], name))
        ]
        lost += [
            f"{cell}: {number} samples were there, now {counts.get(cell, 0)}"
            for cell, number in self.samples.items()
            if counts.get(cell, 0) < number
        ]
        lost += [
            f"{cell} has {counts[cell]} samples and no p50"
            for cell, row in rows.items()
            if cell in counts and pd.isna(row.latency_p50_ms)
        ]
        return [*self.broken, *lost]

    def _table(self, name: str) -> pd.DataFrame:
        if not files(self.run, name):
            empty: pd.DataFrame = TABLES[name].empty_table().to_pandas()
            return empty
        return read_table(self.run, name)


def readable(run: Path) -> list[str]:
    """What of a run cannot be read, or is no full grid with a reason for every cell that lacks figures."""
    broken = []
    for name in TABLES:
        if files(run, name):
            try:
                read_table(run, name)
            except StoreError as error:
                broken.append(str(error))
    if broken or not files(run, "cells"):
        return broken
    rows: list[Any] = list(read_table(run, "cells").itertuples())
    for row in rows:
        if row.reason_code not in set(Reason) or row.status not in set(Status):
            broken.append(f"{row.cell_id} is {row.status} for {row.reason_code!r}")
        if row.status != Status.MEASURED and not (row.reason_code and row.reason):
            broken.append(f"{row.cell_id} is {row.status} without a reason")
    shown = asked("show", run)
    return broken + [f"show: {one}" for one in ended(shown, {0})]


def orphans(token: str, seconds: float = 10.0) -> list[str]:
    """Processes that still have `token` in their environment after some seconds; they are ended then."""
    deadline = time.monotonic() + seconds
    while (found := list(marked(token))) and time.monotonic() < deadline:
        time.sleep(0.05)
    told = [f"an orphan: {process.pid} {' '.join(command_line(process))[:200]}" for process in found]
    for process in found:
        end(process)
    return told


def marked(token: str, program: str = "") -> Iterator[psutil.Process]:
    """Living processes with `token` in their environment, and with `program`, where one is given, in their command."""
    for process in psutil.process_iter():
        try:
            meant = program in " ".join(command_line(process))
            if meant and any(token in value for value in environment(process).values()) and lives(process):
                yield process
        except psutil.Error:
            continue  # it has ended


def environments(cache: Path) -> dict[str, str]:
    """A fingerprint of each environment below a cache: its marker, its folder of packages and what they recorded."""
    found = {}
    for marker in sorted((cache / "envs").glob("*/complete.json")):
        digest = hashlib.sha256(marker.read_bytes())
        for site in sorted(marker.parent.glob("lib/python*/site-packages")):
            records = [site, *sorted(site.glob("*.dist-info/RECORD"))]
            digest.update(json.dumps([(str(path), path.stat().st_mtime_ns) for path in records]).encode())
        found[marker.parent.name] = digest.hexdigest()
    return found


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Environments that are not what they were; one that somebody built meanwhile is no change."""
    return [f"the environment {name} was changed" for name, was in before.items() if after.get(name) != was]
