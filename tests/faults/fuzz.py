"""Inputs that nobody meant: each is read, or refused in one clear line; nothing else is raised and nothing is executed.

Every property is a function of one example: it returns a word on what became of it, or raises `Broken` where that was
not right.  Hypothesis makes the examples: `settings` says how many, and a failing one is made as small as it can be.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from faults import strategies
from faults.holds import asked, ended
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from bench.api import compare_cells
from bench.environments import houses
from bench.environments.locked import Environments
from bench.grid import matrix, selfcheck, tolerances
from bench.places import MATRICES
from bench.reasons import CellProblem, Collector, StoreError, UsageError
from bench.report import checked
from bench.store import baselines, pairs
from bench.store.calibration import read as read_calibration
from bench.store.selfcheck import read as read_selfcheck
from bench.tasks.detect.labels import read_labels
from bench.tasks.detect.task import DETECT
from bench.tasks.images import each_once, listed
from bench.wall.artifacts import MANIFEST, Artifact, Artifacts
from bench.wall.checkpoint import _kept
from bench.wall.worker import Worker

FORESEEN = (UsageError, CellProblem, StoreError)
GUARD_S = 0.2
"""Deadline of an answer by a guest that has said all that it says."""


class Broken(AssertionError):
    """An input was neither read nor refused in one clear line."""


@dataclass(frozen=True)
class Place:
    """Where inputs are put: `folder` is the property's own, `canary` the file that hostile texts would make."""

    folder: Path
    run: Path
    artifact: Artifact | None
    canary: Path

    def clear(self, read: Callable[[], object], *names: str) -> str:
        """What became of an input that `read` reads: `read`, or `refused` in words that hold one of the names."""
        try:
            read()
        except FORESEEN as error:
            text = str(error)
            if not text.strip() or "Traceback" in text or not any(name in text for name in names):
                raise Broken(f"{type(error).__name__} names none of {', '.join(names)}: {text[:500]!r}") from error
            self.unharmed()
            return "refused"
        self.unharmed()
        return "read"

    def unharmed(self) -> None:
        """Raise Broken where a hostile text was executed."""
        if self.canary.exists():
            self.canary.unlink()
            raise Broken(f"something was executed: it made {self.canary.name}")


Property = Callable[[Place, Any], str]


@dataclass(frozen=True)
class Input:
    """A kind of input: what it is, how examples are made, what must hold of one; `full` of ten thousand."""

    name: str
    what: str
    examples: Callable[[Place], SearchStrategy[Any]]
    holds: Property
    full: int


@dataclass
class Tally:
    """How many examples of an input were tried, what became of them, and the smallest one that broke it."""

    examples: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def try_out(one: Input, place: Place, number: int, random_seed: int, *, derandomise: bool = False) -> Tally:
    """Try so many examples of an input."""
    tally = Tally()
    place.folder.mkdir(parents=True, exist_ok=True)

    def property_of(example: Any) -> None:
        tally.examples += 1
        try:
            tally.seen[one.holds(place, example)] += 1
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"{type(error).__name__}: {error}") from error

    wrapped = given(one.examples(place))(property_of)
    wrapped = settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=derandomise,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        print_blob=False,
        report_multiple_bugs=False,
    )(wrapped)
    if not derandomise:
        wrapped = seed(random_seed)(wrapped)
    try:
        wrapped()
    except Broken as error:
        notes = " ".join(getattr(error, "__notes__", []))
        tally.broken.append(f"{error} <- {error.__cause__!r} {notes}"[:1500])
    return tally


# -- what people write -------------------------------------------------------------------------------------------------


def _matrix(place: Place, example: tuple[str, bytes]) -> str:
    """A file of the matrix in place of the real one."""
    name, content = example
    folder = _copied(place, "matrices", MATRICES)
    path = folder / name
    with _replaced(path, content):
        if path.parent.name == "sweeps":
            return place.clear(lambda: _cells(folder, path.stem), path.name, *_SELECTS)
        if path.name == tolerances.FILE:
            return place.clear(lambda: tolerances.load(folder), path.name)
        if path.name == selfcheck.FILE:
            return place.clear(lambda: selfcheck.load(folder), path.name)
        return place.clear(lambda: _cells(folder, "smoke"), path.name, path.stem, *_SELECTS)


