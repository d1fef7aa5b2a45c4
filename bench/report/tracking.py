"""A run in MLflow: one of its runs for ours, and one below that for each measured cell.

MLflow is no dependency: `pip install "yolo11-deployment-bench[mlflow]"` brings its client.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from typing import Any

from bench.reasons import UsageError
from bench.store.reading import Run, StoredCell

EXPERIMENT = "yolo11-deployment-bench"
RUN_ID = "yolo11_bench.run_id"
"""Tag of the run that holds ours: one that is there already is not logged again."""
PARAMS = ("model", "option", "precision", "target", "imgsz", "batch", "threads", "compute")
METRICS = (
    "map50_95", "map50", "map_delta", "map_delta_low", "map_delta_high",
    "latency_p50_ms", "latency_p90_ms", "latency_p99_ms",
    "latency_ratio", "latency_ratio_low", "latency_ratio_high",
    "size_bytes", "env_bytes", "import_ms", "load_ms", "first_inference_ms", "peak_rss_bytes", "energy_image_j",
)  # fmt: skip
_LONGEST = 5000
"""Characters of a tag that every store takes."""


def log(run: Run, uri: str | None, experiment: str = EXPERIMENT) -> str:
    """Log a run with its cells and files; returns the id of MLflow's run, the earlier one where it was logged before.

    `uri` is the tracking server or folder; None is what MLflow itself is set to.  Raises UsageError without MLflow, and
    for a place that it cannot write to.
    """
    try:
        mlflow = importlib.import_module("mlflow")
    except ModuleNotFoundError as error:
        raise UsageError(
            'MLflow is not installed here: pip install "yolo11-deployment-bench[mlflow]", or `pip install mlflow`'
        ) from error
    client = mlflow.MlflowClient(tracking_uri=uri)
    try:
        return _log(client, run, experiment)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise UsageError(f"MLflow at {uri or 'its own setting'} does not take the run: {error}") from error


def _log(client: Any, run: Run, experiment: str) -> str:
    known = client.get_experiment_by_name(experiment)
    home = client.create_experiment(experiment) if known is None else known.experiment_id
    before = client.search_runs([home], filter_string=f"tags.`{RUN_ID}` = '{_quoted(run.run_id)}'", max_results=1)
    if before:
        return str(before[0].info.run_id)
    facts = {f"{fact.scope}.{fact.key}": fact.value[:_LONGEST] for fact in run.facts if fact.value}
    # Its files first: the tag by which it is known again comes with what is whole.
    parent = str(client.create_run(home, run_name=run.run_id, tags=_named(facts)).info.run_id)
    client.log_artifacts(parent, str(run.directory))
    for cell in run.measured:
        tags = {"mlflow.parentRunId": parent, "yolo11_bench.cell_id": cell.cell_id}
        child = str(client.create_run(home, run_name=run.labels[cell.cell_id], tags=tags).info.run_id)
        for name, value in _params(cell):
            client.log_param(child, name, value)
        for name, number in _metrics(cell):
            client.log_metric(child, name, number)
        client.set_terminated(child)
    client.set_tag(parent, RUN_ID, run.run_id)
    client.set_terminated(parent)
    return parent


def _params(cell: StoredCell) -> Iterable[tuple[str, Any]]:
    return ((name, value) for name in PARAMS if (value := getattr(cell, name)) != "")


def _metrics(cell: StoredCell) -> Iterable[tuple[str, float]]:
    values = ((name, getattr(cell, name)) for name in METRICS)
    return ((name, float(value)) for name, value in values if value is not None and math.isfinite(value))


def _named(facts: dict[str, str]) -> dict[str, str]:
    """Facts under names that MLflow takes: letters, digits and `_-./ :`."""
    return {
        "".join(one if one.isalnum() or one in "_-./ :" else "_" for one in name): value
        for name, value in facts.items()
    }


def _quoted(text: str) -> str:
    return text.replace("'", "\\'")
