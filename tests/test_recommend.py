"""What to deploy: the rules, the command, and that the panel of the report says the same as both."""

from __future__ import annotations

import json
import math
import re
import shutil
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import test_report
from playwright.sync_api import expect
from report_fixture import HOSTILE, MEASURED, cell_id, write_run
from test_report import Watch
from typer.testing import CliRunner

from bench import store
from bench.cli import app as cli
from bench.decide.deploy import candidates
from bench.decide.deploy import recommend as rules
from bench.decide.deploy.recommend import Candidate, Figure, Outcome, Recommendation, Standing
from bench.places import REPORTS
from bench.reasons import UsageError
from bench.report import recommendation
from bench.site import panel
from bench.stats.contrast import Contrasts, Mean
from bench.store import reading as runs
from bench.words.locale import Language

browser = test_report.browser  # the fixture: one Chromium for the tests of this file

LANGUAGES: tuple[Language, ...] = ("en", "zh")


def exact(value: float) -> Figure:
    return Figure(value, value, value)


def candidate(
    name: str,
    time: tuple[float, float | None, float | None],
    loss: tuple[float, float | None, float | None] | None = (0.0, 0.0, 0.0),
    size: float = 10.0,
    **more: Figure | None,
) -> Candidate:
    figures = {"time": Figure(*time), "loss": Figure(*loss) if loss else None, "size": exact(size)}
    figures |= dict.fromkeys(("latency", "throughput", "map", "memory", "packages")) | more
    return Candidate(name, name, name, "fp32", True, figures)


def pairs(candidates: list[Candidate]) -> Contrasts:
    """Direct comparisons that tell apart whose intervals do not overlap: as if these were their own."""
    named = {one.cell_id: one.time for one in candidates}
    means = {
        (one, other): Mean(math.log(named[one].value / named[other].value), 0.01, 9, 10, 0.0)
        for one, other in combinations(named, 2)
    }
    sure = {(a, b) for a, b in permutations(named, 2) if rules.surely_better(named[a], named[b])}
    return Contrasts(tuple(named), means, frozenset(sure))


def ranked(candidates: list[Candidate], wanted: dict[str, float]) -> Recommendation:
    return rules.recommend(candidates, wanted, pairs(candidates))


def standings(found: Recommendation) -> dict[str, str]:
    return {choice.candidate.cell_id: choice.standing.value for choice in found.choices}


# The rules


def test_a_limit_is_met_by_the_worse_end_possibly_by_the_estimate_and_missed_by_neither() -> None:
    found = ranked(
        [
            candidate("sure", (0.5, 0.48, 0.52)),
            candidate("possible", (0.53, 0.50, 0.57)),
            candidate("out", (0.58, 0.54, 0.6)),
            candidate("bare", (0.4, None, None)),
            candidate("unmeasured", (0.3, 0.3, 0.3), loss=None),
        ],
        rules.limits(time=0.55, loss=0.01),
    )
    assert standings(found) == {
        "sure": "meets", "bare": "possibly", "possible": "possibly", "out": "dropped", "unmeasured": "dropped",
    }  # fmt: skip
    held = {choice.candidate.cell_id: choice.held for choice in found.choices}
    assert held["out"] == {"time": Outcome.MISSED, "loss": Outcome.MET}
    assert held["unmeasured"]["loss"] is Outcome.UNKNOWN
    # A limit that is met exactly is met.
    assert ranked([candidate("edge", (0.5, 0.4, 0.55))], {"time": 0.55}).choices[0].standing is Standing.MEETS


def test_a_least_limit_uses_the_lower_end() -> None:
    figures = {"high": Figure(0.46, 0.45, 0.47), "wide": Figure(0.46, 0.43, 0.49), "low": Figure(0.44, 0.43, 0.45)}
    found = ranked([candidate(name, (1, 1, 1), map=one) for name, one in figures.items()], {"map": 0.45})
    assert standings(found) == {"high": "meets", "wide": "possibly", "low": "dropped"}


