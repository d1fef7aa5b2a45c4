"""The tables that checks look at: several runs side by side, each row with its run and its machine."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from bench import store
from bench.decide.timings import Timings, timings
from bench.grid import machine
from bench.grid.machine import NOT_FOUND
from bench.grid.matrix import Matrix
from bench.reasons import Reason, Status, UsageError
from bench.store.reading import optional
from bench.store.tables import TIMED_ON
from bench.words.names import Thing, apart
from bench.words.text import Text

Origin = Literal["measured", "published"]

ORDER = {
    "cells": ["run_id", "cell_id"],
    "samples": ["run_id", "cell_id", "window", "launch", "round", "order", "index"],
    "environment": ["run_id", "scope", "key"],
    "probes": ["run_id", "probe", "option", "subject", "machine", "outcome"],
    "packages": ["run_id", "package", "version", "kind", "python", "abi", "platform"],
}

# Failures that say nothing of the target: they happen before the artifact reaches it.
_BEFORE_TARGET = {Reason.EXPORT_FAILED.value, Reason.ENVIRONMENT_FAILED.value, Reason.REFERENCE_FAILED.value}


@dataclass(frozen=True)
class Vocabulary:
    """What the matrix says of options and targets.

    `options` maps the guide's options to the targets they exist on, `option_names` and `target_names` ids to what they
    are called, `emulates` a target whose processor is emulated to the one it stands for; `stand_ins` are all targets on
    which results only indicate something of another.
    """

    options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    option_names: Mapping[str, str] = field(default_factory=dict)
    target_names: Mapping[str, Text] = field(default_factory=dict)
    emulates: Mapping[str, str] = field(default_factory=dict)
    stand_ins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, matrix: Matrix) -> Vocabulary:
        """The vocabulary of a matrix."""
        options, targets = matrix.options.values(), matrix.targets.items()
        return cls(
            {option.id: tuple(option.targets) for option in options if option.in_guide},
            {option.id: option.name for option in options},
            {name: Text(en=target.name, zh=target.name_zh or target.name) for name, target in targets},
            {name: target.emulates for name, target in targets if target.emulates},
            frozenset(name for name, target in targets if target.stands_in_for),
        )


@dataclass(frozen=True)
class Tables:
    """Tables of one or several runs, in an order that does not depend on that of the files.

    `grid` holds every cell, `rows` the same as objects, `cells` those that were measured and whose attestation agreed:
    only they count as results.
    """

    grid: pd.DataFrame
    samples: pd.DataFrame
    environment: pd.DataFrame
    probes: pd.DataFrame
    packages: pd.DataFrame
    origin: Origin = "measured"
    words: Vocabulary = field(default_factory=Vocabulary)

    def __post_init__(self) -> None:
        """Put every table into its order, so that no verdict depends on that of the rows; absent texts become empty."""
        for name, keys in ORDER.items():
            attribute = "grid" if name == "cells" else name
            frame: pd.DataFrame = getattr(self, attribute)
            texts = [field.name for field in store.TABLES[name] if pa.types.is_string(field.type)]
            frame = frame.assign(**{column: frame[column].fillna("") for column in texts if column in frame})
            object.__setattr__(self, attribute, frame.sort_values(keys, kind="stable", ignore_index=True))

    @cached_property
    def rows(self) -> list[Any]:
        """Rows of the grid, one object each."""
        return list(self.grid.itertuples(index=False))

    @cached_property
    def cells(self) -> list[Any]:
        """Rows of measured cells."""
        return [row for row in self.rows if row.status == Status.MEASURED.value]

    @cached_property
    def having(self) -> Mapping[str, frozenset[str]]:
        """Machines that have a target, by target: it was found there, or something reached it."""
        reached = {Status.MEASURED.value, Status.INVALID.value}
        machines = {row.machine for row in self.rows}
        facts = self.environment[(self.environment.scope == "targets") & self.environment.machine.isin(machines)]
        told = zip(facts.key, facts.value, facts.machine, strict=True)
        found = {(target, machine) for target, said, machine in told if NOT_FOUND not in said}
        found |= {
            (row.target, row.machine)
            for row in self.rows
            if row.status in reached or (row.status == Status.FAILED.value and row.reason_code not in _BEFORE_TARGET)
        }
        return {one: frozenset(machine for target, machine in found if target == one) for one, _ in found}

    @property
    def present(self) -> frozenset[str]:
        """Targets that at least one of the machines has."""
        return frozenset(self.having)

    @cached_property
    def timeable(self) -> frozenset[str]:
        """Targets that are present, without those that were measured beside timed cells and never timed themselves.

        They are emulated, drawn in software, or otherwise of no use for speed: another machine is needed for it.
        """
        timed = {(row.run_id, row.target) for row in self.cells if pd.notna(row.latency_ratio)}
        runs = {run for run, _ in timed}
        never = {row.target for row in self.cells if row.run_id in runs} - {target for _, target in timed}
        return self.present - never

    def name(self, option: str) -> str:
        """What an option is called."""
        return self.words.option_names.get(option, option)

    def target_name(self, target: str) -> Text:
        """What a target is called."""
        return self.words.target_names.get(target, Text(en=target, zh=target))

    def with_emulated(self, targets: Sequence[str]) -> list[str]:
        """Targets and those that emulate them: results count there too, speed does not."""
        return [*targets, *(name for name, real in self.words.emulates.items() if real in targets)]

    @cached_property
    def _on_stand_ins(self) -> frozenset[str]:
        return frozenset(f"{row.run_id}/{row.cell_id}" for row in self.rows if row.target in self.words.stand_ins)

    def stands_in(self, evidence: Sequence[str]) -> bool:
        """Whether rows, by the names that evidence has, were measured on something that stands in for a target."""
        return not self._on_stand_ins.isdisjoint(evidence)

    def on(self, machines: Sequence[str]) -> Tables:
        """These tables with the cells of machines whose processor's name holds one of the texts; empty: of all."""
        if not machines:
            return self
        processors = self.grid.machine.map(machine.processor_of)
        named = processors.map(lambda name: any(text in name for text in machines)).astype(bool)
        return replace(self, grid=self.grid[named])

    @cached_property
    def timings(self) -> Mapping[str, Timings]:
        """What was timed, by run."""
        return {str(run): timings(samples) for run, samples in self.samples.groupby("run_id", observed=True)}

    def samples_of(self, run_id: str, cell_id: str) -> pd.DataFrame:
        """Latency samples of a cell."""
        return self.samples[(self.samples.run_id == run_id) & (self.samples.cell_id == cell_id)]


