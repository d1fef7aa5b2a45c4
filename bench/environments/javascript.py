"""Locked folders of JavaScript packages for the options that run in a browser, fetched on first use by npm.

`matrices/envs/<family>/package.json` says what a page loads, `package-lock.json` beside it pins every package by
version and content hash and names no registry, so npm takes them from wherever the user's npm does.  No package's
install script is run.  As with the Python environments, a folder is addressed by its lock and marked complete last.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.environments.installers import run
from bench.files import locked
from bench.grid import outside
from bench.reasons import CellProblem, Reason, Status, UsageError

_MARKER = "complete.json"
_LOCK = "package-lock.json"
# What an installation is made of; npm is told nothing else about where packages come from.
_INSTALL = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")


@dataclass(frozen=True)
class JsEnv:
    """An installed folder: `directory` is its node_modules, `bytes` the apparent size of all files in it."""

    family: str
    directory: Path
    lock_sha256: str
    bytes: int

    def packages(self) -> tuple[str, ...]:
        """Locked packages as sorted `name@version`."""
        lock = json.loads((self.directory.parent / _LOCK).read_text(encoding="utf-8"))
        found = (f"{name}@{entry['version']}" for name, entry in lock["packages"].items() if name)
        return tuple(sorted(name.removeprefix("node_modules/") for name in found))


class JsEnvironments:
    """The JavaScript folders of one matrix: locks in `<matrices_dir>/envs`, installed ones in `<cache_dir>/js`."""

    def __init__(self, matrices_dir: Path, cache_dir: Path) -> None:
        """Nothing is written before `ensure`."""
        self._locks = outside.lock_folders(matrices_dir)
        self._cache = cache_dir / "js"

    def ensure(self, family: str) -> JsEnv:
        """The packages of `family`, installed when they are missing, incomplete or changed since.

        Raises UsageError (no lock, or more than one), CellProblem(ENVIRONMENT_FAILED): skipped where there is no npm,
        failed where npm fails, with its last lines.
        """
        texts = self._texts(family)
        digest = hashlib.sha256(texts[_LOCK]).hexdigest()
        directory = self._cache / f"{family}-{digest[:12]}"
        try:
            with locked(directory):
                env = _read_marker(family, directory, digest)
                return env or _install(family, directory, digest, texts)
        except OSError as error:
            text = f"cannot install '{family}' in {directory}: {error}"
            raise CellProblem(Reason.ENVIRONMENT_FAILED, text) from error

    def identity(self, family: str) -> str:
        """SHA-256 of what decides the content of a folder, its lock; nothing is installed.  Raises UsageError."""
        return hashlib.sha256(self._texts(family)[_LOCK]).hexdigest()

    def _texts(self, family: str) -> dict[str, bytes]:
        """What a family asks for and its lock, by file name.  Raises UsageError."""
        lock = outside.the_one(self._locks, f"{family}/{_LOCK}") or self._locks[0] / family / _LOCK
        try:
            return {name: (lock.parent / name).read_bytes() for name in ("package.json", _LOCK)}
        except OSError as error:
            raise UsageError(
                f"{error.filename}: cannot be read: {error.strerror}. An option asks for the JavaScript packages "
                f"'{family}'; write package.json and run `python -m bench lock {family}`."
            ) from error


def _install(family: str, directory: Path, digest: str, texts: dict[str, bytes]) -> JsEnv:
    npm = shutil.which("npm")
    if npm is None:
        text = (
            f"The page needs JavaScript packages ({family}), and npm, which fetches them, is not on PATH. Install it "
            f"(your system's package `npm`, or Node.js from nodejs.org) and run again; they are fetched once."
        )
        raise CellProblem(Reason.ENVIRONMENT_FAILED, text, Status.SKIPPED)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, content in texts.items():
        (directory / name).write_bytes(content)
    run(family, [npm, *_INSTALL], dict(os.environ), directory, lambda _line: None)
    size, fingerprint = _contents(directory / "node_modules")
    marker = {"lock_sha256": digest, "bytes": size, "contents": fingerprint}
    temporary = directory / f".{_MARKER}"
    temporary.write_text(json.dumps(marker) + "\n", encoding="utf-8")
    temporary.replace(directory / _MARKER)
    return JsEnv(family, directory / "node_modules", digest, size)


def _read_marker(family: str, directory: Path, digest: str) -> JsEnv | None:
    """The folder when it was installed to the end and is still what was installed, else None."""
    try:
        marker = json.loads((directory / _MARKER).read_text(encoding="utf-8"))
        whole = marker["lock_sha256"] == digest and marker["contents"] == _contents(directory / "node_modules")[1]
        return JsEnv(family, directory / "node_modules", digest, int(marker["bytes"])) if whole else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _contents(folder: Path) -> tuple[int, str]:
    """Size in bytes of all files below `folder`, and a fingerprint of their names, sizes and times of change."""
    digest = hashlib.sha256()
    total = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        info = path.stat()
        total += info.st_size
        digest.update(f"{path.relative_to(folder)} {info.st_size} {info.st_mtime_ns}\n".encode())
    return total, digest.hexdigest()


def lock(family: str, matrices_dir: Path) -> Path:
    """Resolve `<matrices_dir>/envs/<family>/package.json` and write the lock beside it.  Raises UsageError."""
    folder = matrices_dir / "envs" / family
    npm = shutil.which("npm")
    if npm is None or not (folder / "package.json").is_file():
        raise UsageError(f"{folder}: a lock needs package.json there, and npm on PATH.")
    command = [npm, "install", "--package-lock-only", "--omit-lockfile-registry-resolved", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{folder}: npm finds no set of versions.\n{done.stderr.strip()}")
    return folder / _LOCK
