"""Which run is meant."""

from __future__ import annotations

from pathlib import Path

from bench.places import RECORDED
from bench.reasons import UsageError, did_you_mean
from bench.store.tables import read_table


def find(run: str | Path | None, results: Path) -> Path:
    """Folder of the run meant: a folder, a name in `results` or among the recorded runs, or the newest (None).

    Raises UsageError when there is none.
    """
    if run is None:
        runs = sorted((path.parent for path in results.glob("*/cells.parquet")), key=lambda path: path.stat().st_mtime)
        if not runs:
            raise UsageError(f"no run in {results}; make one with `yolo11-bench run`, or name a folder")
        return runs[-1]
    for candidate in (Path(run), results / run, RECORDED / run):
        try:
            if (candidate / "cells.parquet").is_file():
                return candidate.resolve()
        except OSError as error:
            raise UsageError(
                f"cannot look for the run in {candidate}: {error.strerror}; correct the name, or the permissions there"
            ) from error
    for path in sorted(RECORDED.glob("*/cells.parquet")):  # a recorded run's folder has a name of its own
        if str(run) in set(read_table(path.parent, "cells", columns=["run_id"]).run_id):
            return path.parent
    known = [path.parent.name for folder in (results, RECORDED) for path in folder.glob("*/cells.parquet")]
    raise UsageError(
        f"no run {str(run)!r}: neither a folder with a cells.parquet nor the name of a run in {results}"
        f"{did_you_mean([str(run)], known)}"
    )
