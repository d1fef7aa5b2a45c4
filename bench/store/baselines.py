"""Baselines: what a machine's later states are held against.

`<root>/<machine id>/<name>/` holds no milliseconds to compare with.  It holds the house of then, packed (locks,
options, exporters, runtimes), so that it can be run again beside a candidate; the identity of each cell, model and
data; and the tables of the run that made it, for what is compared exactly or image by image.  `promotions.jsonl` keeps
who promoted what, when and why, the replaced ones too.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.files import locked
from bench.reasons import StoreError, UsageError, did_you_mean
from bench.store import parts
from bench.store.facts import IDENTITY
from bench.store.tables import SCHEMA_VERSION, TABLES, TIMED_ON, read_table

FACTS, HOUSE, RUN, PROMOTIONS = "baseline.json", "house.zip", "run", "promotions.jsonl"
_LEFT_OUT = ("samples", "launches")
"""Tables of times: a later state is never held against stored ones."""
_SAME = ("model_sha256", "images", "data_sha256")  # the hash of data is that of its images
"""Facts of a run without which two runs cannot be compared."""
_BY_CONTENT = 3
"""The version of the schema since which the hash of data is one of what its files hold."""
_RECORDED = (*_SAME, "sweep", "model", "data", "task", "commit", "house")
"""Facts that a run must have recorded before it can be a baseline."""
_PROMOTED = ("name", "machine", "who", "when", "why", "run_id")
"""What is kept of a promotion."""
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError)
"""What a file that is not what it should be gives, json's own errors among them."""
_REMEDY = "restore it from a copy, or delete its folder and promote again"


