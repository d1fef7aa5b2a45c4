"""The interface for Python and notebooks; `bench` itself hands it on, so `from bench import run` is all it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any, Unpack, get_type_hints

import pandas as pd
from rich.console import Console

from bench import __version__, engine, store
from bench.decide import compare
from bench.decide.deploy import candidates
from bench.decide.deploy import recommend as rules
from bench.grid.request import OPTIONS, Request, RunOptions, parameter
from bench.measure import checkup, inspection
from bench.progress import Reporter
from bench.reasons import Status, StoreError, UsageError, did_you_mean
from bench.report import recommendation
from bench.store import finding, metrics, reading
from bench.words.numbers import count

__all__ = [
    "Inspected", "Results", "StoreError", "UsageError", "__version__", "compare_cells", "doctor", "inspect", "read",
    "recommend", "run",
]  # fmt: skip


_CHOICE = ("name", "option", "precision", "in_guide", "standing", "rank", "on_front", "ties", "behind", "beaten_by")


@dataclass(frozen=True, repr=False)
class Results:
    """A run's tables as DataFrames; `docs/results-format.md` says what every column holds.

    A table that a run has no rows of is empty.  Raises StoreError, at the first look, for a table that is missing,
    damaged or of another schema version.
    """

    directory: Path

    def __repr__(self) -> str:
        """The run and what became of its cells: `<Results of coco128-640-cpu: 12 measured, 1 skipped>`."""
        counts = ", ".join(f"{count} {status}" for status, count in self.cells.status.value_counts().items())
        return f"<Results of {self.directory.name}: {counts or 'no cell'}>"

    @property
    def report(self) -> Path:
        """The run's report, one HTML file."""
        return self.directory / "report.html"

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
    def launches(self) -> pd.DataFrame:
        """Every process of the timed cells: what starting it took, and its memory."""
        return self._table("launches")

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


@dataclass(frozen=True, repr=False)
class Inspected:
    """What models and their data are; `facts` is what `yolo11-bench inspect --format json` prints.

    `data` and `calibration` in it are None where they could not be read, and `models` lacks those that could not.
    """

    facts: Mapping[str, Any]

    def __repr__(self) -> str:
        """Whether a run can start: `<Inspected: ready, 1 warning>`."""
        state = "ready" if self.ready else count(len(self.problems), "problem")
        return f"<Inspected: {state}, {count(len(self.warnings), 'warning')}>"

    @property
    def ready(self) -> bool:
        """Whether a run can start."""
        return bool(self.facts["ready"])

    @property
    def problems(self) -> tuple[str, ...]:
        """What stops a run: a line each, with its file, its line and what to do."""
        return tuple(self.facts["problems"])

    @property
    def warnings(self) -> pd.DataFrame:
        """What a reader of the score must know and stops nothing: `name`, how often it was found, and in words."""
        return pd.DataFrame(self.facts["warnings"], columns=["name", "count", "text"])