def test_rank_counts_the_surely_faster_and_who_cannot_be_told_apart_ties() -> None:
    found = ranked(
        [
            candidate("slow", (0.9, 0.8, 1.0)),
            candidate("b", (0.5, 0.46, 0.55)),
            candidate("a", (0.48, 0.44, 0.52)),
            candidate("between", (0.7, 0.5, 0.9)),
        ],
        {},
    )
    order = [(choice.candidate.cell_id, choice.rank, set(choice.ties)) for choice in found.choices]
    assert order == [
        ("a", 1, {"b"}),
        ("b", 1, {"a"}),
        ("between", 1, set()),  # not told from a, b and slow, but far from them
        ("slow", 3, set()),
    ]


def test_who_is_faster_is_no_matter_of_intervals_that_hold_the_reference_s_error() -> None:
    """Three whose ratios to PyTorch overlap widely, because PyTorch is known badly; in their own rounds they differ."""
    given = [candidate(name, (time, time * 0.9, time * 1.1)) for name, time in (("c", 0.5), ("a", 0.47), ("b", 0.48))]
    told = Contrasts(
        ("c", "a", "b"),
        {
            ("c", "a"): Mean(math.log(0.5 / 0.47), 0.004, 7, 8, 0.0),
            ("c", "b"): Mean(math.log(0.5 / 0.48), 0.004, 7, 8, 0.0),
            ("a", "b"): Mean(math.log(0.47 / 0.48), 0.01, 7, 8, 0.0),
        },
        frozenset({("a", "c"), ("b", "c")}),
    )
    found = rules.recommend(given, {}, told)
    order = [(choice.candidate.cell_id, choice.rank, choice.ties, choice.beaten_by) for choice in found.choices]
    assert order == [("a", 1, ("b",), ""), ("b", 1, ("a",), ""), ("c", 3, (), "a")]
    behind = found.choices[2].behind
    assert behind is not None
    # Student's t for seven degrees of freedom at 97.5 % is 2.365.
    assert (behind.value, behind.high) == pytest.approx((0.5 / 0.47, 0.5 / 0.47 * math.exp(2.365 * 0.004)), rel=1e-4)
    assert [choice.behind for choice in found.choices[:2]] == [None, None]
    # Without a shared round nothing is told apart, and nothing beats anything by time.
    apart = rules.recommend(given, {}, Contrasts(("c", "a", "b"), {}, frozenset()))
    assert [(choice.rank, len(choice.ties), choice.on_front) for choice in apart.choices] == [(1, 2, True)] * 3


def test_the_front_leaves_out_only_what_something_surely_beats() -> None:
    fast = candidate("fast", (0.3, 0.29, 0.31), (0.01, 0.0, 0.02), 3.0)
    exact_copy = candidate("copy", (0.5, 0.48, 0.52), (0.0, 0.0, 0.0), 10.0)
    larger = candidate("larger", (0.6, 0.58, 0.62), (0.0, 0.0, 0.0), 11.0)
    noise = candidate("noise", (0.51, 0.48, 0.53), (0.0, 0.0, 0.0), 10.0)
    found = ranked([fast, exact_copy, larger, noise], {})
    told = {choice.candidate.cell_id: (choice.on_front, choice.beaten_by, choice.better_in) for choice in found.choices}
    # `fast` may lose accuracy, so it beats nothing; `noise` is not surely slower than `copy`.
    assert told == {
        "fast": (True, "", ()),
        "copy": (True, "", ()),
        "noise": (True, "", ()),
        "larger": (False, "copy", ("time", "size")),
    }
    # What does not meet the limits beats nothing.
    found = ranked([exact_copy, larger], {"size": 10.5})
    assert [choice.on_front for choice in found.choices] == [True, False]
    assert [choice.beaten_by for choice in ranked([larger], {}).choices] == [""]


def test_when_nothing_qualifies_the_limit_that_excludes_most_is_named() -> None:
    given = [candidate("a", (0.5, 0.4, 0.6), size=5.0), candidate("b", (2.0, 1.9, 2.1), size=4.0)]
    found = ranked(given, rules.limits(time=1, size=3))
    assert found.excluding == rules.Excluding("size", 2, "b")
    assert found.of(Standing.MEETS) == ()
    found = ranked(given, rules.limits(packages=3))
    assert found.excluding == rules.Excluding("packages", 2, "")
    assert ranked(given, {}).excluding is None