@dataclass(frozen=True)
class Baseline:
    """A baseline on disk; `facts` are those of baseline.json."""

    directory: Path
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What it was called when it was promoted."""
        return str(self.facts["name"])

    @property
    def run(self) -> Path:
        """Folder of the tables of the run that made it."""
        return self.directory / RUN

    @property
    def house(self) -> bytes:
        """The packed house of then, whose code will run.  Raises StoreError unless it is the one that was promoted."""
        path = self.directory / HOUSE
        try:
            packed = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error}; {_REMEDY}") from error
        if hashlib.sha256(packed).hexdigest() != self.facts["house"]:
            raise StoreError(f"{path}: is not the house that was promoted: its sha256 differs; {_REMEDY}")
        return packed

    @property
    def identities(self) -> dict[str, dict[str, str]]:
        """Identity of each cell by its id."""
        return dict(self.facts["identities"])


def facts_of(run: Path) -> dict[str, Any]:
    """What must be known of a run to compare another with it: machine, model, data, images, identities of its cells.

    Raises UsageError for a run of a bench that did not record identities, StoreError for a table that cannot be read.
    """
    table = read_table(run, "environment")
    facts = {(scope, key): value for scope, key, value in table[["scope", "key", "value"]].itertuples(index=False)}
    try:
        identities = {key: _identity(json.loads(value)) for (scope, key), value in facts.items() if scope == IDENTITY}
    except _UNREADABLE as error:
        raise StoreError(f"{run}: the identities of its cells cannot be read: {error!r}; make the run again") from error
    if not identities or any(("run", name) not in facts for name in _RECORDED):
        raise UsageError(f"{run}: records no identities of its cells; make it again with this version of the bench")
    known = {name: facts["run", name] for name in _RECORDED}
    return {**known, "run_id": run.name, "cpu": facts.get(("machine", "cpu"), ""), "identities": identities}


def timed_elsewhere(run: Path) -> list[str]:
    """Ids of the machines that timed cells of a run and are not its own.  Raises StoreError."""
    scopes = set(read_table(run, "environment", columns=["scope"]).scope)
    named = read_table(run, "cells", columns=["timed_on"]).timed_on.dropna().unique()
    return sorted(name for name in named if f"{TIMED_ON}{name}" in scopes)


def require_comparable(base: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
    """Raise UsageError where model, data or number of images of a baseline and a candidate differ, or may differ."""
    if base.get("schema", 0) < _BY_CONTENT:
        raise UsageError(
            f"the baseline {base['name']} was promoted by an older bench, whose hash of the data left the pixels out, "
            "so that nobody can say whether it was this data: promote a run of the present one (yolo11-bench run, then "
            'yolo11-bench baseline promote RUN --name NAME --why "...")'
        )
    for name in _SAME:
        if base[name] != candidate[name]:
            what = {"model_sha256": "model", "data_sha256": "data"}.get(name, name)
            raise UsageError(
                f"the baseline was made with another {what}: {base.get(what, base[name])} "
                f"({str(base[name])[:12]}), now {candidate.get(what, candidate[name])} ({str(candidate[name])[:12]}); "
                "give the same --model, --data and --images, or promote a baseline of these"
            )


def promote(run: Path, root: Path, machine: str, name: str, why: str, house: bytes) -> Baseline:
    """Make a run the baseline `name` of a machine; one of that name is replaced, its promotion stays on record.

    Raises UsageError for a name that cannot be a folder's, an empty reason, or a run that cannot be one; StoreError
    when the disk refuses.
    """
    if not why.strip():
        raise UsageError('--why "": say why this run is what later ones are held against')
    if Path(name).name != name or name.startswith("."):
        raise UsageError(f"--name {name!r}: it becomes a folder's name, so it may not contain a slash")
    facts = facts_of(run)
    if facts["house"] != hashlib.sha256(house).hexdigest():
        raise UsageError(
            f"{run.name}: the bench has changed since this run was made (locks, options, exporters or runtimes), so it "
            "could not be run again as it was: make the run again, then promote it"
        )
    if not (read_table(run, "cells").status == "measured").any():
        raise UsageError(f"{run.name}: no cell was measured, so nothing can be held against it")
    if others := timed_elsewhere(run):
        raise UsageError(
            f"{run.name}: cells of it were timed on other machines ({', '.join(others)}), and a baseline is of one; "
            "make a run on the machine that checks will be made on, then promote that"
        )
    promoted = {
        "name": name,
        "machine": machine,
        "who": _who(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "why": why.strip(),
        "run_id": facts["run_id"],
        "schema": SCHEMA_VERSION,
    }
    directory = root / machine / name
    try:
        with locked(directory):
            temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=directory.parent))
            try:
                _fill(temporary, run, facts | promoted, house)
                before = directory / PROMOTIONS
                history = before.read_text(encoding="utf-8") if before.is_file() else ""
                (temporary / PROMOTIONS).write_text(history + json.dumps(promoted) + "\n", encoding="utf-8")
                temporary.chmod(0o755)  # mkdtemp makes it private
                if directory.is_dir():
                    shutil.rmtree(directory)
                temporary.rename(directory)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"cannot write the baseline {directory}: {error}") from error
    return load(root, machine, name)


def _fill(folder: Path, run: Path, facts: Mapping[str, Any], house: bytes) -> None:
    (folder / RUN).mkdir()
    for path in (path for name in TABLES if name not in _LEFT_OUT for path in parts.files(run, name)):
        copy = folder / RUN / path.relative_to(run)
        copy.parent.mkdir(exist_ok=True)  # of the parts, which a run that was killed left its predictions in
        shutil.copyfile(path, copy)
    (folder / HOUSE).write_bytes(house)
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def load(root: Path, machine: str, name: str) -> Baseline:
    """The baseline `name` of a machine.  Raises UsageError where there is none, saying how to make one."""
    directory = root / machine / name
    there = _files(root, machine)
    if directory / FACTS not in there:
        known = [path.parent.name for path in there]
        told = f"there are: {', '.join(known)}" if known else "there is none yet"
        raise UsageError(
            f"no baseline {name!r} of this machine in {root / machine}{did_you_mean([name], known)}; {told}. "
            f'Make one: yolo11-bench run, then yolo11-bench baseline promote RUN --name {name} --why "..."'
        )
    return Baseline(directory, _facts(directory / FACTS))


def every(root: Path, machine: str | None = None) -> list[Baseline]:
    """All baselines, of one machine or of all, in order of machine and name.  Raises StoreError for a broken file."""
    return [Baseline(path.parent, _facts(path)) for path in _files(root, machine or "*")]


def history(baseline: Baseline) -> list[dict[str, str]]:
    """Every promotion under a baseline's name, oldest first.  Raises StoreError for a broken file."""
    path = baseline.directory / PROMOTIONS
    try:
        told = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [{name: str(one[name]) for name in _PROMOTED} for one in told]
    except _UNREADABLE as error:
        raise StoreError(f"{path}: cannot be read: {error!r}; {_REMEDY}") from error


def _files(root: Path, machine: str) -> list[Path]:
    return sorted(root.glob(f"{machine}/*/{FACTS}"))


def _facts(path: Path) -> dict[str, Any]:
    """The facts of a baseline, all there.  Raises StoreError."""
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        texts = {name: str(facts[name]) for name in (*_PROMOTED, *_RECORDED)}
        identities = {cell: _identity(own) for cell, own in dict(facts["identities"]).items()}
    except _UNREADABLE as error:
        raise StoreError(f"{path}: cannot be read: {error!r}; {_REMEDY}") from error
    return facts | texts | {"identities": identities}


def _identity(own: Any) -> dict[str, str]:
    return {str(part): str(one) for part, one in dict(own).items()}


def _who() -> str:
    """The user's name; that of whoever started a workflow, where one did."""
    try:
        return os.environ.get("GITHUB_ACTOR") or getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return f"user {os.getuid()}"