def run(*, keyword: str | None = None, progress: bool = True, **options: Unpack[RunOptions]) -> Results:
    """Sweep, measure, store and report, as `yolo11-bench run` does; returns the run's tables.

    `options` are those of the command line, with underscores for hyphens; lists stand for commas:
    OPTIONS.
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


def inspect(
    model: str | Path | Sequence[str | Path] | None = None,
    data: str | Path | None = None,
    *,
    images: int | None = None,
    sweep: str | None = None,
    options: str | Sequence[str] | None = None,
    precisions: str | Sequence[str] | None = None,
    targets: str | Sequence[str] | None = None,
    imgsz: int | Sequence[int] | None = None,
    cache: str | Path | None = None,
    matrices: str | Path | None = None,
    progress: bool = True,
) -> Inspected:
    """Look at a model and its data before a run, as `yolo11-bench inspect` does; nothing is measured or exported.

    All images of the split are looked at unless `images` says how many; without `model` and `data` the embedded ones.
    The rest says which cells there will be: sizes are held against the model's stride, and where a precision is
    calibrated, the images for that are looked at too.  What is wrong with model or data is in `problems` and raises
    nothing; UsageError is for options that cannot be meant.

    Example: bench.inspect("best.pt", "data.yaml", imgsz=640).problems
    """
    asked: dict[str, Any] = {"model": model, "data": data, "images": images, "sweep": sweep, "options": options}
    asked |= {"precisions": precisions, "targets": targets, "imgsz": imgsz, "cache": cache, "matrices": matrices}
    found = inspection.of_request(Request(_texts(asked)), Reporter(Console(), enabled=progress))
    return Inspected(inspection.facts(found))


def read(run: str | Path | None = None, *, results: str | Path | None = None) -> Results:
    """The tables of a past run: a folder, a name in `results` or of a recorded run, or the newest (None).

    Raises UsageError when there is none.
    """
    return Results(_find(run, results))


def compare_cells(
    run: str | Path | Results | None, one: str, other: str, *, results: str | Path | None = None
) -> pd.DataFrame:
    """Two cells of a run, a row per figure: `one`, `other`, their difference and ratio with 95 % intervals.

    Cells are named by `cell_id`, or by as much of the part after its slash as no other measured cell has.  `time`
    compares the rounds that both took part in, per image; the accuracy the images that both were evaluated on.  Figures
    that cannot be held against each other have neither difference nor ratio.  Raises UsageError for a run or cell that
    is not there.

    Example: bench.compare_cells("coco128-640-cpu", "onnx-fp32", "openvino-fp32")
    """
    rows = []
    for found in compare.compare(_find(run, results), one, other):
        row: dict[str, Any] = {"metric": found.metric, "one": found.one, "other": found.other}
        for name, interval in (("difference", found.difference), ("ratio", found.ratio)):
            row[name] = interval and interval.value
            row[f"{name}_low"], row[f"{name}_high"] = (interval.low, interval.high) if interval else (None, None)
        rows.append({**row, "unit": found.unit, "direction": found.direction})
    figures = pd.DataFrame(rows).set_index("metric")
    numbers = figures.columns.difference(["unit", "direction"])
    return figures.astype(dict.fromkeys(numbers, "float64"))


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
    max_latency_ms: float | None = None,
    min_fps: float | None = None,
    min_map: float | None = None,
    max_map_loss: float | None = None,
    max_size: float | None = None,
    max_memory: float | None = None,
    max_env: float | None = None,
) -> pd.DataFrame:
    """What of a run to deploy under limits, best first, as `yolo11-bench recommend` says it: a row per candidate.

    `standing` is meets, possibly or dropped; `why` says it in words; `time`, `latency`, `throughput`, `map`, `loss`,
    `size`, `memory` and `packages` are the figures that limits can be put on, each with the ends of its interval.  The
    loss is at most 0.01 where no limit is given.  Several models and sizes are chosen from together, unless one is
    named.  The frame's `attrs` hold the rest of that command's JSON: summary, front, scope, limits, what was not
    considered, caveats.  Raises UsageError for a limit that cannot be meant, or where several targets, batches or
    numbers of threads were timed and none of them is named.

    Example: bench.recommend(max_latency_ratio=0.6, max_map_loss=0.01, max_size=8)
    """
    wanted = rules.limits(
        time=max_latency_ratio,
        latency=max_latency_ms,
        throughput=min_fps,
        map=min_map,
        loss=max_map_loss,
        size=max_size,
        memory=max_memory,
        packages=max_env,
    )
    data = reading.load(_find(run, results))
    field = candidates.select(data, model=model, imgsz=imgsz, batch=batch, target=target, threads=threads)
    field = candidates.only_in_guide(field) if in_guide else field
    found = rules.recommend(field.candidates, wanted, field.pairs)
    told = json.loads(recommendation.as_json(data.run_id, field, found, recommendation.words("en")))
    rows = []
    for choice in told.pop("choices"):
        figures = choice.pop("figures")
        for name, figure in figures.items():
            ends = figure or {}
            choice |= {name: ends.get("value"), f"{name}_low": ends.get("low"), f"{name}_high": ends.get("high")}
        rows.append(choice | {"why": "; ".join(choice["why"])})
    numbers = [f"{name}{end}" for name in rules.QUANTITIES for end in ("", "_low", "_high")]
    frame = pd.DataFrame(rows, columns=["cell_id", *_CHOICE, *numbers, "why", "reproduce"]).set_index("cell_id")
    frame.attrs.update(told)
    return frame.astype(dict.fromkeys(numbers, "float64") | {"rank": "Int64"})


def doctor(*, cache: str | Path | None = None, matrices: str | Path | None = None) -> pd.DataFrame:
    """The state of this machine, a row per thing looked at: kind (needed, target, environment), name, good, text.

    `good` is None for environments, which are made on first use; `used_by` names the options that use one.

    Example: bench.doctor().query("kind == 'target' and good == True")
    """
    found = checkup.examine(Request(_texts({"cache": cache, "matrices": matrices})))
    rows: list[tuple[str, str, bool | None, str, str]] = []
    rows += [("needed", one.name, one.good, one.text, "") for one in found.needed]
    rows += [("target", one.name, one.good, one.text, "") for one in found.targets]
    rows += [("environment", one.family, None, one.text, ", ".join(one.users)) for one in found.environments]
    return pd.DataFrame(rows, columns=["kind", "name", "good", "text", "used_by"])


def _find(run: str | Path | Results | None, results: str | Path | None) -> Path:
    if isinstance(run, Results):
        return run.directory
    return finding.find(run, Request(_texts({"results": results})).results)


def _texts(options: Mapping[str, Any]) -> dict[str, str | None]:
    """Options as the command line would write them.  Raises UsageError for one that does not exist."""
    known = {parameter(name): name for name in OPTIONS}
    unknown = [name for name in options if name not in known]
    if unknown:
        hint = did_you_mean(unknown, known)
        raise UsageError(f"a run has no option {', '.join(unknown)}{hint}; it has: {', '.join(known)}")
    return {known[name]: None if value is None else _text(value) for name, value in options.items()}


def _text(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)


def _signature() -> Signature:
    """What `help(bench.run)` and a notebook's completion show: the options by name."""
    kind = Parameter.KEYWORD_ONLY
    kept = [one for one in signature(run).parameters.values() if one.kind is kind]
    hints = get_type_hints(RunOptions)
    ours = [Parameter(name, kind, default=None, annotation=hint) for name, hint in hints.items()]
    return Signature([*kept, *ours], return_annotation=Results)


def _described() -> str:
    """The options, a line each."""
    return "".join(f"\n        {parameter(name)}: {option.help}" for name, option in OPTIONS.items()) + "\n"


run.__signature__ = _signature()  # type: ignore[attr-defined]  # what inspect.signature reads
if run.__doc__ is not None:  # python -OO has none
    run.__doc__ = run.__doc__.replace("\n    OPTIONS.", _described())
