"""The comparison of a run for other programs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from report_fixture import HOSTILE, write_run
from typer.testing import CliRunner

from bench.cli import app as cli
from bench.reasons import Reason
from bench.report.outcomes import words
from bench.store import reading


def show(run: Path, form: str) -> str:
    done = CliRunner().invoke(cli.app, ["show", str(run), "--format", form])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("exports") / "run")


def test_csv_and_json_hold_the_same_figures_of_every_measured_cell(run: Path) -> None:
    measured = {cell.cell_id: cell for cell in reading.load(run).measured}
    rows = list(csv.DictReader(io.StringIO(show(run, "csv"))))
    told = json.loads(show(run, "json"))
    assert [row["cell_id"] for row in rows] == [one["cell_id"] for one in told["cells"]] == list(measured)
    for row, one in zip(rows, told["cells"], strict=True):
        cell = measured[one["cell_id"]]
        assert one["map50_95"] == cell.map50_95
        assert float(row["latency_p50_ms"]) == cell.latency_p50_ms
        assert row["latency_ratio_low"] == ("" if cell.latency_ratio_low is None else repr(cell.latency_ratio_low))


def test_markdown_is_a_table_with_a_line_for_each_measured_cell(run: Path) -> None:
    lines = [line for line in show(run, "markdown").splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(reading.load(run).measured)
    assert len({line.count(" | ") for line in lines}) == 1
    assert "mAP50-95" in lines[0]


def test_names_from_data_are_text_in_markdown(tmp_path: Path) -> None:
    hostile = write_run(tmp_path / "run", hostile=True)
    said = show(hostile, "markdown")
    assert "<" not in said.replace("\\<", "")
    assert HOSTILE not in said


def test_show_speaks_the_language_of_the_locale_and_the_one_that_is_asked_for(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*words: str) -> str:
        done = CliRunner(env={"COLUMNS": "120"}).invoke(cli.app, ["show", str(run), *words])
        assert done.exit_code == 0, done.output
        return done.output

    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert "已测量" in said()
    assert "measured" in said("--lang", "en")
    monkeypatch.setenv("LC_ALL", "C")
    assert "已测量" not in said()
    assert "已测量" in said("--lang", "zh")


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("command", ["show", "recommend"])
def test_no_cell_is_broken_at_any_width(run: Path, columns: int, language: str, command: str) -> None:
    done = CliRunner(env={"COLUMNS": str(columns)}).invoke(cli.app, [command, str(run), "--lang", language])
    assert done.exit_code == 0, done.output
    assert "…" not in done.output
    assert "\x1b" not in done.output, "piped: plain"
    cell = next(one for one in reading.load(run).measured if one.option == "torchscript")
    assert f"{cell.latency_p50_ms:.2f}" in done.output, "milliseconds are there at any width"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_reason_is_explained_in_both_languages(language: str) -> None:
    explained = {key.partition(".")[2] for key in words(language).strings if key.startswith("reason.")}
    assert explained == {reason.value for reason in Reason if reason is not Reason.OK}
