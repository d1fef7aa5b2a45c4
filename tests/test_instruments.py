"""The instruments: what each needs, in which order they measure, and that the reference is measured before the rest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from running import bench

from bench import store
from bench.measure.instruments.instrument import CellInstrument, RunInstrument
from bench.measure.instruments.registry import INSTRUMENTS, of_cells, of_runs

ORDER = ["export", "footprint", "parity", "accuracy", "attestation", "latency"]


def test_there_are_six_in_the_order_in_which_a_cell_is_taken_through_them() -> None:
    assert list(INSTRUMENTS) == ORDER
    assert [one.name for one in INSTRUMENTS.values()] == ORDER
    kinds = [isinstance(one, RunInstrument) for one in INSTRUMENTS.values()]
    assert kinds == sorted(kinds), "those that measure a run together come last"
    assert all(isinstance(one, CellInstrument | RunInstrument) for one in INSTRUMENTS.values())


@pytest.mark.parametrize("name", ORDER)
def test_what_an_instrument_needs_comes_before_it(name: str) -> None:
    for needed in INSTRUMENTS[name].needs:
        assert ORDER.index(needed) < ORDER.index(name)


@pytest.mark.parametrize(
    ("wanted", "measured"),
    [
        ([], []),
        (["export"], ["export"]),
        (["accuracy"], ["export", "footprint", "accuracy"]),
        (["attestation", "parity"], ["export", "footprint", "parity", "attestation"]),
        (["latency"], ["export"]),
        (reversed(ORDER), ORDER[:-1]),
    ],
)
def test_what_is_wanted_brings_what_it_needs_in_order(wanted: list[str], measured: list[str]) -> None:
    assert [one.name for one in of_cells(wanted)] == measured


def test_a_run_is_measured_together_by_latency_alone() -> None:
    assert [one.name for one in of_runs()] == ["latency"]


def test_only_what_works_on_the_artifact_alone_needs_no_guest() -> None:
    assert [one.name for one in of_cells(ORDER) if not one.in_guest] == ["export"]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")
def test_the_reference_is_measured_first_also_when_only_another_cell_is_chosen(tmp_path: Path) -> None:
    done = bench(
        "run", "--results", tmp_path, "--run-id", "r", "--sweep", "smoke", "--options", "onnx", "--precisions", "fp32",
        "--targets", "cpu,arm-cpu", "--imgsz", "64", "--images", "2", "-k", "onnx and parity",
    )  # fmt: skip
    assert done.code == 0, done.said
    rows = store.read_table(tmp_path / "r", "cells")
    rows = rows[rows.reason_code != "target_absent"].set_index("option")
    assert rows.status.eq("measured").all()
    assert rows.loc["pytorch"].parity_box_max == 0
    assert rows.loc["onnx"].parity_box_max > 0
    # Its needs came along, what nobody asked for did not.
    assert rows.loc["onnx", ["size_bytes", "load_ms"]].notna().all()
    assert rows[["map50_95", "latency_p50_ms"]].isna().all(axis=None)
    assert rows.loc["pytorch"].started < rows.loc["onnx"].started
