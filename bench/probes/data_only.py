"""Does loading an artifact run code of its own?  Read from its files, without loading them.

A pickle can name any function and have it called while it is read; picklescan lists what a pickle names.  It was
chosen over fickling, which calls the empty list of inputs in every TorchScript archive "overtly malicious", and so
could not tell an honest archive from a harmful one.  A TorchScript archive is a program with its own interpreter: its
code runs at inference, at loading only where it has `__setstate__`.  TensorFlow graphs are data, but may hold
operators that read or write files or call Python; a guest lists them.  The other formats hold a graph of a fixed set
of operators; what each file is, is told by its content.
"""

from __future__ import annotations

import io
import logging
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from picklescan import scanner

from bench.places import GUEST_PROBES
from bench.probes.context import Context
from bench.probes.observation import Observation, Unavailable, unavailable, verdict
from bench.reasons import CellProblem
from bench.wall.artifacts import Artifact

GUEST = GUEST_PROBES / "graph_ops.py"
TENSORFLOW = ("saved_model", "graphdef")
# Operators with which a SavedModel restores and saves its own variables.
_SAVER = ("RestoreV2", "SaveV2", "MergeV2Checkpoints", "ShardedFilename")
_SHOWN = 4
_SECONDS = 300.0
_SETSTATE = re.compile(rb"^\s*def __setstate__\(", re.MULTILINE)


@dataclass
class Contents:
    """What an artifact's files are: counts by kind, and what its pickles and TorchScript code hold."""

    kinds: dict[str, int] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    """Callables that a pickle names beyond tensors and plain containers."""
    dangerous: set[str] = field(default_factory=set)
    """Those of them that reach outside: os.system, builtins.eval, ..."""
    code_files: int = 0
    """Files of TorchScript code."""
    setstate: int = 0
    """Methods in them that run while the archive is loaded."""

    def add(self, kind: str) -> None:
        """Count a file."""
        self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def __str__(self) -> str:
        """The kinds, as in `1 JSON, 2 protobuf`."""
        return ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))


def observe(context: Context) -> Iterator[Observation]:
    """A row per option that the run has an artifact of."""
    for option in context.options():
        try:
            artifact = context.subject(option).artifact
            contents = look([artifact.directory / file["path"] for file in artifact.manifest["files"]])
            operators = _operators(context, option, artifact) if option in TENSORFLOW else None
            yield judge(option, contents, operators, context.settings.file_and_code_operators)
        except (Unavailable, CellProblem) as problem:
            yield unavailable(option, "loading", problem)


def judge(option: str, contents: Contents, operators: Mapping[str, int] | None, outside: Sequence[str]) -> Observation:
    """The row of one artifact; `operators` are those of a TensorFlow graph, `outside` the ones that are not data."""
    said = f"Files by content: {contents}. "
    if contents.code_files:
        said += f"TorchScript: {contents.code_files} files of its own code, which its interpreter runs at inference; "
        said += f"{contents.setstate} methods that run at loading. "
    foreign = sorted(contents.named)
    if foreign:
        shown = ", ".join(foreign[:_SHOWN]) + (", ..." if len(foreign) > _SHOWN else "")
        said += f"Its pickle names {len(foreign)} callables that loading imports and calls ({shown}), "
        said += f"{len(contents.dangerous)} of them known as dangerous{_listed(sorted(contents.dangerous))}. "
    reaching: dict[str, int] = {}
    if operators is not None:
        reaching = {name: operators[name] for name in outside if name in operators}
        saver = sum(operators.get(name, 0) for name in _SAVER)
        said += f"{sum(operators.values())} operators of {len(operators)} kinds, "
        said += f"{saver} of them restore or save its variables; "
        said += f"{sum(reaching.values())} reach files or Python{_listed(sorted(reaching))}. "
    count = len(foreign) + contents.setstate + sum(reaching.values())
    return Observation(option, "loading", verdict(count == 0), said.strip(), float(count), "callables")


