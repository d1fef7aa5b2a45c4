"""What a run is handed on as: a badge, and runs of MLflow."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from report_fixture import write_run
from typer.testing import CliRunner

from bench.cli import app as cli
from bench.report import badge, tracking
from bench.report.badge import Badge
from bench.store import pairs, reading

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("badges") / "run")


def ask(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli.app, [str(one) for one in arguments])
    assert done.exit_code == code, done.output
    return done.output


def texts(path: Path) -> list[str]:
    return [str(one.text) for one in parsed(path.read_text(encoding="utf-8")).iter(f"{SVG}text")]


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - we have just written it


def test_a_badge_names_what_recommend_names(run: Path, tmp_path: Path) -> None:
    best = json.loads(ask("recommend", run, "--format", "json"))["choices"][0]
    ask("export", "badge", run, "--out", tmp_path / "badge.json")
    told = json.loads((tmp_path / "badge.json").read_text(encoding="utf-8"))
    # The keys that shields.io's endpoint badge asks for.
    assert told.keys() == {"schemaVersion", "label", "message", "color"}
    assert told["schemaVersion"] == 1
    speed = 1 / best["figures"]["time"]["value"]
    assert told["message"] == f"{best['name']}, {speed:.2f}\N{MULTIPLICATION SIGN} PyTorch"
    assert told["label"] == "demo on cpu"
    ask("export", "badge", run, "--out", tmp_path / "badge.svg")
    assert texts(tmp_path / "badge.svg") == [told["label"], told["message"]]


@pytest.mark.parametrize(
    ("counts", "regressed", "message", "colour"),
    [
        ({"worse": 2, "undecided": 1}, True, "2 regressions", "red"),
        ({"worse": 0, "undecided": 3}, False, "no regression, 3 undecided", "brightgreen"),
        ({"worse": 0, "undecided": 0}, False, "no regression", "brightgreen"),
    ],
)
def test_a_badge_says_what_the_check_came_to(
    counts: dict[str, int], regressed: bool, message: str, colour: str, tmp_path: Path
) -> None:
    facts = {"against": "main", "regressed": regressed, "counts": counts}
    assert badge.of_check(facts) == Badge("against main", message, colour)
    run = write_run(tmp_path / "run")
    (run / pairs.CHECK).write_text(json.dumps(facts), encoding="utf-8")
    ask("export", "badge", run, "--of", "check", "--out", tmp_path / "gate.svg")
    assert texts(tmp_path / "gate.svg") == ["against main", message]


def test_what_a_badge_cannot_be_made_of_is_told(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["export", "badge", str(run), "--of", "check", "--out", str(tmp_path / "a.svg")])
    assert "was never checked" in str(done.exception)
    done = CliRunner().invoke(cli.app, ["export", "badge", str(run), "--out", str(tmp_path / "a.png")])
    assert "a badge is an .svg" in str(done.exception)


def test_texts_of_a_badge_are_no_markup_and_can_be_read() -> None:
    root = parsed(badge.as_svg(Badge("<b>&", '"</svg><script>', "red")))
    assert [one.text for one in root.iter(f"{SVG}text")] == ["<b>&", '"</svg><script>']
    assert {one.tag for one in root.iter()} == {f"{SVG}{name}" for name in ("svg", "title", "rect", "g", "text")}
    long, short = (parsed(badge.as_svg(Badge("a", text, "blue"))) for text in ("W" * 20, "i" * 20))
    assert int(long.attrib["width"]) > int(short.attrib["width"]), "as wide as the text, not as its number of letters"
    for colour in (*badge._COLOURS.values(), badge._GROUND):
        assert _contrast(colour) >= 4.5, "WCAG 2.2, 1.4.3, against white"


def _contrast(colour: str) -> float:
    """Contrast of a colour to white as WCAG 2.2 defines it."""
    parts = [int(part, 16) / 255 for part in re.findall("[0-9a-f]{2}", colour)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 1.05 / (luminance + 0.05)


def test_a_run_is_logged_to_mlflow_once_with_a_run_for_every_cell(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow: Any = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 takes a folder only where one insists
    store = (tmp_path / "store").as_uri()
    said = ask("export", "mlflow", run, "--to", store)
    data, client = reading.load(run), mlflow.MlflowClient(tracking_uri=store)
    home = client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id
    (parent,) = client.search_runs([home], f"tags.`{tracking.RUN_ID}` = '{data.run_id}'")
    assert parent.info.run_id in said
    assert parent.info.status == "FINISHED"
    assert "cells.parquet" in {one.path for one in client.list_artifacts(parent.info.run_id)}
    children = client.search_runs([home], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    by_cell = {one.data.tags["yolo11_bench.cell_id"]: one.data for one in children}
    assert by_cell.keys() == {cell.cell_id for cell in data.measured}
    for cell in data.measured:
        logged = by_cell[cell.cell_id]
        assert logged.params["option"] == cell.option
        expected = {name: value for name in tracking.METRICS if (value := getattr(cell, name)) is not None}
        assert logged.metrics == pytest.approx(expected)
    assert ask("export", "mlflow", run, "--to", store) == said, "twice the same is once"
    assert len(client.search_runs([home])) == 1 + len(children)


def test_without_mlflow_the_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    done = CliRunner().invoke(cli.app, ["export", "mlflow", str(run)])
    assert "yolo11-deployment-bench[mlflow]" in str(done.exception)
