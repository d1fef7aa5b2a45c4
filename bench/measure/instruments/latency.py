"""Every cell timed in interleaved rounds with PyTorch FP32, on the images that it is evaluated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.grid.matrix import Cell
from bench.measure.instruments.accuracy import Accuracy
from bench.measure.instruments.instrument import Joined, Problems, RunInstrument
from bench.measure.timing import Campaign
from bench.measure.workshop import Workshop


class Latency(RunInstrument):
    """Times the cells of a run together: only so do their ratios survive a machine whose speed drifts."""

    name = "latency"
    needs = ("export",)
    compares = True
    # Of its processes it also replaces what the footprint was of one: import_ms and the like become medians.
    fills = (
        "latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "latency_ratio", "latency_ratio_low",
        "latency_ratio_high", "latency_autocorrelation", "latency_samples", "latency_launches", "latency_rounds",
        "latency_rounds_contaminated", "latency_stop", "timed_on", "import_ms_low", "import_ms_high", "load_ms_low",
        "load_ms_high", "first_inference_ms_low", "first_inference_ms_high", "peak_rss_bytes_low",
        "peak_rss_bytes_high", "energy_image_j", "energy_image_j_low", "energy_image_j_high", "device_ms",
        "device_ms_low", "device_ms_high", "device_graph_ms", "device_graph_ms_low", "device_graph_ms_high",
    )  # fmt: skip

    def applies(self, workshop: Workshop, cell: Cell) -> str:
        """Why no latency is taken of a cell that runs, or nothing."""
        untimed = workshop.why_untimed(cell)
        if not untimed and workshop.elsewhere is not None:
            untimed = workshop.elsewhere.why_untimed(cell)
        if untimed:
            workshop.store.update(cell, latency_stop=untimed)
        return untimed

    def left_out_before(self, row: Mapping[str, Any]) -> str:
        """What `latency_stop` says of a cell that has no times."""
        return "" if row["latency_p50_ms"] is not None else row["latency_stop"] or ""

    def measure_all(self, workshop: Workshop, cells: Sequence[Cell], joined: Joined) -> Problems:
        """Time every cell, and evaluate those whose accuracy joins; why some have no latency, or no accuracy."""
        if workshop.elsewhere is not None and workshop.elsewhere.times:
            return {self.name: workshop.elsewhere.time(cells)}
        untimed, unscored = Campaign(workshop, cells, joined.get(Accuracy.name, ())).run()
        return {self.name: untimed, Accuracy.name: unscored}