_SELECTS = ("options", "precisions", "targets", "exclude", "selection")
"""What a sweep names of the options: one that is gone is told by the key that asks for it."""


def _cells(folder: Path, sweep: str) -> None:
    read = matrix.load(folder)
    read.cells("model", read.sweep(sweep))


def _data(place: Place, content: bytes) -> str:
    """A data file beside a set of two images."""
    folder = place.folder / "data"
    if not folder.is_dir():
        strategies.small_set(folder)
    path = folder / "data.yaml"
    with _replaced(path, content):
        return place.clear(lambda: DETECT.load(path), "data.yaml", str(folder), "images")


def _labels(place: Place, example: tuple[bytes, int, int]) -> str:
    """A label file."""
    content, classes, keypoints = example
    path = place.folder / "label.txt"
    path.write_bytes(content)

    def read() -> None:
        rows = read_labels(path, classes, keypoints).rows
        if rows.size and not (np.isfinite(rows).all() and rows[:, 0].max() < classes):
            raise Broken(f"labels that cannot be: {rows}")

    return place.clear(read, path.name)


def _list(place: Place, content: bytes) -> str:
    """A list of images."""
    folder = place.folder / "list"
    if not folder.is_dir():
        strategies.small_set(folder)
    path = folder / "list.txt"
    path.write_bytes(content)

    def read() -> None:
        problems = Collector()
        each_once(listed(path, problems), problems)
        problems.require_none()

    return place.clear(read, path.name, "images")


# -- what the cache and the results hold -------------------------------------------------------------------------------


def _manifest(place: Place, content: bytes) -> str:
    """The manifest of a cached artifact."""
    if place.artifact is None:
        return "no artifact"
    key = place.artifact.key
    folder = _copied(place, f"artifacts/{key}", place.artifact.directory)
    with _replaced(folder / MANIFEST, content):
        found = Artifacts(place.folder, Environments(MATRICES, place.folder)).find(key)
        place.unharmed()
        if found is None:
            return "refused"
        if not isinstance(found.size_bytes, int) or found.sha256 != place.artifact.sha256:
            raise Broken("a manifest of something else is taken for this one's")
        return "read"


def _kept_facts(place: Place, content: bytes) -> str:
    """What the cache keeps of a checkpoint, or of an environment."""
    path = place.folder / "kept.json"
    path.write_bytes(content)
    facts = _kept(path)
    if facts is not None and not all(isinstance(name, str) for name in facts["names"].values()):
        raise Broken(f"facts that cannot be: {facts}")
    place.unharmed()
    return "refused" if facts is None else "read"


def _tables(place: Place, example: tuple[str, Any]) -> str:
    """A table of a run with other values, or with other columns: what is made of the run."""
    name, table = example
    run = _copied(place, "run", place.run)
    path = run / f"{name}.parquet"
    before = path.read_bytes()
    try:
        pq.write_table(table, path)
        done = asked("show", run)
        broken = ended(done, {0, 2}, [path.name])
        cells = [str(cell) for cell in pq.read_table(place.run / "cells.parquet", columns=["cell_id"])["cell_id"]][:2]
        with contextlib.suppress(*FORESEEN):
            compare_cells(run, *cells)
        if not broken and done.code == 0:
            broken += ended(asked("recommend", run), {0, 1, 2})
            if len(done.said) % 5 == 0:  # a page takes longer than the rest
                broken += ended(asked("report", run, "--out", place.folder / "report.html"), {0, 2})
    finally:
        path.write_bytes(before)
    if broken:
        raise Broken("; ".join(broken))
    place.unharmed()
    return "refused" if done.code else "read"


