"""What a cell's figures rest on, part by part: where all of it is as it was, nothing needs to be measured again."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from bench.grid import machine
from bench.grid.matrix import Cell
from bench.measure.outfit import Outfit
from bench.places import RUNTIMES

Identity = dict[str, str]
PARTS = ("lock", "artifact", "adapter", "options", "device")
_OF_A_PAGE = re.compile(r"\b[\w-]+\.(?:js|html)\b")


def identity(outfit: Outfit, cell: Cell, artifact_key: str) -> Identity:
    """The identity of a cell by `PARTS`.

    `lock` is what it runs with, packages of its page too, `artifact` the content address of what it loads, `adapter`
    the runtime module with what it uses beside it, `options` what it is told to load, `device` what its target says of
    itself, with its driver.  Raises UsageError where a file cannot be read, CellProblem as `Outfit.lock`.
    """
    target = outfit.matrix.targets[cell.target]
    return {
        "lock": outfit.lock(cell),
        "artifact": artifact_key,
        "adapter": _sources(outfit.matrix.runtime(cell)),
        "options": json.dumps([cell.precision, cell.spec.runtime_options], sort_keys=True),
        "device": machine.device(target),
    }


def changed(one: Identity, other: Identity) -> list[str]:
    """The parts in which two identities differ."""
    return [part for part in PARTS if one.get(part) != other.get(part)]


def _sources(adapter: Path) -> str:
    """Hash of an adapter and of all that it uses beside it, however far: modules, and what a page is made of."""
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
    """Files that one uses: beside it, or among ours where it comes from elsewhere.

    Modules imported as `from ._torch import ...`, and parts of a page by their names.
    """
    text = path.read_text(encoding="utf-8")
    names = _OF_A_PAGE.findall(text)
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                imported = [node.module] if node.module else [alias.name for alias in node.names]
                names += [f"{name}.py" for name in imported]
    for name in names:
        places = (path.parent / name, RUNTIMES / name)
        yield from [place for place in places if place.is_file()][:1]
