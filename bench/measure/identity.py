"""What a cell's figures rest on, part by part: where all of it is as it was, nothing needs to be measured again."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from bench.grid import machine
from bench.grid.matrix import Cell
from bench.measure.outfit import Outfit
from bench.places import RUNTIMES

Identity = dict[str, str]
PARTS = ("lock", "artifact", "adapter", "options", "device")


def identity(outfit: Outfit, cell: Cell, artifact_key: str) -> Identity:
    """The identity of a cell by `PARTS`.

    `lock` is its run-only environment, `artifact` the content address of what it loads, `adapter` the runtime module
    with the modules beside it that it imports, `options` what it is told to load, `device` what was found of its target
    and that one's driver.  Raises UsageError where a file cannot be read.
    """
    target = outfit.matrix.targets[cell.target]
    return {
        "lock": outfit.running.identity(cell.environment),
        "artifact": artifact_key,
        "adapter": _sources(outfit.matrix.runtime(cell)),
        "options": json.dumps([cell.precision, cell.spec.runtime_options], sort_keys=True),
        "device": f"{machine.detect(target).text} {machine.driver(target)}".strip(),
    }


def changed(one: Identity, other: Identity) -> list[str]:
    """The parts in which two identities differ."""
    return [part for part in PARTS if one.get(part) != other.get(part)]


def _sources(adapter: Path) -> str:
    """Hash of an adapter and of the modules beside it that it imports, however far."""
    digest = hashlib.sha256()
    seen: set[Path] = set()
    waiting = [adapter]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += _neighbours(path)
    for path in sorted(seen, key=lambda path: path.name):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _neighbours(path: Path) -> Iterator[Path]:
    """Modules that one imports as `from ._torch import ...`: beside it, or among ours where it comes from elsewhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                places = (path.parent / f"{name}.py", RUNTIMES / f"{name}.py")
                yield from [place for place in places if place.is_file()][:1]