def _baseline(place: Place, example: tuple[str, bytes]) -> str:
    """A file of a baseline, a check or a self-check."""
    name, content = example
    folder = place.folder / "baselines" / "machine" / "main"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    root = folder.parents[1]
    match name:
        case "baseline.json":
            return place.clear(lambda: [one.identities for one in baselines.every(root)], name)
        case "promotions.jsonl":
            return place.clear(lambda: baselines.history(baselines.Baseline(folder, {})), name)
        case "house.zip":
            return place.clear(lambda: houses.unpack(content, place.folder), "house")
        case "check.json":
            return place.clear(lambda: checked.read(folder, "en"), name)
        case "facts.json":
            return place.clear(lambda: pairs.past_noise(folder.parent), name)
        case _:
            return place.clear(lambda: (read_selfcheck if "self" in name else read_calibration)(path), name)


# -- what guests say ---------------------------------------------------------------------------------------------------


def _answers(place: Place, answers: bytes) -> str:
    """A guest that answers so, whatever it is asked."""
    parrot = place.folder / "parrot"
    if not parrot.is_file():
        parrot.write_text('#!/bin/sh\ncat "$ANSWERS"\nwhile read -r _; do :; done\n', encoding="ascii")
        parrot.chmod(parrot.stat().st_mode | stat.S_IXUSR)
    said = place.folder / "answers"
    said.write_bytes(answers)
    variables = {"PATH": os.environ["PATH"], "ANSWERS": str(said)}
    worker = Worker(parrot, Path("parrot.py"), variables=variables)

    def talk() -> None:
        try:
            worker.start(GUARD_S)
            worker.load(strategies.PARROT, GUARD_S)
            timing = worker.time(2, 0, GUARD_S)
            if not (timing.samples_ms > 0).all():
                raise Broken(f"times that cannot be: {timing}")
            worker.profile(1, GUARD_S)
            worker.stats(attest=True, timeout=GUARD_S).attested.get("device")
            worker.call("export", {}, GUARD_S)
            worker.outputs(np.zeros((1, 3, 8, 8), np.float32), GUARD_S)
        finally:
            if worker._guest is not None:
                worker._guest.kill()
            worker.close()

    return place.clear(talk, "")  # a refusal is told in the guest's own words


# -- helpers -----------------------------------------------------------------------------------------------------------


def _copied(place: Place, name: str, source: Path) -> Path:
    folder = place.folder / name
    if not folder.is_dir():
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("claims", "packages", "published", "logs"))
    return folder


@contextlib.contextmanager
def _replaced(path: Path, content: bytes) -> Iterator[None]:
    before = path.read_bytes() if path.is_file() else None
    path.write_bytes(content)
    try:
        yield
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


def _of(make: Callable[[str], SearchStrategy[Any]]) -> Callable[[Place], SearchStrategy[Any]]:
    return lambda place: make(str(place.canary))


def _manifests(place: Place) -> SearchStrategy[bytes]:
    known: Mapping[str, Any] = place.artifact.manifest if place.artifact else {}
    return strategies.changed_json(dict(known), str(place.canary))


INPUTS = (
    Input("matrices", "options, targets, sweeps, limits, tolerances", _of(strategies.matrix_files), _matrix, 1500),
    Input("data files", "Ultralytics data files beside two images", _of(strategies.data_files), _data, 2000),
    Input("label files", "rows of numbers, and of anything else", _of(strategies.label_files), _labels, 2500),
    Input("image lists", "paths, one a line", _of(strategies.image_lists), _list, 1200),
    Input("manifests", "manifests of cached artifacts", _manifests, _manifest, 500),
    Input("kept facts", "what the cache keeps of a checkpoint", _of(strategies.kept_facts), _kept_facts, 500),
    Input(
        "result tables",
        "tables of a run with other values, types and columns: shown, compared, asked for advice, reported",
        lambda place: strategies.tables(place.run, str(place.canary)),
        _tables,
        500,
    ),
    Input("baselines", "facts, promotions and houses of baselines, checks and self-checks",
          _of(strategies.baseline_files), _baseline, 500),
    Input("answers of guests", "lines of the worker protocol", _of(strategies.answers), _answers, 1000),
)  # fmt: skip
"""Ten thousand two hundred in all."""
