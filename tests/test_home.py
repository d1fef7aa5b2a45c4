"""The first page: one answer for each place, the same as the command's and the report's, and fit to be looked at."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import test_report
from legible import WIDTHS, barriers, faults, overlaps
from playwright.sync_api import Browser, Page, expect
from report_fixture import write_pages
from test_report import Watch
from typer.testing import CliRunner

from bench.cli import app as cli
from bench.decide.timings import own, timings
from bench.places import MATRICES, REPORTS, ROOT
from bench.report import build, highlights
from bench.site import evidence, home, pages
from bench.site.home import Decided
from bench.store import reading
from bench.words import locale
from bench.words.locale import LANGUAGES, texts

REFERENCE = ROOT / "results" / "reference"
EVERY = sorted(path for path in REFERENCE.iterdir() if (path / "cells.parquet").is_file())
RUNS = [REFERENCE / name for name in ("coco128-640-cpu", "coco128-320-arm-emulated")]

browser = test_report.browser  # the fixture: one Chromium for the tests of this file


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pages(pages.render(evidence.load(RUNS, MATRICES)), tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def places() -> tuple[Decided, ...]:
    return home.decide([reading.load(RUNS[0])])


def test_home_command_and_report_recommend_the_same_and_lose_at_most_a_point(places: tuple[Decided, ...]) -> None:
    run = places[0].run
    for one in places:
        best = one.found.choices[0].candidate
        loss = best.figures["loss"]
        assert loss is not None
        assert loss.value <= 0.01
        names = ("--model", "--imgsz", "--batch", "--target", "--threads")
        options = [text for pair in zip(names, map(str, one.field.point), strict=True) for text in pair]
        said = CliRunner().invoke(cli.app, ["recommend", str(RUNS[0]), "--format", "json", *options])
        assert json.loads(said.output)["choices"][0]["cell_id"] == best.cell_id
        cells = [cell for cell in run.measured if cell.point == one.field.point]
        first = highlights.highlights(cells, one.field, own(run, timings(run.samples)), texts("report", "en"))[0]
        assert first.answer == best.name


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.name)
def test_pages_of_every_recorded_run_say_what_the_command_says(path: Path, tmp_path: Path) -> None:
    """As a reader has them: the headings of the home page, the first cards of the report, the choice of rank 1."""
    run, t = reading.load(path), texts("report", "en")
    decided = {one.field.point: one for one in home.decide([run]) if not one.field.several}
    site = pages.render(evidence.load([path], MATRICES))["en/index.html"]
    report = build(path, tmp_path / "report.html").read_text("utf-8")
    cards = re.findall(r'<h4>(.*?)</h4>.*?<p class="answer">(.*?)</p>', report, re.DOTALL)
    question = t("highlight.deploy", loss=highlights.TOLERANCE)
    said: dict[str, list[str]] = {"command": [], "home": []}
    for point in (one for one in run.points() if one in decided):
        names = ("--model", "--imgsz", "--batch", "--target", "--threads")
        options = [text for pair in zip(names, map(str, point), strict=True) for text in pair]
        asked = json.loads(CliRunner().invoke(cli.app, ["recommend", str(path), "--format", "json", *options]).output)
        first = asked["choices"][0]
        assert first["rank"] == 1
        assert first["figures"]["loss"]["value"] <= 0.01
        said["command"].append(first["name"])
        section = site.partition(f'id="{decided[point].key}"')[2]
        said["home"].append(
            re.sub(r"<[^>]+>", "", section.partition("<h2>")[2].partition("</h2>")[0]).split(maxsplit=1)[1]
        )
    assert said["home"] == said["command"]
    assert [answer for asked, answer in cards if html.unescape(asked) == question] == [
        name.partition(" (")[0] for name in said["command"]
    ]
    assert bool(decided) == (path.name != "coco128-320-arm-emulated"), "nothing was timed there"


def test_a_place_where_nothing_was_timed_gets_no_answer() -> None:
    assert home.decide([reading.load(RUNS[1])]) == ()


def test_what_others_printed_is_marked_and_recommends_nothing(site: Path) -> None:
    text = (site / "en" / "index.html").read_text("utf-8")
    printed = [part for part in text.split("<section ")[1:] if part.startswith('class="decision printed"')]
    assert any("Jetson" in part for part in printed)
    assert any("Raspberry" in part for part in printed)
    assert all("Nothing is recommended from it" in part for part in printed)
    assert not any("yolo export" in part for part in printed)


def test_exports_are_written_as_ultralytics_takes_them(places: tuple[Decided, ...]) -> None:
    grid = evidence.load(RUNS[:1], MATRICES).grid
    by_name = {(one.option, one.precision): one for place in places for one in place.field.candidates}
    written = {key: home.export_command(grid, one, "yolo11n", 640) for key, one in by_name.items()}
    assert written["openvino", "int8"] == "yolo export model=yolo11n.pt format=openvino imgsz=640 int8=True"
    assert written["openvino", "fp16"].endswith("format=openvino imgsz=640 half=True")
    assert written["pytorch", "fp32"] == "", "a checkpoint is not exported"
    (unknown,) = {key: text for key, text in written.items() if key == ("openvino", "bf16")}.values()
    assert unknown.endswith("format=openvino imgsz=640"), "the FP32 artifact, computed otherwise"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_newcomer_sees_the_decision_without_scrolling_after_one_choice(
    browser: Browser, site: Path, language: str
) -> None:
    watch = Watch(browser, site / language / "index.html")
    page = watch.page
    page.set_viewport_size({"width": 1400, "height": 900})
    shown = page.locator(".decision:visible")
    expect(shown).to_have_count(1)
    for part in (".answer-card", ".chart", ".answer-card .command >> nth=0"):
        box = shown.locator(part).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900, part
    words = locale.load(REPORTS / "locale" / "site")[language]
    place = page.get_by_label(words("home.target"))
    jetson = place.locator("option", has_text="Jetson Orin NX").first.inner_text()
    place.select_option(jetson)
    expect(shown).to_contain_text(words("home.not_ours"))
    assert "#" in page.url
    page.reload()
    expect(page.locator(".decision:visible")).to_contain_text(words("home.not_ours"))
    assert watch.complaints == []
    assert watch.outside() == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of every recorded run."""
    return write_pages(pages.render(evidence.load(EVERY, MATRICES)), tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_measured_place_is_two_choices_away_with_its_answer_command_and_chart_in_sight(
    browser: Browser, whole: Path, language: str
) -> None:
    """Of one model and of several, and for those that nobody exports: there the command is the one to measure again."""
    watch = Watch(browser, whole / language / "index.html")
    page, words = watch.page, locale.load(REPORTS / "locale" / "site")[language]
    page.set_viewport_size({"width": 1400, "height": 900})
    place, model = (page.get_by_role("combobox", name=words(f"home.{one}")) for one in ("target", "model"))
    measured = place.locator("optgroup").first.locator("option").all_inner_texts()
    assert len(measured) >= 3
    unseen, looked_at = [], 0
    for where in measured:
        place.select_option(where)
        for which in model.locator("option").all_inner_texts():
            model.select_option(which)
            shown = page.locator(".decision:visible")
            expect(shown).to_have_count(1)
            assert page.evaluate("window.scrollY") == 0
            looked_at += 1
            parts = (
                ("h2", "dl.quick", ".chart", ".command >> nth=0")
                if shown.locator("dl.quick div").count()
                else ("h2", ".chart")
            )
            for part in parts:
                box = shown.locator(part).first.bounding_box()
                assert box is not None, part
                if box["y"] + box["height"] > 900:
                    unseen.append((where, which, part, round(box["y"] + box["height"])))
    assert unseen == []
    assert looked_at > len(measured)
    assert watch.complaints == []
    page.context.close()


def pages_of(site: Path, language: str) -> list[Path]:
    """Every page of a language, and the one that asks for it."""
    return [site / "index.html", *sorted((site / language).rglob("*.html"))]


def seen(page: Page, paths: Sequence[Path], look: Callable[[Page], list[str]]) -> dict[Path, list[str]]:
    """What is wrong with each of some pages."""
    found = {}
    for path in paths:
        page.goto(path.as_uri())
        found[path] = look(page)
    return found


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off_and_no_text_lies_on_another(
    browser: Browser, site: Path, width: int, language: str
) -> None:
    def in_both_schemes(page: Page) -> list[str]:
        said = faults(page)
        page.emulate_media(color_scheme="dark")
        said += overlaps(page)
        page.emulate_media(color_scheme="light")
        return said

    watch = Watch(browser, site / language / "index.html", width=width)
    found = seen(watch.page, pages_of(site, language), in_both_schemes)
    assert len(found) > 20
    assert {path: said for path, said in found.items() if said} == {}
    assert watch.complaints == []
    watch.page.context.close()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_of_every_recorded_run_together_are_as_legible(
    browser: Browser, whole: Path, width: int, language: str
) -> None:
    """Those that grow with the runs: of seventeen options on three machines, and each place that one may choose."""
    watch = Watch(browser, whole / language / "index.html", width=width)
    names = ("index", "guide", "measurements", "recommend", "options/openvino", "options/onnx")
    found = seen(watch.page, [whole / language / f"{name}.html" for name in names], faults)
    assert {path: said for path, said in found.items() if said} == {}
    assert watch.complaints == []
    watch.page.context.close()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser: Browser, site: Path, scheme: str, language: str) -> None:
    watch = Watch(browser, site / language / "index.html", scheme=scheme)
    found = seen(watch.page, pages_of(site, language), barriers)
    assert len(found) > 20
    assert {path: said for path, said in found.items() if said} == {}
    watch.page.context.close()