@pytest.mark.parametrize(
    ("name", "value"), [("time", float("nan")), ("size", -1.0), ("loss", 1.5), ("map", float("inf"))]
)
def test_a_limit_that_cannot_be_meant_is_refused_by_its_option(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rules.QUANTITIES[name].option):
        rules.limits(**{name: value})


def test_of_those_that_time_does_not_tell_apart_the_most_accurate_is_first_and_then_the_smallest() -> None:
    given = [
        candidate("quick", (0.30, 0.28, 0.32), (0.009, 0.005, 0.012)),
        candidate("exact-large", (0.31, 0.29, 0.33), (0.001, -0.001, 0.003), size=9.0),
        candidate("exact-small", (0.315, 0.295, 0.335), (0.001, -0.001, 0.003), size=3.0),
        candidate("lossy", (0.20, 0.19, 0.21), (0.02, 0.015, 0.025)),
        candidate("unsure", (0.21, 0.20, 0.22), (0.008, -0.005, 0.021)),
        candidate("slow", (0.9, 0.85, 0.95)),
    ]
    found = ranked(given, rules.limits())
    assert rules.limits() == {"loss": 0.01}
    meets = [choice.candidate.cell_id for choice in found.of(Standing.MEETS)]
    assert meets == ["exact-small", "exact-large", "quick", "slow"]
    # 0.012 lies within twice the limit, 0.021 does not, and 0.02 is no estimate within it.
    assert standings(found)["unsure"] == "possibly"
    assert standings(found)["lossy"] == "dropped"
    assert ranked(given, rules.limits(loss=1)).choices[0].candidate.cell_id == "unsure"


def test_what_is_not_told_apart_but_far_is_no_tie() -> None:
    """Few launches: PyTorch itself, five times slower and without any loss, is not told from the fastest."""
    wide = [candidate("fast", (0.2, 0.1, 1.1), (0.001, 0.0, 0.002)), candidate("reference", (1.0, 1.0, 1.0))]
    first = ranked(wide, rules.limits()).choices[0]
    assert (first.candidate.cell_id, first.ties) == ("fast", ())


def test_where_the_reference_alone_was_timed_nothing_is_ranked(folder: Path, tmp_path: Path) -> None:
    alone = {
        cell_id(option, precision): {"latency_ratio": None}
        for option, precision, *_ in MEASURED
        if (option, precision) != ("pytorch", "fp32")
    }
    data = runs.load(change(folder, tmp_path / "run", alone))
    assert candidates.fields(data) == ()
    with pytest.raises(UsageError, match="nothing to choose from"):
        candidates.select(data, target="cpu")


# A run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("recommend") / "run")


def change(folder: Path, out: Path, changes: dict[str, dict[str, Any]]) -> Path:
    """A copy of a run with columns of some cells replaced."""
    cells = pq.read_table(folder / "cells.parquet").to_pylist()
    for cell in cells:
        for identity, columns in changes.items():
            if cell["cell_id"] == identity:
                cell.update(columns)
    store.write_table(out, "cells", cells)
    facts = pq.read_table(folder / "environment.parquet").to_pylist()
    outside = {"scope": "run", "key": "outside_guide", "value": json.dumps(["openvino"])}
    store.write_table(out, "environment", [*facts, outside])
    shutil.copy(folder / "samples.parquet", out)
    return out


def test_a_run_s_cells_become_figures_the_right_way_round(folder: Path, tmp_path: Path) -> None:
    quick, untimed = cell_id("onnx", "int8"), cell_id("openvino", "bf16")
    copy = change(
        folder,
        tmp_path / "run",
        {
            quick: {
                "latency_ratio": 4.0, "latency_ratio_low": 2.0, "latency_ratio_high": 5.0, "latency_launches": 8,
                "map50_95": 0.5, "map_delta": -0.02, "map_delta_low": -0.05, "map_delta_high": 0.01,
                "size_bytes": 3_000_000,
            },
            cell_id("onnx", "fp16"): {"latency_launches": 2},
            untimed: {"latency_ratio": None, "latency_p50_ms": None, "latency_stop": "an emulated processor"},
        },
    )  # fmt: skip
    field = candidates.select(runs.load(copy), target="cpu")
    found = {one.cell_id: one for one in field.candidates}
    assert found[quick].figures["time"] == Figure(0.25, 0.2, 0.5)
    assert found[quick].figures["loss"] == Figure(0.02, -0.01, 0.05)
    assert found[quick].figures["map"] == Figure(0.5, 0.47, 0.53)
    assert found[quick].figures["size"] == exact(3.0)
    assert found[cell_id("pytorch", "fp32")].time == exact(1.0)
    assert found[cell_id("onnx", "fp16")].time.high is None, "two launches give no interval"
    passed = {one.cell_id: (one.status, one.reason) for one in field.passed}
    assert passed[untimed] == ("measured", "an emulated processor")
    assert passed[cell_id("ncnn", "fp32")][0] == "failed"
    assert cell_id("openvino", "auto") in passed, "an invalid cell's numbers are no results"
    assert {one.option for one in candidates.only_in_guide(field).candidates} == {"pytorch", "torchscript", "onnx"}


