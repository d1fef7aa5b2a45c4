"""Artifacts on their way from one cache to another: packed, and put at their content address there, whole or not."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

from bench.files import locked
from bench.reasons import CellProblem, Reason
from bench.wall.artifacts import Artifact, damage

_UNPACKED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError)
"""What zipfile raises for an archive that was damaged, by where it was."""


def packed(artifact: Artifact) -> bytes:
    """An artifact's files and its manifest in an archive, not compressed: weights hardly can be."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(artifact.directory.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(artifact.directory).as_posix())
    return sink.getvalue()


def unpack(archive: bytes, key: str, cache: Path) -> None:
    """Put an artifact at its address in a cache, unless it is there.

    Raises CellProblem(EXPORT_FAILED) where the archive is damaged or the cache cannot be written.
    """
    directory = cache / "artifacts" / key
    try:
        with locked(directory):
            if damage(directory) is None:
                return
            shutil.rmtree(directory, ignore_errors=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{key[:12]}-", dir=directory.parent))
            try:
                with zipfile.ZipFile(io.BytesIO(archive)) as source:
                    source.extractall(temporary)
                if (found := damage(temporary)) is not None:
                    raise CellProblem(Reason.EXPORT_FAILED, f"the artifact {key[:12]} came damaged: {found}")
                temporary.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
                temporary.rename(directory)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except _UNPACKED as error:
        raise CellProblem(Reason.EXPORT_FAILED, f"the artifact {key[:12]} came damaged: {error}") from error
    except OSError as error:
        text = f"cannot store the artifact {key[:12]} in {directory.parent}: {error}"
        raise CellProblem(Reason.EXPORT_FAILED, text) from error