def load(directories: Sequence[Path], matrix: Matrix) -> Tables:
    """Read runs from their folders.  `probes` and `packages` may be absent, `samples` too.

    Models of one name whose files differ are told apart by the hash, and so are machines by what their names leave out:
    what is taken together is of one model on one machine.

    Raises UsageError for no folder or two runs of one name, store.StoreError for a table that cannot be read.
    """
    folders = list(dict.fromkeys(path.resolve() for path in directories))
    if not folders:
        raise UsageError("no run given; name the folder of at least one run")
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in ORDER}
    seen: dict[str, Path] = {}
    runs = [(folder, store.read_table(folder, "cells"), store.read_table(folder, "environment")) for folder in folders]
    models = apart(thing for _, cells, _ in runs for thing in _models(cells))
    machines = apart(
        thing for _, cells, environment in runs for thing in (_machine(environment), *_timed_on(cells, environment))
    )
    for folder, cells, environment in runs:
        run_id = str(cells.run_id.iloc[0]) if len(cells) else folder.name
        if run_id in seen:
            raise UsageError(f"{folder} and {seen[run_id]} are both run {run_id!r}; name each run once")
        seen[run_id] = folder
        own = _machine(environment)
        named = cells.assign(model=[models[thing] for thing in _models(cells)])
        for name, frames in parts.items():
            known = {"cells": named, "environment": environment}.get(name)
            frame = known if known is not None else optional(folder, name)
            # Probes name a machine themselves: this one, or another that they were made on.
            where = frame.machine.replace(own[0], machines[own]) if "machine" in frame else machines[own]
            frames.append(frame.assign(run_id=run_id, machine=where))
        timed_on = [machines[thing] for thing in _timed_on(cells, environment)]
        parts["cells"][-1] = parts["cells"][-1].assign(machine=timed_on)
    tables = {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}
    tables["samples"]["cell_id"] = tables["samples"].cell_id.astype(str)
    return Tables(
        grid=tables["cells"],
        samples=tables["samples"],
        environment=tables["environment"],
        probes=tables["probes"],
        packages=tables["packages"],
        words=Vocabulary.of(matrix),
    )


def machine_name(environment: pd.DataFrame) -> str:
    """What a run's machine is called.  `environment` is the run's table."""
    return machine.run_name(_facts(environment, "machine"), _facts(environment, "targets"))


def _machine(environment: pd.DataFrame, scope: str = "machine") -> Thing:
    """A run's machine by its name, and the hash of what that leaves out; another scope is of one of its fleet."""
    facts = _facts(environment, scope)
    name = machine_name(environment) if scope == "machine" else machine.short_name(facts)
    return name, machine.unnamed(facts)


def _timed_on(cells: pd.DataFrame, environment: pd.DataFrame) -> list[Thing]:
    """The machine of each of a run's cells: the one that timed it, where it is not the run's."""
    own, scopes = _machine(environment), set(environment.scope)
    named = [f"{TIMED_ON}{name}" for name in cells.timed_on]
    others = {scope: _machine(environment, scope) for scope in scopes.intersection(named)}
    return [others.get(scope, own) for scope in named]


def _models(cells: pd.DataFrame) -> list[Thing]:
    """The model of each of a run's cells by its name, and the hash of its file."""
    return list(zip(cells.model.fillna("").astype(str), cells.model_sha256.fillna("").astype(str), strict=True))


def _facts(environment: pd.DataFrame, scope: str) -> dict[str, str]:
    rows = environment[environment.scope == scope]
    return dict(zip(rows.key, rows.value, strict=True))


def day(value: Any) -> datetime.date | None:
    """The UTC day of a timestamp; None for a missing one."""
    if value is None or pd.isna(value):
        return None
    return pd.Timestamp(value).date()