def test_a_scope_that_was_not_timed_or_is_not_the_only_one_is_told(folder: Path, tmp_path: Path) -> None:
    data = runs.load(folder)
    with pytest.raises(UsageError, match=r"--target cuda: nothing was timed there; timed were:\n.*--target cpu"):
        candidates.select(data, target="cuda")
    several = change(folder, tmp_path / "several", {cell_id("onnx", one): {"threads": 4} for one in ("fp32", "fp16")})
    with pytest.raises(UsageError, match=r"more than one scope was timed; choose one:(\n.*--threads (2|4).*){2}"):
        candidates.select(runs.load(several), target="cpu")
    assert candidates.select(runs.load(several), threads=4).point[4] == 4


def test_the_two_languages_have_the_same_words_and_gaps() -> None:
    texts = {language: recommendation.words(language).strings for language in LANGUAGES}
    assert texts["en"].keys() == texts["zh"].keys()
    for name in rules.QUANTITIES:
        assert {f"{group}.{name}" for group in ("quantity", "limit", "help", "column")} <= texts["en"].keys()
    assert {f"better.{name}" for name in rules.FRONT} <= texts["en"].keys()


# The command


def ask(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "160"}).invoke(cli.app, ["recommend", *arguments])


def test_the_command_answers_scripts_by_its_exit_code(folder: Path) -> None:
    met = ask(str(folder), "--max-latency-ratio", "0.7", "--format", "json")
    assert met.exit_code == 0
    assert met.output == ask(str(folder), "--max-latency-ratio", "0.7", "--format", "json").output
    answer = json.loads(met.output)
    assert answer["limits"] == {"time": 0.7, "loss": 0.01}, "a loss of one point is the usual limit"
    assert {choice["figures"]["time"]["high"] <= 0.7 for choice in answer["choices"] if choice["rank"]} == {True}
    nothing = ask(str(folder), "--max-size", "2")
    assert nothing.exit_code == 1
    assert "No option surely meets every limit." in nothing.output
    assert "artifact leaves out most: 9 of 9. Nearest to it is ONNX INT8 with 3.10" in nothing.output
    assert isinstance(ask(str(folder), "--target", "cuda").exception, UsageError)


@pytest.mark.parametrize(
    ("option", "figure", "end"),
    [("--max-latency-ms", "latency", "high"), ("--min-fps", "throughput", "low"), ("--max-memory", "memory", "high")],
)
def test_limits_are_set_in_the_units_people_think_in(folder: Path, option: str, figure: str, end: str) -> None:
    """A limit between two candidates' worse ends lets through those on its good side, and no other."""
    given = [str(folder), "--max-map-loss", "1", "--format", "json"]
    known = {
        one["cell_id"]: one["figures"][figure][end]
        for one in json.loads(ask(*given).output)["choices"]
        if one["figures"][figure] and one["figures"][figure][end] is not None
    }
    ends = sorted(set(known.values()))
    limit = round((ends[2] + ends[3]) / 2, 2)
    good = {cell for cell, value in known.items() if (value < limit) == (end == "high")}
    answer = json.loads(ask(*given, option, str(limit)).output)
    assert {one["cell_id"] for one in answer["choices"] if one["rank"]} == good
    assert 0 < len(good) < len(known)


