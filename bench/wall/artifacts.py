"""Exported artifacts in a content-addressed cache: the same inputs are exported once, and never half.

An artifact lives in `<cache>/artifacts/<key>/`.  The key is the SHA-256 over everything that decides what comes out:
the weights, option, precision, image size, batch, the exporter's source and the calibration images; the export
environment with its platform and its build of torch; and, where an artifact is of one kind of machine, that machine:
the device that an engine is built for, the processor and the threads that an artifact was calibrated with, the compiler
that is installed.  Hashes of the outputs cannot serve, since exporters write dates and paths into their files.  An
export happens in a temporary directory that is renamed when its manifest is written; what is found in the cache is
checked against that manifest, sizes and hashes, each time it is used.  A cache that was packed on another machine
brings artifacts of its own (carried.py).
"""

from __future__ import annotations

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

from bench.environments.locked import Environments
from bench.files import locked
from bench.grid import machine
from bench.guest.server import described_outputs
from bench.places import EXPORTERS, GUEST
from bench.reasons import CellProblem, Reason, UsageError
from bench.wall import carried
from bench.wall.exporters import Exporters, threads
from bench.wall.worker import SERVER

MANIFEST = "manifest.json"
SCHEMA_VERSION = 2
LETTERBOX = GUEST / "letterbox.py"
_TOLD = ("files", "entry", "input", "output", "versions", "reproduce")
"""What an exporter tells of an artifact, whatever else it found out."""
_OWN = "manifest_sha256"
"""Hash of all else that a manifest holds; those of before have none."""
_LOG = "export.log"
_LOG_LINES = 20


@dataclass(frozen=True)
class ExportRequest:
    """What to export and how.

    `exporter` is an exporter module, `environment` the family it runs in.  `calibration` are the images for a static
    quantisation, empty for other precisions, and `calibration_split` is the split they were taken from.
    `source` is the artifact that this one is converted from, for exporters that do not start at the checkpoint.
    `device` tells the device it is built for from others, where it works on no other (`bench.grid.machine.device`), and
    `program` the version of a program of this machine's that the exporter uses where it is installed.
    """

    weights: Path
    option: str
    precision: str
    imgsz: int
    batch: int
    exporter: Path
    environment: str
    calibration: tuple[Path, ...] = ()
    calibration_split: str = "train"
    source: Artifact | None = None
    device: str = ""
    program: str = ""


@dataclass(frozen=True)
class Artifact:
    """An exported artifact, checked.

    `manifest` holds inputs, files (path, bytes, sha256), entry, input, output, calibration, versions, seconds,
    reproduce, details (whatever else the exporter found out), log_tail, confined (what its exporter could reach) and
    manifest_sha256 (of all this).
    `warnings` says what was wrong with a cached copy that had to be replaced.
    """

    key: str
    directory: Path
    manifest: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """All files of the artifact, the manifest and the log left out."""
        return int(self.manifest["size_bytes"])

    @property
    def sha256(self) -> str:
        """Hash over the names and hashes of its files."""
        return str(self.manifest["sha256"])