def look(paths: Sequence[Path]) -> Contents:
    """Tell every file by its content, and list what pickles among them name."""
    contents = Contents()
    for path in paths:
        data = path.read_bytes()
        if data.startswith(b"PK\x03\x04"):
            contents.add("zip archive")
            _look_into(zipfile.ZipFile(io.BytesIO(data)), contents)
            continue
        if is_pickle(data):
            _scan(data, contents, script=False)
        contents.add("pickle" if is_pickle(data) else kind_of(data))
    return contents


def is_pickle(data: bytes) -> bool:
    """Whether `data` begins as pickles of protocol 2 and later do, or reads as an older one up to its end mark.

    The first does for a pickle that is broken on purpose: what it names is called before its end is missed.
    """
    if len(data) > 1 and data[:1] == b"\x80" and 2 <= data[1] <= pickle.HIGHEST_PROTOCOL:
        return True
    try:
        return any(code.name == "STOP" for code, _, _ in pickletools.genops(data))
    except (ValueError, IndexError, UnicodeDecodeError):
        return False


def kind_of(data: bytes) -> str:
    """What a file without pickles is, from its first bytes; protobuf, which has no magic, from its whole structure."""
    head = data[:64].lstrip()
    if data[4:8] == b"TFL3":
        return "TF Lite flatbuffer"
    if head.startswith(b"<?xml"):
        return "XML"
    if head.startswith(b"7767517"):
        return "NCNN graph in text"
    if head.startswith((b"{", b"[")):
        return "JSON"
    if is_protobuf(data):
        return "protobuf"
    if not any(byte < 9 for byte in data[:4096]):
        return "text"
    return "other binary"


def is_protobuf(data: bytes) -> bool:
    """Whether `data` is a sequence of protobuf fields up to its very end (the wire format of protobuf's guide)."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if number == 0 or position < 0:
            return False
        if wire == 0:
            _, position = _varint(data, position)
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        elif wire == 2:
            length, position = _varint(data, position)
            position = position + length if position >= 0 else -1
        else:
            return False
        if position < 0:
            return False
    return position == len(data) and bool(data)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A varint and the position after it; the position is -1 where there is none."""
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(data):
            return 0, -1
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    return 0, -1


def _look_into(archive: zipfile.ZipFile, contents: Contents) -> None:
    """The pickles of a PyTorch archive, and the code of a TorchScript one (it has a folder `code`)."""
    names = archive.namelist()
    code = [name for name in names if name.endswith(".py") and "/code/" in name]
    contents.code_files += len(code)
    contents.setstate += sum(len(_SETSTATE.findall(archive.read(name))) for name in code)
    for name in names:
        if name.endswith(".pkl"):
            _scan(archive.read(name), contents, script=bool(code))


def _scan(data: bytes, contents: Contents, *, script: bool) -> None:
    """Add what a pickle names.

    In a TorchScript archive (`script`) names below `__torch__` are its own compiled classes, and what is left is read
    by a C++ reader that knows a fixed list of names, torch's own; any other is counted.
    """
    logging.getLogger("picklescan").setLevel(logging.CRITICAL)  # its findings are in the result, not in the log
    found = scanner.scan_pickle_bytes(io.BytesIO(data), "").globals
    for entry in found:
        own = script and (entry.module.startswith("__torch__") or entry.module.split(".")[0] == "torch")
        if entry.safety is scanner.SafetyLevel.Dangerous and not own:
            contents.dangerous.add(f"{entry.module}.{entry.name}")
        if entry.safety is not scanner.SafetyLevel.Innocuous and not own:
            contents.named.add(f"{entry.module}.{entry.name}")


def _operators(context: Context, option: str, artifact: Artifact) -> Mapping[str, int]:
    """Operators of a TensorFlow graph, its functions included, counted by name.  Raises CellProblem."""
    path = artifact.directory / artifact.manifest["entry"]
    with context.guest(GUEST, context.matrix.options[option].environment) as guest:
        counts: Mapping[str, int] = guest.call("count", {"path": str(path), "form": option}, _SECONDS)["operators"]
        return counts


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""
