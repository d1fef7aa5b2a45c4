"""Another state of the bench to measure with: its matrix and locks, its exporters and its runtimes.

A house is a folder with `matrices` and `guest`.  A revision of the checkout has one; a baseline is promoted with its
own, packed, so that it can be run again when the checkout has moved on.  The harness itself is always the present one.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bench.files import locked
from bench.grid.machine import git
from bench.places import GUEST, IN_CHECKOUT, PACKAGE, ROOT
from bench.reasons import UsageError

MATRICES = "matrices"
_WANTED = ("envs", "options", "sweeps", "targets.toml", "parity.toml", "tolerances.toml", "emulators.toml")
_UNPACKED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What zipfile raises for an archive that was damaged, by where it was."""
# A zip file's time of a file, the same always, so that one house gives one archive.
_DATE = (1980, 1, 1, 0, 0, 0)


def pack(matrices: Path, guest: Path = GUEST, locks: Mapping[str, str] | None = None) -> bytes:
    """The house of these matrices and a guest as a zip archive, with other `locks` by family where they are given.

    Equal files give equal bytes.
    """
    members = {name: path.read_bytes() for name, path in _members(matrices, guest)}
    members |= {f"{MATRICES}/envs/{family}.txt": text.encode() for family, text in (locks or {}).items()}
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED)
    return sink.getvalue()


def with_locks(matrices: Path, guest: Path, locks: Mapping[str, str], cache: Path) -> Path:
    """The matrices of a house that is this one but for its locks, by family.  Raises UsageError as `unpack` does."""
    return unpack(pack(matrices, guest, locks), cache)


def unpack(archive: bytes, cache: Path) -> Path:
    """The folder of a packed house, in the cache; returns its matrices.

    Raises UsageError for what is no such archive, and for a cache that cannot be written.
    """
    folder = cache / "houses" / hashlib.sha256(archive).hexdigest()[:16]
    with locked(folder):
        if not folder.is_dir():
            temporary = folder.with_name(f".{folder.name}")
            shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
            try:
                with zipfile.ZipFile(io.BytesIO(archive)) as source:
                    source.extractall(temporary)
            except _UNPACKED as error:
                raise UsageError(f"not a packed house: {error}; restore it from a copy, or promote again") from error
            except OSError as error:
                raise UsageError(f"cannot unpack a house into {folder}: {error}; choose another --cache") from error
            inside = temporary / PACKAGE.name / GUEST.name
            if inside.is_dir():  # a revision's, as git packs it
                inside.rename(temporary / GUEST.name)
            temporary.rename(folder)
    return folder / MATRICES


def of_revision(revision: str, cache: Path) -> Path:
    """The matrices of the house that a revision of this checkout had.

    Raises UsageError outside a checkout, for a revision that it does not know, or one that had no such house.
    """
    commit = commit_of(revision)
    guest = f"{PACKAGE.name}/{GUEST.name}"
    done = git(ROOT, "archive", "--format=zip", commit, MATRICES, guest)
    if done.returncode:
        raise UsageError(
            f"revision {commit[:12]} cannot be packed: {done.stderr.decode(errors='replace').strip()}\nOne without "
            f"{MATRICES} or {guest} is older than this layout and cannot be run beside the present one; name a newer"
        )
    return unpack(done.stdout, cache)


def commit_of(revision: str) -> str:
    """The commit that a revision names.  Raises UsageError outside a checkout or for one that it does not know."""
    if not IN_CHECKOUT or shutil.which("git") is None:
        raise UsageError(f"{revision}: revisions are known in a git checkout of the bench alone")
    found = git(ROOT, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode:
        said = found.stderr.decode(errors="replace").strip()  # quiet about a revision that is unknown, and only that
        raise UsageError(f"{revision}: neither a package, a file nor a revision of {ROOT}\n{said}".rstrip())
    return found.stdout.decode().strip()


def _members(matrices: Path, guest: Path) -> Iterator[tuple[str, Path]]:
    wanted = [path for name in _WANTED if (path := matrices / name).exists()]
    for path in _files(wanted):
        yield f"{MATRICES}/{path.relative_to(matrices).as_posix()}", path
    for path in _files([guest]):
        yield f"{GUEST.name}/{path.relative_to(guest).as_posix()}", path


def _files(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        found = place.rglob("*") if place.is_dir() else [place]
        yield from (path for path in found if path.is_file() and "__pycache__" not in path.parts)