def test_the_command_speaks_chinese_and_shows_names_as_text(tmp_path: Path) -> None:
    hostile = write_run(tmp_path / "run", hostile=True)
    shown = ask(str(hostile), "--lang", "zh", "--max-size", "6")
    assert shown.exit_code == 0
    assert "满足全部限制" in shown.output
    assert "高于限制 6" in shown.output
    assert "\x1b[31m" not in shown.output


# The panel

PAGE = """<!doctype html><html lang="{language}"><meta charset="utf-8"><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'self'; style-src 'self'">
<title>Panel</title><link rel="stylesheet" href="report.css"><link rel="stylesheet" href="recommend.css">
<main>{panel}</main><script src="recommend.js"></script></html>
"""


def built(folder: Path, language: Language) -> str:
    """The panel of a run."""
    data = runs.load(folder)
    return panel.build([(data, field) for field in candidates.fields(data)], language, several=False)


def write_page(folder: Path, out: Path, language: Language) -> Path:
    """A page that holds nothing but the panel, with a policy as strict as the site's."""
    out.mkdir(parents=True)
    html = PAGE.format(language=language, panel=built(folder, language))
    (out / "index.html").write_text(html, "utf-8")
    (out / "report.css").write_text((REPORTS / "templates" / "report.css").read_text("utf-8"), "utf-8")
    (out / "recommend.css").write_text(panel.style(), "utf-8")
    (out / "recommend.js").write_text(panel.script(), "utf-8")
    return out / "index.html"


READ = """() => {
  const panel = document.getElementById("recommend");
  const texts = (root, selector) => [...root.querySelectorAll(selector)].map((one) => one.textContent);
  return {
    summary: texts(panel, ".verdict p"),
    choices: [...panel.querySelectorAll(".choices li[data-cell]")].map((card) => [
      card.dataset.cell, card.dataset.standing, Number(card.dataset.rank) || null,
      card.querySelector(".front") !== null, texts(card, ".why > li"),
    ]),
    caveats: texts(panel, ".caveats li"),
  };
}"""