def test_names_carry_the_marks_of_the_chart(browser: Browser, site: Path) -> None:
    page = Watch(browser, site / "en" / "index.html").page
    marks = page.locator(".decision.chosen .choices th .mark")
    assert marks.count() == page.locator(".decision.chosen .choices tbody tr").count()
    pairs = marks.evaluate_all("all => all.map(one => one.getAttribute('class') + one.firstElementChild.href.baseVal)")
    names = page.locator(".decision.chosen .choices tbody th").all_inner_texts()
    options = {pair: name.split()[1] for pair, name in zip(pairs, names, strict=True)}
    assert len(options) == len(set(options.values())), "an option has one mark"
    page.context.close()


def test_without_scripts_every_answer_is_there(browser: Browser, site: Path) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((site / "en" / "index.html").as_uri())
    assert page.locator(".decision:visible").count() == page.locator(".decision").count()
    assert not page.locator("#place").is_visible()


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_was_found_about_an_option_stands_where_it_is_recommended(whole: Path, language: str) -> None:
    """OpenVINO reports itself while it infers: whoever is told to deploy it is told that too, and nobody else is."""
    sections = (whole / language / "index.html").read_text("utf-8").split('<section class="decision')[1:]
    headings = {part: re.sub(r"<[^>]+>", "", part.partition("<h2>")[2].partition("</h2>")[0]) for part in sections}
    telling = {part for part in sections if "openvino-telemetry" in part and "opt_in_out --opt_out" in part}
    named = {part for part in sections if "OpenVINO" in headings[part]}
    assert named
    assert named <= telling
    steps = {part for part in telling - named if "OpenVINO" in part.partition('<dl class="quick">')[0]}
    assert telling - named == steps, "those of several models, whose steps name it"
