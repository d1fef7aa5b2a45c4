"""Runs probes over a run and stores what they saw; each fails alone, with a reason.

A probe is a function that yields observations of a run.  `PROBES` names them in the order they are run, the quick
ones first.  `packages` is the exception: it asks package indexes and fills a table of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from bench import store
from bench.probes import data_only, devices, interchange, no_network, no_python, operators, packages, sandbox, serving
from bench.probes.context import Context
from bench.probes.observation import Observation, Unavailable, unavailable
from bench.reasons import CellProblem, UsageError

PACKAGES = "packages"
Probe = Callable[[Context], Iterable[Observation]]
PROBES: dict[str, Probe] = {
    "operators": operators.observe,
    "devices": devices.observe,
    "data_only": data_only.observe,
    "no_network": no_network.observe,
    "sandbox": sandbox.observe,
    "interchange": interchange.observe,
    "no_python": no_python.observe,
    "serving": serving.observe,
}
NAMES = (PACKAGES, *PROBES)


def probe(context: Context, only: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """Run the probes named in `only` (empty: all), store their rows in the run, and return these rows.

    Rows of probes that are not run again stay.  The second value says what could not be done.  Raises UsageError for
    an unknown name and store.StoreError when the run's folder cannot be written.
    """
    unknown = sorted(set(only) - set(NAMES))
    if unknown:
        raise UsageError(f"--only: unknown {', '.join(unknown)}; allowed: {', '.join(NAMES)}")
    wanted = [name for name in NAMES if not only or name in only]
    context.progress.expect(len(wanted))
    problems: list[str] = []
    if PACKAGES in wanted:
        problems += packages.store_in(context.directory, context.matrix.directory, context.settings.packages)
        context.progress.advance()
    rows: list[dict[str, Any]] = []
    for name in (name for name in PROBES if name in wanted):
        with context.progress.timed("", f"probe {name}"):
            rows += [_row(name, seen, context.machine) for seen in observe(name, context)]
        _write(context.directory, rows, wanted)
        context.progress.advance()
    return pd.DataFrame(rows, columns=store.TABLES["probes"].names), problems


def observe(name: str, context: Context, probes: dict[str, Probe] = PROBES) -> Iterator[Observation]:
    """What one probe sees; where it cannot go on, one last row that says why."""
    try:
        yield from probes[name](context)
    except (Unavailable, CellProblem, UsageError, OSError) as problem:
        yield unavailable("", "", problem)


def _row(name: str, seen: Observation, machine: str) -> dict[str, Any]:
    return {
        "probe": name,
        "option": seen.option,
        "subject": seen.subject,
        "outcome": seen.outcome.value,
        "value": seen.value,
        "unit": seen.unit,
        "text": seen.text,
        "date": datetime.now(UTC),
        "machine": machine,
    }


def _write(directory: Path, rows: list[dict[str, Any]], replaced: Sequence[str]) -> None:
    """Write the table: `rows`, after those of an earlier call that are not replaced."""
    table = pa.Table.from_pylist(rows, schema=store.TABLES["probes"])
    if (directory / "probes.parquet").is_file():
        earlier = store.read_table(directory, "probes")
        kept = earlier[~earlier.probe.isin(replaced)]
        before = pa.Table.from_pandas(kept, schema=store.TABLES["probes"], preserve_index=False)
        table = pa.concat_tables([before.cast(table.schema), table])
    store.write_table(directory, "probes", table)
