"""Steps in series of nights: found soon where there is one, never where there is none; and the pages that show them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic import LATENCY, LOADING, MEMORY, PACE, Fleet, Planted, Source

from bench.grid import tolerances
from bench.history import drift, merging
from bench.history.drift import Drift, Version
from bench.places import MATRICES, RECORDED
from bench.site import evidence, pages
from bench.site.trends import Trends, night_path, trend_path
from bench.stats.drift import FEWEST, steps, yardsticks
from bench.words.locale import LANGUAGES

NIGHTS, CELLS = 80, 10
MARGINS = {name: entry.margin for name, entry in tolerances.load(MATRICES).items()}
ONNX = "yolo11n-coco/onnx-fp32-cpu-640-b1-t1"


def latencies(seed: int, planted: float = 0.0) -> NDArray[np.float64]:
    """Log times of cells by nights, (10, 80), with the noise of the synthetic runs; the third slower from night 40."""
    draw = np.random.default_rng(seed)
    logs = np.log(draw.uniform(10, 200, (CELLS, 1))) + draw.normal(0, PACE, NIGHTS)
    logs += draw.normal(0, LATENCY, (CELLS, NIGHTS))
    logs[2, 39:] += np.log1p(planted)
    return logs


@pytest.mark.parametrize("seed", range(3))
def test_eighty_nights_without_a_drift_raise_none_on_any_of_them(seed: int) -> None:
    """Every metric of every cell is looked at again each night, as the pages do."""
    draw = np.random.default_rng([seed, 1])
    logs = latencies(seed)
    compared = logs - yardsticks(logs, np.full(CELLS, fill_value=True))
    loading = np.hypot(LOADING, PACE)
    noise = {"load_ms": loading, "first_inference_ms": loading, "peak_rss_bytes": MEMORY}
    series = [("latency", row) for row in compared]
    series += [(name, draw.normal(0, sd, NIGHTS)) for name, sd in noise.items() for _ in range(CELLS)]
    found = [
        (name, night)
        for name, values in series
        for night in range(FEWEST, NIGHTS + 1)
        if steps(values[:night], float(np.log1p(MARGINS[name])))
    ]
    assert found == []


@pytest.mark.parametrize("seed", range(3))
def test_a_drift_from_night_40_is_found_within_two_nights_and_in_that_cell_alone(seed: int) -> None:
    logs = latencies(seed, planted=0.1)
    for night in (41, 60, NIGHTS):  # the second night of it, and later
        seen = logs[:, :night]
        compared = seen - yardsticks(seen, np.full(CELLS, fill_value=True))
        found = [steps(row, float(np.log1p(MARGINS["latency"]))) for row in compared]
        assert [len(one) for one in found] == [0, 0, 1, *[0] * (CELLS - 3)]
        (step,) = found[2]
        assert step.at == 39, "the fortieth night"
        assert np.exp(step.after - step.before) == pytest.approx(1.1, abs=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_so_it_is_through_runs_and_their_history(tmp_path: Path, seed: int) -> None:
    """Eighty nights raise nothing; with one drift from night 40 on, that one is told once night 41 was merged."""
    source = Source.of(cells=5)  # the cell, three others that are its yardstick, and the reference
    runs = [Fleet(source, seed=seed).write(tmp_path / "runs", night) for night in range(1, NIGHTS + 1)]
    merging.add(tmp_path / "still", runs)
    found = drift.load(tmp_path / "still", MATRICES)
    assert {len(trend.series.runs) for trend in found.trends} == {NIGHTS}
    assert not any(trend.moved for trend in found.trends)
    slower = Fleet(source, seed=seed, planted=(Planted(40, ONNX, 1.1),))
    merging.add(tmp_path / "moved", [*runs[:39], *(slower.write(tmp_path / "slower", night) for night in (40, 41))])
    told = [
        (trend.series.place.cell, trend.series.metric, moved.after, moved.worse)
        for trend in drift.load(tmp_path / "moved", MATRICES).trends
        for moved in trend.moved
    ]
    assert told == [(ONNX, "latency", runs[39].name, True)]


def test_one_night_that_is_far_out_of_line_is_no_step() -> None:
    draw = np.random.default_rng(5)
    for size in (0.1, 1.0, 100.0):
        values = draw.normal(0, 0.01, 250)
        values[200] += size
        assert steps(values, 0.003) == ()


def test_a_machine_that_wanders_is_not_one_that_stepped() -> None:
    """Nights that resemble their neighbours (first order, 0.5) are fewer than they look."""
    for seed in range(10):
        draw = np.random.default_rng(seed)
        values = np.zeros(NIGHTS)
        for night in range(1, NIGHTS):
            values[night] = 0.5 * values[night - 1] + draw.normal(0, 0.01)
        assert steps(values, 0.003) == ()


def test_what_never_varies_steps_where_it_changes() -> None:
    """Sizes: two changes above the margin of a thousandth, and one below it, which nobody wants to be told of."""
    sizes = np.repeat([5_000_000.0, 5_100_000.0, 5_100_500.0, 4_000_000.0], 20)
    found = steps(np.log(sizes), MARGINS["size_bytes"])
    assert [step.at for step in found] == [20, 60]


def test_few_nights_and_small_steps_say_nothing() -> None:
    assert steps([1.0] * 3 + [9.0] * (FEWEST - 4), 0.1) == ()
    assert steps(np.repeat([0.0, 0.09], 40), 0.1) == ()
    with pytest.raises(ValueError, match="finite values and a margin"):
        steps([1.0, np.nan], 0.1)
    with pytest.raises(ValueError, match="a margin above 0"):
        steps([1.0, 1.0], 0.0)


def test_the_yardstick_of_a_night_is_what_its_other_cells_have_in_common() -> None:
    """Paces are exact here; a cell that becomes slower, one that comes and one that goes leave them as they are."""
    pace = np.log([1.0, 1.2, 0.9, 1.1, 1.0, 1.3, 1.0])
    logs = np.log([[10.0], [20.0], [30.0], [40.0], [50.0], [60.0]]) + pace
    logs[0, 4:] += np.log(2)
    logs[1, :3], logs[2, 5:] = np.nan, np.nan
    found = yardsticks(logs, np.full(6, fill_value=True))
    usual = np.median(pace)
    for cell in range(3, 6):
        np.testing.assert_allclose(found[cell], pace - usual, atol=0.1)
    assert np.isnan(yardsticks(logs[:3], np.full(3, fill_value=True))).all(), "two others are no yardstick"
    assert np.isnan(yardsticks(logs, np.zeros(6, np.bool_))).all(), "nor those that do not count"


def test_versions_are_told_package_by_package_and_what_always_differs_is_not() -> None:
    before = {
        ("env:onnx", "packages"): '["numpy==2.3.0", "onnxruntime==1.25.1"]',
        ("env:onnx", "lock_sha256"): "a" * 64,
        ("env:onnx", "bytes"): "1",
        ("machine", "cpu_mhz"): "2500",
        ("machine", "system"): "Linux-6.1",
        ("core", "pandas"): "3.0",
    }
    after = before | {
        ("env:onnx", "packages"): '["numpy==2.3.0", "onnxruntime==1.26.0", "protobuf==7"]',
        ("env:onnx", "bytes"): "2",
        ("machine", "cpu_mhz"): "2600",
        ("machine", "system"): "Linux-6.8",
    }
    assert drift.versions(before, after) == [
        Version("env:onnx", "onnxruntime", "1.25.1", "1.26.0"),
        Version("env:onnx", "protobuf", "", "7"),
        Version("machine", "system", "Linux-6.1", "Linux-6.8"),
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Drift:
    """Two machines, of which one gets another ONNX Runtime in night 40 and loses a cell in the last night."""
    folder = tmp_path_factory.mktemp("drift")
    source = Source.of(cells=6)
    update = Planted(40, ONNX, 1.1, "env:onnx", "onnxruntime", "99.0")
    for night in range(1, 51):
        own = source if night < 50 else replace(source, cells=source.cells[:-1])
        Fleet(own, seed=1, planted=(update,)).write(folder / "runs", night)
    for night in range(1, 13):
        Fleet(source, seed=1).write(folder / "runs", night, machine=1)
    merging.add(folder / "history", [folder / "runs"], link="javascript:alert(1)")
    return drift.load(folder / "history", MATRICES)


def test_the_history_tells_the_cell_the_night_and_the_version(found: Drift) -> None:
    ((trend, moved),) = [(trend, moved) for trend in found.trends for moved in trend.moved]
    assert (trend.series.place.cell, trend.series.metric) == (ONNX, "latency")
    nights = {night.run_id: night.day for night in found.nights}
    assert nights[moved.after] == "2026-02-09", "the fortieth night from New Year on"
    assert moved.worse
    (version,) = moved.versions
    assert (version.scope, version.name, version.after) == ("env:onnx", "onnxruntime", "99.0")


def test_a_cell_that_is_no_longer_measured_is_told_on_its_night(found: Drift) -> None:
    source = Source.of(cells=6)
    last = [night for night in found.nights if night.run_id.endswith("-nightly-0")][-2:]
    (gone,) = found.gone[last[1].run_id]
    assert (gone.cell, gone.last, gone.status) == (source.cells[-1]["cell_id"], last[0].run_id, "")
    assert not any(found.gone[night.run_id] for night in found.nights if night.run_id != last[1].run_id)


@pytest.fixture(scope="module")
def site(found: Drift) -> dict[str, str]:
    return pages.render(evidence.load([RECORDED / "coco128-640-cpu"], MATRICES), Trends(found))


def test_every_cell_has_its_charts_and_every_night_its_page(site: dict[str, str], found: Drift) -> None:
    for language in LANGUAGES:
        for trend in found.trends:
            page = site[f"{language}/{trend_path(trend.series.place)}"]
            assert f'<section id="{trend.series.metric.replace("_", "-")}' in page
        assert {night_path(night.day) for night in found.nights} == {
            name.removeprefix(f"{language}/") for name in site if name.startswith(f"{language}/nights/")
        }
        first = site[f"{language}/trends.html"]
        assert "env:onnx onnxruntime" in first
        assert "→ 99.0" in first


def test_links_of_the_new_pages_lead_somewhere(site: dict[str, str]) -> None:
    """Fragments too; and an address that is no web page's is text."""
    checked = 0
    for name, html in site.items():
        if not re.search(r"/(trends|nights)", name):
            continue
        for address in re.findall(r'href="([^"#:]*)(?:#[^"]*)?"', html):
            if address:
                target = (Path("/") / name).parent / address
                parts: list[str] = []
                for part in target.parts[1:]:
                    parts = parts[:-1] if part == ".." else [*parts, part]
                assert "/".join(parts) in site, f"{name}: {address}"
                checked += 1
        assert 'href="javascript' not in html
    assert checked > 500


def test_a_step_is_marked_in_the_chart_and_leads_to_its_night(site: dict[str, str], found: Drift) -> None:
    (trend,) = [trend for trend in found.trends if trend.moved]
    page = site[f"en/{trend_path(trend.series.place)}"]
    assert page.count('<a href="../../nights/2026-02-09.html"><line') == 1
    assert "+10" in page or "+9" in page or "+11" in page
