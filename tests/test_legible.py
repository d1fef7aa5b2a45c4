"""The report is legible: on a phone, a tablet and a notebook, light, dark and on paper, whoever reads it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import test_report
from legible import WIDTHS, barriers, faults, overlaps, unfold
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from playwright.sync_api import Browser, expect
from report_fixture import write_images, write_run
from test_report import Watch

from bench.grid import matrix
from bench.places import RECORDED
from bench.report import build, labels, marks, svg
from bench.report.marks import Mark

browser = test_report.browser  # the fixture: one Chromium for the tests of this file


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small run with a photograph and every kind of problem."""
    folder = tmp_path_factory.mktemp("small")
    return build(write_run(folder / "run", images_dir=write_images(folder / "images")), folder / "report.html")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the recorded run with most options: 46 measured cells of 17 options."""
    return build(RECORDED / "coco128-640-guide", tmp_path_factory.mktemp("large") / "report.html")


@pytest.fixture(scope="module")
def chinese(small: Path) -> dict[str, Path]:
    """The Chinese reports of both runs."""
    runs = {"small": small.parent / "run", "large": RECORDED / "coco128-640-guide"}
    return {name: build(run, small.parent / f"{name}.zh.html", language="zh") for name, run in runs.items()}


# Marks


def test_no_two_options_share_colour_and_shape_and_the_reference_is_neutral() -> None:
    options = matrix.load().options
    found = marks.marks([*options, "from-outside"])
    assert len(set(found.values())) == len(found) == len(options) + 1 >= 18
    assert [name for name, mark in found.items() if mark.colour == 0] == [matrix.REFERENCE_OPTION]
    others = list(found.values())[1:]
    for one, other in pairwise(others):
        assert one.colour != other.colour
        assert one.shape != other.shape


def test_marks_are_the_same_whatever_a_run_holds() -> None:
    assert marks.marks(["ncnn", "mine"])["ncnn"] == marks.marks(["onnx"])["ncnn"]
    assert marks.marks(["mine"])["mine"] not in marks.marks([]).values()


def test_a_palette_of_a_page_has_every_colour(small: Path) -> None:
    html = small.read_text("utf-8")
    for index in range(svg.PALETTE_SIZE):
        assert f"--c{index}: light-dark(#" in html
        assert f".f-c{index} {{ fill: var(--c{index}); }}" in html
    assert all(f'<symbol id="mark-{shape}"' in html for shape in marks.SHAPES)


def test_a_symbol_is_the_marker_of_the_figures() -> None:
    square = marks.symbols()["square"]
    corners = {tuple(map(float, part.split())) for part in square.strip("MZ").split("L")}
    assert corners == {(-4, -4), (4, -4), (4, 4), (-4, 4)}
    assert marks.symbols()["triangle"].startswith("M0.00 -4.00"), "the tip points up, and y of a page down"
    assert Mark(1, "star").shape in marks.SHAPES


# Labels


def test_a_segment_meets_a_box_that_it_enters_and_no_other() -> None:
    box = np.array([0.0, 0.0, 4.0, 2.0])
    through, inside, beside, past_corner = (
        [[-1.0, 1.0], [5.0, 1.0]],
        [[1.0, 1.0], [2.0, 1.5]],
        [[5.0, 0.0], [5.0, 2.0]],
        [[3.5, 3.0], [6.0, 0.5]],  # its own box meets the other's
    )
    found = labels.crossed(np.array([through, inside, beside, past_corner]), box)
    assert found.tolist() == [True, True, False, False]


def test_words_at_the_end_of_a_line_go_where_nothing_crosses_them() -> None:
    figure = Figure(figsize=(6, 4))
    FigureCanvasAgg(figure)
    for crossing, align in (([0.95, 0.95], "left"), ([0.5, 0.5], "right")):
        axes = figure.add_subplot()
        words = axes.annotate(
            "a tenth below", (1, 0.5), xycoords=("axes fraction", "data"), xytext=(-2, -3),
            textcoords="offset points", ha="right", va="top",
        )  # fmt: skip
        upright = np.array([crossing, [0.0, 1.0]]).T
        labels.place(axes, [labels.Named(0.5, 0.9, 3, "mark")], [upright], 9, words=[words])
        assert words.get_horizontalalignment() == align
        axes.remove()


# In a browser


def require_legible(watch: Watch, width: int) -> None:
    """Nothing is cut or covered, folded and unfolded, nothing lies beside the page, and it complains of nothing."""
    assert faults(watch.page) == []
    unfold(watch.page)
    assert overlaps(watch.page) == []
    assert watch.page.evaluate("document.documentElement.scrollWidth") <= width
    assert watch.complaints == []
    watch.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_of_a_small_report_is_cut_or_covered_folded_and_unfolded(
    browser: Browser, small: Path, width: int, scheme: str
) -> None:
    require_legible(Watch(browser, small, width=width, scheme=scheme), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_of_seventeen_options_is_no_longer_than_a_reader_scrolls(
    browser: Browser, large: Path, width: int
) -> None:
    watch = Watch(browser, large, width=width)
    assert watch.page.locator("#comparison-table tbody tr").count() == 46
    assert faults(watch.page) == []
    watch.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["small", "large"])
def test_the_chinese_reports_are_as_legible(
    browser: Browser, chinese: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    require_legible(Watch(browser, chinese[name], width=width, scheme=scheme), width)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["small", "large"])
def test_axe_finds_no_serious_fault_in_a_chinese_report(
    browser: Browser, chinese: dict[str, Path], name: str, scheme: str
) -> None:
    watch = Watch(browser, chinese[name], scheme=scheme)
    unfold(watch.page)
    assert barriers(watch.page) == []
    watch.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_in_a_report(browser: Browser, small: Path, scheme: str) -> None:
    watch = Watch(browser, small, scheme=scheme)
    unfold(watch.page)
    assert barriers(watch.page) == []
    watch.page.context.close()


def test_columns_unfold_by_group_and_stay_so_under_a_filter(browser: Browser, small: Path) -> None:
    page = Watch(browser, small, width=1400).page
    packages = page.locator("#comparison-table thead abbr", has_text="Packages")
    assert not packages.is_visible()
    page.locator("#comparison .folds").get_by_label("Packages").check()
    assert packages.is_visible()
    bar = page.locator('[data-controls="comparison-table"]')
    bar.get_by_label("Option").select_option("ONNX")
    bar.get_by_role("button", name="Reset").click()
    shown = page.locator("#comparison-table tbody tr").first.locator("td:visible")
    titles = page.locator("#comparison-table thead tr:last-child th:visible")
    assert titles.count() == shown.count() + 1
    page.context.close()


def test_a_link_opens_what_it_leads_to(browser: Browser, small: Path) -> None:
    page = Watch(browser, small).page
    assert not page.locator("#latency-table").is_visible()
    page.locator('nav a[href="#latency"]').click()
    expect(page.locator("#latency-table")).to_be_visible()
    page.goto(f"{small.as_uri()}#attestation")
    page.reload()
    expect(page.locator("#attestation-table")).to_be_visible()
    page.context.close()


def test_words_nobody_knows_are_explained_where_they_stand_and_by_a_tap(browser: Browser, large: Path) -> None:
    page = Watch(browser, large, width=390).page
    for word in ("int8-s8", "low", "dynamic", "int8-full", "uint8"):
        told = page.locator("#comparison-table tbody abbr", has_text=word).first
        assert len(told.get_attribute("title") or "") > 20, word
    first = page.locator("#comparison-table tbody abbr").first
    first.click()
    expect(page.locator(".tip")).to_have_text(first.get_attribute("title") or "")
    page.locator("h1").click()
    expect(page.locator(".tip")).to_be_hidden()
    page.context.close()


def test_a_mark_says_its_figures(browser: Browser, small: Path) -> None:
    page = Watch(browser, small).page
    told = page.locator("#tradeoff .wide .figure title").all_text_contents()
    assert len(told) == 9
    assert all("mAP50-95" in text and "MB" in text for text in told)
    page.context.close()


def test_paper_has_no_wider_table_than_itself(browser: Browser, large: Path) -> None:
    # A4 on its side between its margins: 273 mm at 96 px an inch.
    page = Watch(browser, large, width=1031).page
    page.emulate_media(media="print")
    cut = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth + 1)"
        ".map((one) => one.getAttribute('aria-label'))"
    )
    assert cut == []
    page.context.close()
