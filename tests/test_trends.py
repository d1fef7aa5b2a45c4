"""Pages of a history in a browser: legible wherever they are read; a chart says its figures and leads to its nights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_report
from legible import WIDTHS, barriers, faults, overlaps, unfold
from playwright.sync_api import Browser
from report_fixture import write_pages
from synthetic import Fleet, Planted, Source
from test_chinese import ENGLISH, Visible
from test_report import Watch

from bench.history import drift, merging
from bench.history.drift import Drift
from bench.places import MATRICES, RECORDED
from bench.site import evidence, pages
from bench.site.charts import COLUMNS
from bench.site.trends import UNFOLDED, Trends, night_path, trend_path
from bench.words.locale import LANGUAGES
from bench.words.numbers import MINUS

browser = test_report.browser  # the fixture: one Chromium for the tests of this file

NIGHTS = 70
"""More than a chart has columns, and more than two months."""
STEPPED = "yolo11n-coco/onnx-fp32-cpu-640-b1-t1"
LINK = "https://forge.example/owner/a-repository-with-a-long-name/actions/runs/12345678901234567890"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Drift:
    """One machine whose cells step more often than a list shows, and of which most fail in the last night; one more."""
    folder = tmp_path_factory.mktemp("trends")
    source = Source.of("coco128-640-guide", cells=14)
    cells = [row["cell_id"] for row in source.cells]
    assert STEPPED in cells
    planted = [Planted(40, STEPPED, 1.12, "env:onnx", "onnxruntime", "99.0"), Planted(60, STEPPED, 0.8)]
    # Five of thirteen others: what most cells of a night do is the night's, and no step of a cell.
    for place, cell in enumerate([cell for cell in cells if cell != STEPPED][:5]):
        planted += [Planted(25 + place, cell, 1.3), Planted(48 + place, cell, 0.7)]
    for night in range(1, NIGHTS + 1):
        own = source if night < NIGHTS else replace(source, cells=[*map(_failed, source.cells[:-2]), source.cells[-2]])
        Fleet(own, seed=1, planted=tuple(planted)).write(folder / "runs", night)
    for night in range(61, NIGHTS + 1):
        Fleet(source, seed=1).write(folder / "runs", night, machine=1)
    merging.add(folder / "history", [folder / "runs"], link=LINK)
    return drift.load(folder / "history", MATRICES)


def _failed(row: dict[str, Any]) -> dict[str, Any]:
    figures = ("latency", "map", "load_ms", "first_", "peak_", "import_ms")
    lost = {name: None for name in row if name.startswith(figures) and not isinstance(row[name], list)}
    return {**row, **lost, "status": "failed", "reason_code": "export_failed", "reason": "export_failed: planted"}


@pytest.fixture(scope="module")
def site(found: Drift, tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = pages.render(evidence.load([RECORDED / "coco128-640-cpu"], MATRICES), Trends(found))
    return write_pages(files, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def every(found: Drift) -> list[str]:
    """The list; a cell that stepped, one that never did, a machine; nights with a step, with losses, with neither."""
    places = list(dict.fromkeys(trend.series.place for trend in found.trends))
    machine = next(place for place in places if not place.cell)
    cell = next(trend.series.place for trend in found.trends if trend.series.place.cell == STEPPED and trend.moved)
    nights = sorted({night.day for night in found.nights})
    quiet = next(place for place in places if place.cell and place.machine != cell.machine)
    paths = [trend_path(place) for place in (cell, quiet, machine)]
    return ["trends.html", *paths, *(night_path(nights[number]) for number in (39, NIGHTS - 1, 2))]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_of_a_history_is_cut_or_covered_folded_and_unfolded(
    browser: Browser, site: Path, every: list[str], width: int, language: str, scheme: str
) -> None:
    watch = Watch(browser, site / language / "trends.html", width=width, scheme=scheme)
    found = {}
    for name in every:
        watch.page.goto((site / language / name).as_uri())
        found[name] = faults(watch.page)
        unfold(watch.page)
        found[name] += overlaps(watch.page)
        sideways = watch.page.evaluate("document.documentElement.scrollWidth")
        found[name] += [f"unfolded it is {sideways} px wide"] if sideways > width else []
    assert found == {name: [] for name in every}
    assert watch.complaints == []
    assert watch.outside() == []
    watch.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_axe_finds_no_serious_fault_in_a_history(
    browser: Browser, site: Path, every: list[str], language: str, scheme: str
) -> None:
    watch = Watch(browser, site / language / "trends.html", scheme=scheme)
    found = {}
    for name in every:
        watch.page.goto((site / language / name).as_uri())
        unfold(watch.page)
        found[name] = barriers(watch.page)
    assert found == {name: [] for name in every}
    watch.page.context.close()


def test_a_chart_says_its_figures_and_its_steps_lead_to_their_nights(
    browser: Browser, site: Path, every: list[str], found: Drift
) -> None:
    """On a phone too, where nothing hovers; seventy nights are told in no more columns than there are."""
    watch = Watch(browser, site / "en" / every[1], width=390)
    plot = watch.page.locator("#latency .plot")
    told = plot.locator("g title").all_text_contents()
    assert len(told) == COLUMNS < NIGHTS
    trend = next(one for one in found.trends if one.moved and one.series.place.cell == STEPPED)
    assert trend.series.metric == "latency"
    days = {night.run_id: night.day for night in found.nights}
    assert told[0].startswith(f"{days[trend.series.runs[0]]} \N{EN DASH} {days[trend.series.runs[1]]}: ")
    assert all(text.endswith("ms") for text in told)
    plot.locator("g rect").nth(5).click()
    assert watch.page.locator(".tip").text_content() == told[5]
    assert [days[one.after] for one in trend.moved] == ["2026-02-09", "2026-03-01"]
    steps = plot.get_by_role("link")
    labels = [one.get_attribute("aria-label") or "" for one in steps.all()]
    assert [label.partition(":")[0] for label in labels] == ["2026-02-09", "2026-03-01"]
    assert [label.split()[1][0] for label in labels] == ["+", MINUS]
    # A link is a point that is drawn with a wide pen, which `click` takes for nothing to be seen.
    place = steps.first.bounding_box()
    assert place is not None
    watch.page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    watch.page.wait_for_url("**/nights/2026-02-09.html")
    watch.page.context.close()


def test_what_never_changed_is_said_and_not_drawn(browser: Browser, site: Path, every: list[str]) -> None:
    page = Watch(browser, site / "en" / every[2]).page
    assert page.locator("#size-bytes .plot").count() == 0
    assert "in 10 runs since 2026-03-02" in page.locator("#still #size-bytes").inner_text()
    assert page.locator("#latency .plot").count() == 1
    page.context.close()


def test_the_newest_steps_are_seen_and_the_rest_is_a_tap_away(browser: Browser, site: Path) -> None:
    page = Watch(browser, site / "en" / "trends.html").page
    steps = page.locator("#moved .moved")
    assert steps.count() > UNFOLDED
    assert sum(one.is_visible() for one in steps.all()) == UNFOLDED
    page.locator("#moved > details > summary").click()
    assert all(one.is_visible() for one in steps.all())
    page.context.close()


def test_a_machine_s_cells_stand_with_their_newest_figures(browser: Browser, site: Path) -> None:
    page = Watch(browser, site / "en" / "trends.html").page
    page.locator("#machines details summary", has_text="Cells").first.click()
    row = page.locator("#machines tbody tr:visible", has_text=STEPPED)
    latency, score, size, steps = row.locator("td").all_inner_texts()
    assert latency.endswith("ms")
    assert size.endswith("MB")
    assert 0 < float(score) < 1
    assert steps == "2"
    page.context.close()


@pytest.mark.parametrize("name", ["trends.html", "night", "cell"])
def test_a_history_is_told_in_chinese(site: Path, every: list[str], name: str) -> None:
    path = {"trends.html": every[0], "cell": every[1], "night": every[5]}[name]
    seen = Visible()
    seen.feed((site / "zh" / path).read_text("utf-8"))
    assert [text for text, _ in seen.texts if ENGLISH.search(text)] == []
    if name == "night":
        assert any("失败" in text for text, _ in seen.texts)
