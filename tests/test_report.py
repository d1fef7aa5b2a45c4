"""The HTML report: what it says, that it is self-contained, and that it works in a browser and on paper."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from report_fixture import HOSTILE, IMAGES, write_images, write_run
from rich.cells import cell_len
from rich.console import Console

from bench import store
from bench.decide.deploy.candidates import fields
from bench.decide.timings import Own, own, timings
from bench.places import REPORTS
from bench.reasons import UsageError
from bench.report import build, highlights, outcomes, print_run, tables
from bench.report.page import vendored
from bench.store import reading as run
from bench.words.locale import texts

EN = texts("report", "en")

CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class TextOf(HTMLParser):
    """Visible text of a page and the addresses it refers to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self._silent = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent = tag in ("script", "style")
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "srcset", "action", "data", "poster"):
                self.addresses.append(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        assert tag not in ("img", "input"), "void elements have no end tag"
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def full_run(folder: Path) -> Path:
    return write_run(folder / "full", images_dir=write_images(folder / "images"))


@pytest.fixture(scope="module")
def full_report(full_run: Path, folder: Path) -> Path:
    return build(full_run, folder / "full.html")


@pytest.fixture(scope="module")
def full_page(full_report: Path) -> TextOf:
    return TextOf(full_report.read_text("utf-8"))


# What the report says


def asked(data: run.Run) -> tuple[highlights.Highlight, ...]:
    """The highlights of a run of one scope."""
    (field,) = fields(data)
    return highlights.highlights(data.measured, field, own(data, timings(data.samples)), EN)


def test_summary_names_the_fastest_that_keeps_accuracy_with_its_interval(full_run: Path) -> None:
    data = run.load(full_run)
    fastest, smallest, lightest = asked(data)
    openvino = next(cell for cell in data.measured if (cell.option, cell.precision) == ("openvino", "int8"))
    assert fastest.answer == "OpenVINO INT8"
    low, high = own(data, timings(data.samples)).ends(openvino)
    assert f"[{low:.2f},\N{NO-BREAK SPACE}{high:.2f}]" in fastest.evidence
    assert "over 12 launches" in fastest.evidence
    assert smallest.answer == "ONNX INT8"
    assert lightest.answer == "ONNX"


def test_beside_a_ratio_stands_the_cell_s_own_interval_and_the_reference_s_error_once(
    full_run: Path, full_page: TextOf
) -> None:
    data = run.load(full_run)
    errors = own(data, timings(data.samples))
    ((name, share),) = tables.references(data, errors)
    assert name == "PyTorch FP32"
    words = " ".join(full_page.words.split())
    assert words.count(f"PyTorch FP32 itself is known to {' '.join(share.split())}") == 1
    cell = next(cell for cell in data.measured if cell.option == "torchscript")
    low, high = errors.ends(cell)
    assert f"[{low:.2f}, {high:.2f}]" in words
    # The geometric mean leaves out PyTorch and the cell itself, so neither is in the other's interval.
    assert errors.cells.keys() == {cell.cell_id for cell in data.measured}


def test_with_too_few_others_the_interval_is_that_of_the_comparison_with_the_reference(tmp_path: Path) -> None:
    data = run.load(write_run(tmp_path / "run", options=("pytorch", "torchscript"), problems=False))
    errors = own(data, timings(data.samples))
    assert errors == Own({})
    cell = next(cell for cell in data.measured if cell.option == "torchscript")
    assert errors.ends(cell) == (cell.latency_ratio_low, cell.latency_ratio_high)
    page = TextOf(build(tmp_path / "run", tmp_path / "report.html").read_text("utf-8"))
    assert "itself is known to" not in page.words
    assert "95 % interval" in page.words


def test_an_interval_that_reaches_past_the_tolerance_bars_the_fastest(full_run: Path, tmp_path: Path) -> None:
    frame = store.read_table(full_run, "cells")
    fast = frame["cell_id"].str.contains("openvino-int8")
    frame.loc[fast, ["map_delta", "map_delta_low", "map_delta_high"]] = [-0.0064, -0.0201, -0.0027]
    fastest = asked(_rewritten(full_run, tmp_path, frame))[0]
    assert fastest.answer in ("OpenVINO FP32", "OpenVINO FP16")
    assert "not told apart from it, compared round by round" in fastest.caveat
    assert "OpenVINO INT8 is faster" in fastest.caveat
    assert "reaches past 0.02" in fastest.caveat


def test_speed_up_whose_interval_holds_one_is_not_called_a_speed_up(full_run: Path, tmp_path: Path) -> None:
    frame = store.read_table(full_run, "cells")
    frame = frame[frame["option"].isin(["pytorch", "torchscript"])]
    frame.loc[frame["option"] == "torchscript", ["latency_ratio_low", "latency_ratio_high"]] = [0.99, 1.1]
    fastest = asked(_rewritten(full_run, tmp_path, frame))[0]
    assert "not told apart from PyTorch FP32" in fastest.caveat


def test_pareto_front_keeps_only_what_nothing_dominates() -> None:
    points = [(1.0, 0.5), (2.0, 0.5), (3.0, 0.4), (2.5, 0.39), (3.0, 0.4)]
    assert highlights.pareto(points) == {1, 2, 4}


def test_relative_latency_divides_by_the_reference_of_the_same_round(full_run: Path) -> None:
    data = run.load(full_run)
    cell = next(cell for cell in data.measured if cell.option == "torchscript")
    reference = next(cell for cell in data.measured if cell.is_reference)
    samples = data.samples[~data.samples["contaminated"]]
    expected = []
    for turn in sorted(samples["round"].unique()):
        here = samples[samples["round"] == turn]
        median = np.median(here.loc[here["cell_id"] == reference.cell_id, "latency_ms"])
        expected.extend(here.loc[here["cell_id"] == cell.cell_id, "latency_ms"] / median)
    np.testing.assert_allclose(tables.relative_latency(data)[cell.cell_id], expected)
    assert 7 not in samples["round"].unique(), "the disturbed round must be left out"


def test_round_without_a_clean_reference_contributes_nothing(full_run: Path, tmp_path: Path) -> None:
    frame = store.read_table(full_run, "samples")
    reference = frame["cell_id"].str.contains("/pytorch-fp32")
    frame.loc[reference & (frame["round"] < 20), "contaminated"] = True
    data = _rewritten(full_run, tmp_path, frame, "samples")
    cell = next(cell for cell in data.measured if cell.option == "torchscript")
    assert tables.relative_latency(data)[cell.cell_id].size == 4 * 6


def test_every_cell_is_on_the_page_with_its_reason(full_page: TextOf, full_run: Path) -> None:
    for cell in run.load(full_run).cells:
        assert cell.reproduce in full_page.words
        assert " ".join(cell.reason.split()) in full_page.words
    assert "This machine has no such device" in full_page.words


def test_equal_causes_are_grouped_and_invalid_shows_asked_and_ran(full_run: Path) -> None:
    problems = outcomes.problems(run.load(full_run), outcomes.words("en"))
    groups = {(group.status, group.code): group for group in problems}
    assert len(groups["skipped", "target_absent"].problems) == 1
    assert groups["skipped", "target_absent"].count == 3
    assert groups["invalid", "attestation_mismatch"].problems[0].asked == (("compute", "f32", "bf16"),)


def test_numbers_of_an_invalid_cell_are_shown_nowhere(full_report: Path, full_run: Path) -> None:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as capture:
        print_run(full_run, console)
    for text in (TextOf(full_report.read_text("utf-8")).words, capture.get()):
        assert "9.87" not in text
        assert "0.987" not in text


def test_page_does_not_hold_the_images_folder(full_report: Path, folder: Path) -> None:
    assert str(folder) not in full_report.read_text("utf-8")


def test_cells_of_two_image_sizes_are_not_ranked_together(full_run: Path, tmp_path: Path) -> None:
    frame = store.read_table(full_run, "cells")
    larger = frame.assign(imgsz=640, cell_id=frame["cell_id"].str.replace("-320-", "-640-"))
    data = _rewritten(full_run, tmp_path, pd.concat([frame, larger], ignore_index=True))
    assert [point[1] for point in data.points()] == [320, 640]
    assert len(set(data.labels.values())) == len(data.cells)
    page = TextOf(build(tmp_path / "run", tmp_path / "two.html").read_text("utf-8"))
    assert page.words.count("What to deploy, with at most 0.01 mAP50-95 lost") == 2


def test_second_model_gets_a_column(full_run: Path, tmp_path: Path) -> None:
    frame = store.read_table(full_run, "cells")
    other = frame.assign(model="other", cell_id=frame["cell_id"].str.replace("demo/", "other/"))
    data = _rewritten(full_run, tmp_path, pd.concat([frame, other], ignore_index=True))
    assert "Model" in [column.title for column in tables.comparison(data, Own({}), EN).columns]


# What it must cope with


def test_run_without_any_cell(tmp_path: Path) -> None:
    for name in ("cells", "environment"):
        store.write_table(tmp_path / "run", name, [])
    page = TextOf(build(tmp_path / "run", tmp_path / "report.html").read_text("utf-8"))
    assert "The run has no cells at all" in page.words


def test_run_that_measured_nothing(full_run: Path, tmp_path: Path) -> None:
    frame = store.read_table(full_run, "cells")
    frame = frame[frame["status"] != "measured"]
    _rewritten(full_run, tmp_path, frame)
    page = TextOf(build(tmp_path / "run", tmp_path / "report.html").read_text("utf-8"))
    assert "No cell of this run was measured" in page.words
    assert "killed by SIGSEGV" in page.words


def test_reference_alone_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    data = write_run(tmp_path / "run", options=("pytorch",), problems=False)
    page = TextOf(build(data, tmp_path / "report.html").read_text("utf-8"))
    assert "there is nothing to compare with yet" in page.words
    assert "Every cell was measured" in page.words


@pytest.mark.parametrize("deltas", [True, False])
def test_missing_figures_are_said_to_be_missing(tmp_path: Path, deltas: bool) -> None:
    data = write_run(tmp_path / "run", deltas=deltas, intervals=False)
    page = TextOf(build(data, tmp_path / "report.html").read_text("utf-8"))
    assert ("its loss may reach is not known" if deltas else "its accuracy was not compared") in page.words
    assert "nan" not in page.words.lower().split()
    assert "None" not in page.words.split()


def test_no_reference_means_no_ranking_and_no_invention(tmp_path: Path) -> None:
    data = write_run(tmp_path / "source", options=("onnx", "openvino"), problems=False, intervals=False)
    frame = store.read_table(data, "cells")
    frame[["latency_ratio", "map_delta"]] = np.nan
    _rewritten(data, tmp_path, frame)
    page = TextOf(build(tmp_path / "run", tmp_path / "report.html").read_text("utf-8"))
    assert "Fastest within" not in page.words
    assert "No clean round holds both a cell and PyTorch FP32" in page.words


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    data = write_run(tmp_path / "run", hostile=True, images_dir=write_images(tmp_path / "images"))
    html = build(data, tmp_path / "report.html").read_text("utf-8")
    page = TextOf(html)
    assert HOSTILE in page.words
    assert "img" not in page.tags
    assert page.handlers == []
    assert page.tags.count("script") == len(vendored("script")) + 1
    assert "\x1b" not in html
    assert "\u202e" not in html


def test_damaged_run_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "run", problems=False)
    (tmp_path / "run" / "cells.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(store.StoreError, match=r"cells\.parquet"):
        build(tmp_path / "run", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_unwritable_place_is_named_and_leaves_no_litter(full_run: Path, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UsageError, match=r"cannot write the report to .*report\.html"):
        build(full_run, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# The picture


def test_picture_is_embedded_and_its_boxes_are_drawn(full_report: Path) -> None:
    html = full_report.read_text("utf-8")
    assert html.count("data:image/jpeg;base64,") == 1
    assert html.count('<use href="#photo"/>') == 9
    assert "scene-006.png holds 9 labelled objects" in TextOf(html).words


def test_missing_picture_is_replaced_by_a_canvas_and_said(full_run: Path, tmp_path: Path) -> None:
    page = TextOf(build(full_run, tmp_path / "report.html", image=tmp_path / "gone.png").read_text("utf-8"))
    assert "drawn on a plain canvas" in page.words
    assert page.words.count("the same as PyTorch FP32") >= 3


def test_given_picture_chooses_the_image(full_run: Path, folder: Path, tmp_path: Path) -> None:
    given = folder / "images" / "scene-003.png"
    page = TextOf(build(full_run, tmp_path / "report.html", image=given).read_text("utf-8"))
    assert "scene-003.png holds 6 labelled objects" in page.words


def test_picture_of_another_set_is_refused(full_run: Path, folder: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.png"
    stranger.write_bytes((folder / "images" / "scene-003.png").read_bytes())
    with pytest.raises(UsageError, match="no image of that name"):
        build(full_run, tmp_path / "report.html", image=stranger)


def test_image_with_most_objects_is_chosen_when_none_is_named(full_run: Path, tmp_path: Path) -> None:
    frame = store.read_table(full_run, "environment")
    _rewritten(full_run, tmp_path, frame[frame["key"] != "report_image_id"], "environment")
    truth = store.read_table(full_run, "ground_truth").groupby("image_id")["objects"].sum()
    page = TextOf(build(tmp_path / "run", tmp_path / "report.html").read_text("utf-8"))
    assert f"scene-{truth.idxmax():03d}.png holds {truth.max()} labelled objects" in page.words
    assert len(truth) == IMAGES


# Self-contained, repeatable, small


def test_nothing_refers_outside_the_file(full_page: TextOf) -> None:
    assert {address[:5] for address in full_page.addresses if not address.startswith("#")} == {"data:"}
    assert full_page.handlers == []


def test_report_is_small_and_the_same_every_time(full_run: Path, full_report: Path, tmp_path: Path) -> None:
    again = build(full_run, tmp_path / "again.html")
    assert again.read_bytes() == full_report.read_bytes()
    assert full_report.stat().st_size < 1_200_000


def test_vendored_files_are_the_published_ones() -> None:
    folder = REPORTS / "vendor"
    entries = tomllib.loads((folder / "vendor.toml").read_text("utf-8"))["file"]
    for entry in entries:
        assert hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest() == entry["sha256"], entry["path"]
        assert (
            entry["version"] in (folder / entry["path"]).read_text("utf-8")[:400]
            or entry["kind"] == "style"
            or (entry["package"] == "datatables.net-dt")
        )
        assert entry["licence"] == "MIT"
        assert "Permission is hereby granted" in (folder / entry["licence_file"]).read_text("utf-8")
    named = {entry["path"] for entry in entries} | {entry["licence_file"] for entry in entries} | {"vendor.toml"}
    assert {path.name for path in folder.iterdir()} == named


def test_changed_vendored_file_stops_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(REPORTS, tmp_path / "reports")
    script = tmp_path / "reports" / "vendor" / "jquery.slim.min.js"
    script.write_text(script.read_text("utf-8") + " ", "utf-8")
    monkeypatch.setattr("bench.report.page.REPORTS", tmp_path / "reports")
    with pytest.raises(UsageError, match=r"jquery\.slim\.min\.js is not jquery 4\.0\.0"):
        vendored("script")


# The terminal


@pytest.mark.parametrize("width", [200, 120, 80, 60, 30])
def test_terminal_table_fits_and_breaks_no_number(full_run: Path, width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        print_run(full_run, console)
    text = capture.get()
    assert max(cell_len(line) for line in text.splitlines()) <= width
    ratio = next(cell for cell in run.load(full_run).measured if cell.option == "torchscript").latency_ratio
    assert re.search(rf"{ratio:.2f} \[\d\.\d\d,\s\d\.\d\d\]", text)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "target_absent" in text
    assert re.sub(r"\s+", "", "nvidia-smi was not found") in re.sub(r"\s+", "", text)


def test_terminal_shows_hostile_text_without_its_control_characters(tmp_path: Path) -> None:
    data = write_run(tmp_path / "run", hostile=True)
    console = Console(width=160, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        print_run(data, console)
    text = capture.get()
    assert "<script>window.hacked=1</script>" in text
    assert not re.findall(r"\x1b\[31m|\u202e", text)


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        program = next((path for name in names if (path := shutil.which(name))), None)
        if program is None and not Path(playwright.chromium.executable_path).exists():
            text = "no Chromium on PATH and none installed by playwright"
            if os.environ.get("BENCH_REQUIRE_BROWSER"):
                pytest.fail(f"{text}; BENCH_REQUIRE_BROWSER is set")
            pytest.skip(text)
        started = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS)
        yield started
        started.close()


class Watch:
    """A page that lets no request out and keeps what it complains about."""

    def __init__(self, browser: Browser, report: Path, *, width: int = 1280, scheme: str = "light") -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.refused: list[tuple[str, str | None]] = []
        self.page.on("requestfailed", lambda request: self.refused.append((request.url, request.failure)))
        context.route(re.compile("^(?!file:|data:)"), lambda route: route.abort())
        self.page.goto(report.as_uri())

    def column(self, number: int) -> list[str]:
        return self.page.locator(f"#comparison-table tbody tr > :nth-child({number})").all_inner_texts()

    def outside(self) -> list[str]:
        return [url for url in self.requests if not url.startswith(("file:", "data:"))]


@pytest.fixture(scope="module")
def watch(browser: Browser, full_report: Path) -> Watch:
    return Watch(browser, full_report)


def test_page_loads_nothing_and_complains_of_nothing(watch: Watch) -> None:
    assert watch.complaints == []
    assert watch.outside() == []
    assert len([url for url in watch.requests if url.startswith("file:")]) == 1


def test_header_sorts_by_number(watch: Watch) -> None:
    watch.page.locator("#comparison .folds").get_by_label("Packages").check()
    titles = watch.page.locator("#comparison-table thead tr:last-child th abbr").all_inner_texts()
    place = titles.index("Packages") + 1
    header = watch.page.locator("#comparison-table thead tr:last-child th").nth(place - 1)
    for direction, name in ((1, "ascending"), (-1, "descending")):
        header.click()
        watch.page.locator(f'#comparison-table th[aria-sort="{name}"]').wait_for()
        values = [float(text.replace("\N{NARROW NO-BREAK SPACE}", "")) for text in watch.column(place)]
        # As text, 1 012 would come before 155.
        assert values == sorted(values, reverse=direction == -1)
        assert {155.0, 1012.0} <= set(values)
    watch.page.get_by_role("button", name="Reset").first.click()


def test_filters_narrow_the_rows_and_reset_brings_them_back(watch: Watch) -> None:
    page = watch.page
    bar = page.locator('[data-controls="comparison-table"]')
    bar.get_by_label("Option").select_option("ONNX")
    assert [text.strip() for text in watch.column(1)] == ["ONNX"] * 3
    bar.get_by_label("Precision").select_option("INT8")
    assert len(watch.column(1)) == 1
    assert bar.locator(".shown").inner_text() == "1 of 9 rows"
    bar.get_by_role("button", name="Reset").click()
    assert len(watch.column(1)) == 9
    bar.get_by_label("Search").fill("bf16")
    assert [text.strip() for text in watch.column(1)] == ["OpenVINO"]
    bar.get_by_role("button", name="Reset").click()


def test_grid_filters_by_status(watch: Watch) -> None:
    page = watch.page
    page.locator("#cells > details > summary").click()
    page.locator('[data-controls="grid-table"]').get_by_label("Status").select_option("skipped")
    assert page.locator("#grid-table tbody tr").count() == 4
    page.locator('[data-controls="grid-table"]').get_by_role("button", name="Reset").click()


def test_paper_shows_all_rows_and_no_controls(watch: Watch) -> None:
    page = watch.page
    page.locator('[data-controls="comparison-table"]').get_by_label("Option").select_option("PyTorch")
    assert len(watch.column(1)) == 1
    page.emulate_media(media="print")
    expect(page.locator("#comparison-table tbody tr")).to_have_count(9)
    assert not page.locator(".controls").first.is_visible()
    assert not page.locator("#scheme").is_visible()
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="screen")
    expect(page.locator("#comparison-table tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Reset").first.click()


def test_schemes_differ_and_the_button_switches(browser: Browser, full_report: Path) -> None:
    def background(watch: Watch) -> str:
        return str(watch.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = Watch(browser, full_report), Watch(browser, full_report, scheme="dark")
    bright, dim = background(light), background(dark)
    assert bright != dim
    light.page.locator("#scheme").click()
    assert background(light) == dim
    fill = "getComputedStyle(document.querySelector('.figure .f-ink')).fill"
    assert light.page.evaluate(fill) == dark.page.evaluate(fill)


def test_phone_names_each_figure_and_draws_the_narrow_figure(browser: Browser, full_report: Path) -> None:
    page = Watch(browser, full_report, width=390).page
    first = page.locator("#comparison-table tbody tr").first
    label = first.locator("td:visible").last.evaluate("cell => getComputedStyle(cell, '::before').content")
    assert "Peak RSS" in label
    assert page.locator("#tradeoff .narrow svg").is_visible()
    assert not page.locator("#tradeoff .wide svg").is_visible()


def test_page_reads_without_scripts(browser: Browser, full_report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(full_report.as_uri())
    assert page.locator("#comparison-table tbody tr").count() == 9
    assert not page.locator(".controls").first.is_visible()
    assert not page.locator("#scheme").is_visible()


def test_hostile_text_does_not_run(browser: Browser, tmp_path: Path) -> None:
    data = write_run(tmp_path / "run", hostile=True, images_dir=write_images(tmp_path / "images"))
    watch = Watch(browser, build(data, tmp_path / "report.html"))
    watch.page.locator("#cells > details > summary").click()
    watch.page.locator('[data-controls="grid-table"]').get_by_label("Search").fill("<img")
    assert watch.page.evaluate("window.hacked") is None
    assert watch.complaints == []
    assert watch.outside() == []
    assert watch.page.locator("#grid-table tbody tr").count() == 15
    watch.page.set_viewport_size({"width": 390, "height": 800})
    assert watch.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_policy_stops_what_would_slip_through(browser: Browser, full_report: Path, tmp_path: Path) -> None:
    """The policy itself, tried: a script and a request put into the file by hand are refused."""
    html = full_report.read_text("utf-8")
    bad = '<script>window.hacked = 1</script><img src="https://example.invalid/x.png">'
    (tmp_path / "bad.html").write_text(html.replace("</main>", f"{bad}</main>"), "utf-8")
    watch = Watch(browser, tmp_path / "bad.html")
    assert watch.page.evaluate("window.hacked") is None
    # The browser reports the attempt; the policy, not this test's route, must be what ends it.
    assert watch.refused == [("https://example.invalid/x.png", "csp")]
    assert len([text for text in watch.complaints if "Content Security Policy" in text]) == 2


def _rewritten(source: Path, tmp_path: Path, frame: pd.DataFrame, table: str = "cells") -> run.Run:
    """A copy of a run with one table replaced."""
    target = tmp_path / "run"
    shutil.copytree(source, target)
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    store.write_table(target, table, records)
    return run.load(target)