SETTINGS: tuple[dict[str, float | bool], ...] = (
    {},
    {"time": 0.7},
    {"time": 0.62, "loss": 0.005},
    {"map": 0.705, "size": 6.0},
    {"size": 2},
    {"time": 0.1, "size": 2},
    {"time": 0.35, "packages": 200},
    {"memory": 190, "in_guide": True},
    {"loss": 0.0123, "time": 1},
    {"latency": 20},
    {"throughput": 60.5, "loss": 0.05},
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_panel_and_command_agree(browser: Any, folder: Path, tmp_path: Path, language: Language) -> None:
    changes: dict[str, dict[str, Any]] = {
        cell_id("onnx", "fp16"): {"latency_launches": 2},
        cell_id("onnx", "int8"): {"env_bytes": None},
        # Gains by its estimate and loses by the worse end: it may not count as no worse in accuracy.
        cell_id("openvino", "int8"): {"map_delta": 0.002, "map_delta_low": -0.01, "map_delta_high": 0.012},
        cell_id("openvino", "fp16"): {"map_delta": None, "map_delta_low": None, "map_delta_high": None},
    }
    copy = change(folder, tmp_path / "run", changes)
    watch = Watch(browser, write_page(copy, tmp_path / "page", language), width=375)
    options = {name: quantity.option for name, quantity in rules.QUANTITIES.items()}
    seen = set()
    for setting in SETTINGS:
        watch.page.get_by_role("button", name=recommendation.words(language)("panel.clear")).click()
        arguments = [str(copy), "--format", "json", "--lang", language]
        for name, value in setting.items():
            if name == "in_guide":
                watch.page.locator("input[name=in_guide]").check()
                arguments.append("--in-guide")
            else:
                watch.page.locator(f"#limit-{name}").fill(str(value))
                arguments += [options[name], str(value)]
        answer = json.loads(ask(*arguments).output)
        keys = ("cell_id", "standing", "rank", "on_front", "why")
        expected = {
            "summary": answer["summary"],
            "choices": [[choice[key] for key in keys] for choice in answer["choices"]],
            "caveats": answer["caveats"],
        }
        assert watch.page.evaluate(READ) == expected, setting
        seen |= {choice["standing"] for choice in answer["choices"]}
    assert seen == {"meets", "possibly", "dropped"}
    assert watch.complaints == []
    assert watch.outside() == []
    assert watch.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_sliders_set_limits_and_release_them_and_the_command_is_shown(
    browser: Any, folder: Path, tmp_path: Path
) -> None:
    watch = Watch(browser, write_page(folder, tmp_path / "page", "en"))
    slider, field = watch.page.locator('[data-for="size"]'), watch.page.locator("#limit-size")
    slider.fill("5.5")
    assert field.input_value() == "5.5"
    shown = watch.page.locator("#recommend .command").text_content() or ""
    place = "--target cpu --model demo --imgsz 320 --batch 1 --threads 2"
    assert shown.endswith(f"{place} --max-map-loss 0.01 --max-size 5.5")
    watch.page.locator("#limit-loss").fill("")
    shown = watch.page.locator("#recommend .command").text_content() or ""
    assert shown.endswith(f"{place} --max-map-loss 1 --max-size 5.5"), "the usual limit is taken away there too"
    dropped = watch.page.locator('[data-standing="dropped"]')
    assert dropped.count() > 0
    slider.fill(slider.get_attribute("max") or "")
    assert field.input_value() == ""
    assert dropped.count() == 0
    watch.page.locator("#limit-map").fill("7")
    assert watch.page.locator(".limit", has=watch.page.locator("#limit-map")).locator(".wrong").is_visible()
    assert dropped.count() == 0, "a number out of range sets no limit"


def test_panel_shows_hostile_text_as_text(browser: Any, tmp_path: Path) -> None:
    hostile = write_run(tmp_path / "run", hostile=True)
    watch = Watch(browser, write_page(hostile, tmp_path / "page", "en"))
    assert HOSTILE in (watch.page.locator("#recommend .caveats").text_content() or "")
    assert HOSTILE in (watch.page.locator("#recommend .choices").text_content() or "")
    assert watch.page.evaluate("window.hacked") is None
    assert watch.page.locator("#recommend img").count() == 0
    assert watch.complaints == []


def test_what_could_not_be_considered_is_told_in_the_panel_s_language(folder: Path) -> None:
    told_as: dict[Language, str] = {"en": "failed: ", "zh": "失败："}
    for language, status in told_as.items():
        data = json.loads(re.findall(r"<script[^>]*json[^>]*>(.*?)</script>", built(folder, language), re.DOTALL)[0])
        told = [one["why"] for field in data["fields"] for one in field["passed"]]
        assert any(why.startswith(status) for why in told), told


def test_the_panel_is_the_same_each_time_and_absent_without_a_timed_cell(folder: Path, tmp_path: Path) -> None:
    assert built(folder, "zh") == built(folder, "zh")
    nothing = {cell_id(option, precision): {"latency_ratio": None} for option, precision, *_ in MEASURED}
    assert built(change(folder, tmp_path / "run", nothing), "en") == ""


def test_a_selection_can_be_sent_as_a_link(browser: Any, folder: Path, tmp_path: Path) -> None:
    written = write_page(folder, tmp_path / "page", "en")
    page = Watch(browser, written).page
    assert "#" not in page.url, "what is as it came needs no link of its own"
    page.locator("#limit-size").fill("5.5")
    page.locator("#limit-loss").fill("")
    page.locator("input[name=in_guide]").check()
    # The usual limit was taken away, which is a choice too.
    expect(page).to_have_url(re.compile(r"#loss=&size=5\.5&in_guide=1$"))
    said, link = page.evaluate(READ), page.url
    other = Watch(browser, written)
    assert other.page.evaluate(READ) != said
    for reloaded in (False, True):  # within the page, and as one opens a link
        other.page.goto(link)
        if reloaded:
            other.page.reload()
        expect(other.page.locator("#limit-size")).to_have_value("5.5")
        assert other.page.evaluate(READ) == said
        assert other.page.locator('[data-for="size"]').input_value() == "5.5"
    other.page.get_by_role("button", name=recommendation.words("en")("panel.clear")).click()
    expect(other.page.locator("#limit-loss")).to_have_value("0.01")
    expect(other.page).not_to_have_url(re.compile("#"))
    other.page.goto(f"{written.as_uri()}#size=%3Cb%3E&place=nowhere")
    expect(other.page.locator("#limit-size")).to_have_value("")
    assert other.complaints == []
