"""The interface for Python and notebooks; `bench` itself hands it on, so `from bench import run` is all it takes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench import __version__, engine, store
from bench.decide import compare
from bench.decide.deploy import candidates
from bench.decide.deploy import recommend as rules
from bench.grid.request import OPTIONS, Request, parameter
from bench.measure import checkup
from bench.progress import Reporter
from bench.reasons import Status, StoreError, UsageError, did_you_mean
from bench.report import recommendation
from bench.store import finding, metrics, reading

__all__ = ["Results", "StoreError", "UsageError", "__version__", "compare_cells", "doctor", "read", "recommend", "run"]

Value = str | int | Path | Sequence[str | int]
"""What a run option takes: text, a number, a path, or several of them where the command line takes a comma."""


@dataclass(frozen=True)
class Results:
    """A run's tables as DataFrames; `docs/results-format.md` says what every column holds."""

    directory: Path

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row per cell: what became of it and its figures."""
        return store.read_table(self.directory, "cells")

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The same figures in one long table, with interval, unit and direction."""
        return metrics.read(self.directory)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Every timed inference."""
        return self._table("samples")

    @cached_property
    def detections(self) -> pd.DataFrame:
        """Every detection, with the IoU thresholds at which it is a true positive."""
        return self._table("detections")

    @cached_property
    def ground_truth(self) -> pd.DataFrame:
        """Objects per image and class."""
        return self._table("ground_truth")

    @cached_property
    def environment(self) -> pd.DataFrame:
        """Facts about run, machine, targets and environments, as text."""
        return store.read_table(self.directory, "environment")

    @property
    def measured(self) -> pd.DataFrame:
        """The cells that have figures: option, precision, accuracy, time, size, fastest first."""
        columns = [
            "option", "precision", "target", "imgsz", "batch", "threads", "map50_95", "map_delta", "latency_p50_ms",
            "latency_ratio", "size_bytes", "peak_rss_bytes",
        ]  # fmt: skip
        rows = self.cells[self.cells.status == Status.MEASURED.value].set_index("cell_id")
        return rows[columns].sort_values("latency_ratio", ascending=False)

    def _table(self, name: str) -> pd.DataFrame:
        """A table that a run which measured nothing may lack: it is then empty."""
        return reading.optional(self.directory, name)


def run(*, keyword: str | None = None, progress: bool = True, **options: Value | None) -> Results:
    """Sweep, measure, store and report, as `yolo11-bench run` does; returns the run's tables.

    `options` are those of the command line, with underscores for hyphens: sweep, model, data, options, precisions,
    targets, emulate, imgsz, batch, threads, images, results, cache, matrices, run_id; lists stand for commas.
    `keyword` is pytest's -k over cell ids; `progress` shows a bar, in a notebook too.

    A cell that fails costs itself: look at `cells.status`.  Raises UsageError for wrong usage or an environment that
    cannot measure, KeyboardInterrupt when the run is stopped; whatever was measured before is stored.

    Example: bench.run(options=["onnx", "openvino"], precisions="fp32", images=64).measured
    """
    request = Request(_texts(options))
    swept = engine.sweep(request, Reporter(Console(), enabled=progress), keyword)
    if swept.interrupted:
        raise KeyboardInterrupt(f"stopped; what was measured is in {swept.directory}")
    return Results(swept.directory)


def read(run: str | Path | None = None, *, results: str | Path | None = None) -> Results:
    """The tables of a past run: a folder, a name in `results` or of a recorded run, or the newest (None).

    Raises UsageError when there is none.
    """
    return Results(_find(run, results))


def compare_cells(
    run: str | Path | Results | None, one: str, other: str, *, results: str | Path | None = None
) -> pd.DataFrame:
    """Two cells of a run, a row per figure: `one`, `other`, their difference and ratio with 95 % intervals.

    Cells are named by `cell_id`, or by the part of it after the slash.  `time` compares the rounds that both took part
    in, the accuracy the images that both were evaluated on.  Raises UsageError for a run or cell that is not there.

    Example: bench.compare_cells(None, "onnx-fp32-cpu-320-b1-t1", "openvino-fp32-cpu-320-b1-t1")
    """
    rows = []
    for found in compare.compare(_find(run, results), one, other):
        difference, ratio = found.difference, found.ratio
        rows.append(
            {
                "metric": found.metric,
                "one": found.one,
                "other": found.other,
                "difference": difference.value if difference else None,
                "difference_low": difference.low if difference else None,
                "difference_high": difference.high if difference else None,
                "ratio": ratio.value if ratio else None,
                "ratio_low": ratio.low if ratio else None,
                "ratio_high": ratio.high if ratio else None,
                "unit": found.unit,
                "direction": found.direction,
            }
        )
    return pd.DataFrame(rows).set_index("metric")


def recommend(
    run: str | Path | Results | None = None,
    *,
    results: str | Path | None = None,
    target: str = "cpu",
    model: str | None = None,
    imgsz: int | None = None,
    batch: int | None = None,
    threads: int | None = None,
    in_guide: bool = False,
    max_latency_ratio: float | None = None,
    min_map: float | None = None,
    max_map_loss: float | None = None,
    max_size: float | None = None,
    max_rss: float | None = None,
    max_env: float | None = None,
) -> pd.DataFrame:
    """What of a run to deploy under limits, best first, as `yolo11-bench recommend` says it: a row per candidate.

    `standing` is meets, possibly or dropped; `why` says it in words; the other columns are the figures that limits can
    be put on.  Raises UsageError for a limit that cannot be meant, or where several scopes were timed.
    """
    wanted = rules.limits(
        time=max_latency_ratio, map=min_map, loss=max_map_loss, size=max_size, memory=max_rss, packages=max_env
    )
    data = reading.load(_find(run, results))
    field = candidates.select(data, model=model, imgsz=imgsz, batch=batch, target=target, threads=threads)
    field = candidates.only_in_guide(field) if in_guide else field
    found = rules.recommend(field.candidates, wanted)
    locale = recommendation.words("en")
    names = recommendation.names_of(field, locale)
    rows = []
    for choice in found.choices:
        candidate = choice.candidate
        figures = {name: figure and figure.value for name, figure in candidate.figures.items()}
        why = locale("clauses").join(recommendation.reasons(choice, found, locale, names))
        place = {"name": names[candidate.cell_id], "standing": str(choice.standing), "rank": choice.rank}
        rows.append({"cell_id": candidate.cell_id, **place, "on_front": choice.on_front, **figures, "why": why})
    columns = ["cell_id", "name", "standing", "rank", "on_front", *rules.QUANTITIES, "why"]
    return pd.DataFrame(rows, columns=columns).set_index("cell_id")


def doctor(*, cache: str | Path | None = None, matrices: str | Path | None = None) -> pd.DataFrame:
    """The state of this machine, a row per thing looked at: kind (needed, target, environment), name, good, text.

    `good` is None for environments: they are made on first use.
    """
    found = checkup.examine(Request(_texts({"cache": cache, "matrices": matrices})))
    rows: list[tuple[str, str, bool | None, str]] = [("needed", one.name, one.good, one.text) for one in found.needed]
    rows += [("target", one.name, one.good, one.text) for one in found.targets]
    rows += [("environment", one.family, None, one.text) for one in found.environments]
    return pd.DataFrame(rows, columns=["kind", "name", "good", "text"])


def _find(run: str | Path | Results | None, results: str | Path | None) -> Path:
    if isinstance(run, Results):
        return run.directory
    return finding.find(run, Request(_texts({"results": results})).results)


def _texts(options: dict[str, Value | None] | dict[str, str | Path | None]) -> dict[str, str | None]:
    """Options as the command line would write them.  Raises UsageError for one that does not exist."""
    known = {parameter(name): name for name in OPTIONS}
    texts: dict[str, str | None] = {}
    for name, value in options.items():
        if name not in known:
            hint = did_you_mean([name], known)
            raise UsageError(f"a run has no option {name!r}{hint}; it has: {', '.join(known)}")
        several = not isinstance(value, (str, Path)) and isinstance(value, Sequence)
        texts[known[name]] = None if value is None else ",".join(map(str, value)) if several else str(value)  # type: ignore[arg-type]
    return texts


def _signature() -> inspect.Signature:
    """What `help(bench.run)` and a notebook's completion show: the options by name."""
    kind = inspect.Parameter.KEYWORD_ONLY
    kept = [one for one in inspect.signature(run).parameters.values() if one.kind is kind]
    ours = [inspect.Parameter(parameter(name), kind, default=None, annotation="Value | None") for name in OPTIONS]
    return inspect.Signature([*kept, *ours], return_annotation="Results")


run.__signature__ = _signature()  # type: ignore[attr-defined]  # what inspect.signature reads