class Artifacts:
    """The cache of artifacts below one directory."""

    def __init__(self, cache_dir: Path, environments: Environments) -> None:
        """Nothing is written before the first export.  Raises UsageError for a damaged list of what was brought."""
        self._root = cache_dir / "artifacts"
        self._environments = environments
        self._carried = carried.read(cache_dir)
        self._hashes: dict[tuple[Path, int, int], str] = {}
        self.exporters = Exporters(environments, self._root)

    def key(self, request: ExportRequest) -> str:
        """Content address of what `request` exports.  Raises UsageError when a file of it cannot be read."""
        return self._key(self._inputs(request))

    def asked(self, request: ExportRequest) -> str:
        """What tells `request` from others on any machine.  Raises UsageError when a file of it cannot be read."""
        return carried.asked(self._inputs(request))

    def find(self, key: str) -> Artifact | None:
        """The artifact at a content address, or None when it is not here or damaged; nothing is exported."""
        directory = self._root / key
        if not directory.is_dir() or _in_place(directory) is not None:
            return None
        return Artifact(key, directory, _read_manifest(directory))

    def prepare(self, request: ExportRequest) -> bool:
        """Whether the artifact is not here yet; the environment that it is exported in then is, once this returns.

        Raises UsageError for an unreadable input, CellProblem where there is no environment, or where it is known that
        the artifact was not to be had when the cache was packed.
        """
        inputs = self._inputs(request)
        if (self._root / self._key(inputs)).is_dir():
            return False
        why_not = self._carried.problem(carried.asked(inputs))
        if why_not is not None and self._environments.existing(request.environment) is None:
            raise why_not
        self._environments.ensure(request.environment)
        return True

    def ensure(self, request: ExportRequest, *, timeout: float = 900.0) -> Artifact:
        """The artifact from the cache, or exported now within `timeout` seconds.

        A cached copy that is damaged is replaced, and `Artifact.warnings` says so.  Raises UsageError (unreadable
        input), CellProblem(EXPORT_FAILED) or another reason the exporter had, with its last lines.
        """
        try:
            self.prepare(request)
            inputs = self._inputs(request)  # once the environment is there: only then its build of torch is sure
            key = self._key(inputs)
            directory = self._root / key
            with locked(directory):
                warnings: tuple[str, ...] = ()
                if directory.exists():
                    found = _in_place(directory)
                    if found is None:
                        return Artifact(key, directory, _read_manifest(directory))
                    warnings = (f"The cached artifact {directory} was damaged ({found}) and is exported again.",)
                    _remove(directory)
                for leftover in self._root.glob(f".{key[:12]}-*"):  # of a run that was killed; the lock is ours
                    shutil.rmtree(leftover)
                self._export(request, inputs, key, timeout)
                return Artifact(key, directory, _read_manifest(directory), warnings)
        except OSError as error:
            raise CellProblem(
                Reason.EXPORT_FAILED, f"cannot store the artifact of {request.option} in {self._root}: {error}"
            ) from error

    def _key(self, inputs: Mapping[str, Any]) -> str:
        """The content address of what was brought for these inputs, else that of what is exported here."""
        return self._carried.artifacts.get(carried.asked(inputs)) or _address(inputs)

    def _export(self, request: ExportRequest, inputs: Mapping[str, Any], key: str, timeout: float) -> None:
        env = self._environments.ensure(request.environment)
        source = request.source
        temporary = Path(tempfile.mkdtemp(prefix=f".{key[:12]}-", dir=self._root))
        try:
            output = temporary / "artifact"
            output.mkdir()
            arguments = {
                "weights": str(request.weights.resolve()),
                "output_dir": str(output),
                "imgsz": request.imgsz,
                "batch": request.batch,
                "precision": request.precision,
                "calibration": [str(path.resolve()) for path in request.calibration],
                "source": {"directory": str(source.directory), "manifest": source.manifest} if source else None,
            }
            packages = env.freeze()
            with self.exporters.started(env, request.exporter, output, temporary / _LOG) as (worker, since):
                reply = worker.call("export", arguments, timeout)
                tail, confined = worker.log_tail(), worker.confined
            env.require_unchanged(packages)
            seconds = time.monotonic() - since
            manifest = _manifest(request, inputs, key, output, reply)
            manifest |= {"seconds": seconds, "log_tail": tail, "confined": confined}
            manifest[_OWN] = _own_sha256(manifest)
            (output / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            output.rename(self._root / key)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _inputs(self, request: ExportRequest) -> dict[str, Any]:
        # Files whose name starts with an underscore are shared by exporters, and ours by those from outside too.
        own = request.exporter.parent
        folders = [own] if (own.parent / SERVER.name).is_file() else [own, EXPORTERS]
        shared = {path for folder in folders for path in folder.glob("_[!_]*.py")}
        sources = {request.exporter, *shared, LETTERBOX}
        return {
            "schema": SCHEMA_VERSION,
            "weights": self._sha256(request.weights, "weights"),
            "option": request.option,
            "precision": request.precision,
            "imgsz": request.imgsz,
            "batch": request.batch,
            "environment": self._environments.identity(request.environment),
            "exporter": sorted(self._sha256(path, "exporter") for path in sources),  # wherever they lie
            "calibration": [self._sha256(path, "calibration image") for path in request.calibration],
            "source": request.source.key if request.source else None,
            "device": request.device or None,
            "program": request.program or None,
            "calibrated": _calibrator() if request.calibration else None,
        }

    def _sha256(self, path: Path, what: str) -> str:
        """Hash of an input file, kept while its size and time of change stay."""
        try:
            info = path.stat()
            known = (path, info.st_size, info.st_mtime_ns)
            if known not in self._hashes:
                self._hashes[known] = _file_sha256(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot read this {what}: {error.strerror}. Check the path.") from error
        return self._hashes[known]


def _calibrator() -> dict[str, Any]:
    """What of this machine goes into an artifact that is calibrated.

    The network is run for it, with kernels that the processor's features choose and sums that are cut by threads: the
    ranges of its activations, and so the scales that are stored, differ in their last digits by both.  All that other
    exporters compute is one number at a time: they rewrite a graph, round weights, fold constants and batch
    normalisation.  There neither threads nor processor can move a digit, and machines may share what was exported.
    """
    return {"processor": machine.cpu_name(), "features": machine.cpu_flags(), "threads": threads()}


def _manifest(
    request: ExportRequest, inputs: Mapping[str, Any], key: str, output: Path, reply: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest of what an exporter wrote.  Raises CellProblem when it is not what it says it wrote."""
    _require_reply(request, reply)
    files = []
    for name in sorted(reply["files"]):
        path = output / name
        if not path.is_file() or path.stat().st_size == 0:
            raise CellProblem(
                Reason.EXPORT_FAILED, f"{request.exporter.stem} says it wrote {name}, which is empty or absent"
            )
        files.append({"path": name, "bytes": path.stat().st_size, "sha256": _file_sha256(path)})
    extra = sorted(str(p.relative_to(output)) for p in output.rglob("*") if p.is_file())
    extra = [name for name in extra if name not in reply["files"]]
    if extra:
        text = f"{request.exporter.stem} left files that it does not list: {', '.join(extra)}"
        raise CellProblem(Reason.EXPORT_FAILED, text)
    calibration = None
    if request.calibration:
        calibration = {"split": request.calibration_split, "images": len(request.calibration)}
    return {
        "schema": SCHEMA_VERSION,
        "key": key,
        "inputs": dict(inputs),
        "files": files,
        "size_bytes": sum(file["bytes"] for file in files),
        "sha256": _files_sha256(files),
        "entry": reply["entry"],
        "input": reply["input"],
        "output": reply["output"],
        "calibration": calibration,
        "versions": reply["versions"],
        "reproduce": reply["reproduce"],
        "details": reply.get("details", {}),
    }


def _require_reply(request: ExportRequest, reply: Mapping[str, Any]) -> None:
    """Raise CellProblem(PROTOCOL) unless an exporter told all that a manifest is made of."""
    lacking = [name for name in _TOLD if name not in reply]
    if lacking or not isinstance(reply["files"], list) or not all(isinstance(name, str) for name in reply["files"]):
        what = f"does not tell {', '.join(lacking)}" if lacking else "tells no list of file names"
        raise CellProblem(Reason.PROTOCOL, f"the exporter {request.exporter.stem} {what}; it told: {str(reply)[:200]}")


def damage(directory: Path) -> str | None:
    """What is wrong with an artifact's folder, or None when every file is in it and as its manifest says."""
    try:
        manifest = _read_manifest(directory)
        _require_whole(manifest)
        for name in (manifest["entry"], *(file["path"] for file in manifest["files"])):
            # Not Path.resolve, which before Python 3.13 raises RuntimeError on a link to itself.
            if not Path(os.path.realpath(directory / name)).is_relative_to(os.path.realpath(directory)):
                return f"{MANIFEST} names {name!r}, which is outside"
        for file in manifest["files"]:
            path = directory / file["path"]
            size = path.stat().st_size
            if size != file["bytes"]:
                return f"{file['path']} has {size} bytes instead of {file['bytes']}"
            if _file_sha256(path) != file["sha256"]:
                return f"the content of {file['path']} has changed"
        if manifest["sha256"] != _files_sha256(manifest["files"]):
            return f"{MANIFEST} contradicts itself"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:  # a folder in the place of a file
        return f"{Path(error.filename or directory).name} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        return f"{MANIFEST} cannot be read: {error!r}"
    return None


def _in_place(directory: Path) -> str | None:
    """What is wrong with what the cache holds at the content address that a folder is named by, or None."""
    found = damage(directory)
    if found is None and _read_manifest(directory)["key"] != directory.name:
        return f"{MANIFEST} is that of another artifact"
    return found


def _require_whole(manifest: Mapping[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError for a manifest that lacks something, or is not as it was written."""
    if _OWN in manifest and manifest[_OWN] != _own_sha256(manifest):
        raise ValueError("it is not as it was written")
    told = {name: manifest[name] for name in (*_TOLD, "calibration", "key")}
    if int(manifest["size_bytes"]) < 0 or float(manifest["seconds"]) < 0:
        raise ValueError("less than nothing")
    texts = [told["entry"]]
    for about in described_outputs(dict(manifest)).values():
        texts += [about["layout"], about["units"]]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"no names of files, layouts or units: {texts}")


def _remove(path: Path) -> None:
    """Delete what is in the place of a folder.  Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _read_manifest(directory: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def _own_sha256(manifest: Mapping[str, Any]) -> str:
    held = json.loads(json.dumps({name: value for name, value in manifest.items() if name != _OWN}))
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def _files_sha256(files: list[dict[str, Any]]) -> str:
    lines = "".join(f"{file['sha256']}  {file['path']}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _address(inputs: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
