"""The page of the machines: who last measured what, when, with which versions, who is late; and is it legible."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import test_report
from legible import WIDTHS, barriers, faults, overlaps, unfold
from playwright.sync_api import Browser
from report_fixture import write_pages
from synthetic import NEW_YEAR, Fleet, Planted, Source
from test_report import Watch

from bench import store
from bench.grid.request import MACHINE_VARIABLE, Request
from bench.history import drift, machines, merging, reading
from bench.history.machines import Machine, State, rhythm
from bench.places import MATRICES, RECORDED
from bench.reasons import UsageError
from bench.site import evidence, pages
from bench.site.trends import Trends
from bench.store.tables import read_arrow
from bench.words.locale import LANGUAGES

browser = test_report.browser  # the fixture: one Chromium for the tests of this file

NIGHTLY, LATE, LOST, WEEKLY, SELDOM = range(5)
NIGHTS: dict[int, Sequence[int]] = {
    NIGHTLY: range(1, 25),
    LATE: range(1, 22),  # three nights before the newest: missed more than two
    LOST: range(1, 6),
    WEEKLY: (1, 8, 15),  # nine days ago, of fourteen that are forgiven
    SELDOM: (2, 9),
}
"""Nights in which each of five boards took its run."""
NAMES = ("rack-1", "rack-2", "厨房的板子", "a <b>name</b> as long as one may be, for a board in a rack")
"""All of one kind; the last board has no name, and is told by its kind."""
UPDATE = Planted(20, scope="env:onnx", package="onnxruntime", version="99.0")
LAST_OPENVINO = 18


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five boards, of which the first got another ONNX Runtime in night 20 and lost OpenVINO in night 19."""
    folder = tmp_path_factory.mktemp("fleet")
    source = Source.of()
    without = replace(source, cells=[row for row in source.cells if row["option"] != "openvino"])
    for machine, nights in NIGHTS.items():
        for night in nights:
            own = without if machine == NIGHTLY and night > LAST_OPENVINO else source
            planted = (UPDATE,) if machine == NIGHTLY else ()
            Fleet(own, machines=5, planted=planted, names=NAMES).write(folder / "runs", night, machine)
    merging.add(folder / "history", [folder / "runs"], link="https://forge/o/r/actions/runs/5")
    return folder / "history"


@pytest.fixture(scope="module")
def past(root: Path) -> tuple[Machine, ...]:
    with reading.opened(root) as base:
        return machines.load(base, drift.look(base, MATRICES), MATRICES)


@pytest.fixture(scope="module")
def site(root: Path, past: tuple[Machine, ...]) -> dict[str, str]:
    found = evidence.load([RECORDED / "coco128-640-cpu"], MATRICES)
    return pages.render(found, Trends(drift.load(root, MATRICES)), past)


def board(past: Sequence[Machine], number: int) -> Machine:
    """One of the boards by its runs' names, which end in its number."""
    (found,) = [machine for machine in past if machine.newest.run_id.endswith(f"-nightly-{number}")]
    return found


def test_boards_of_one_kind_are_apart_by_their_names(past: tuple[Machine, ...]) -> None:
    assert len({machine.key for machine in past}) == len(NIGHTS)
    assert [board(past, number).facts.get("name", "") for number in NIGHTS] == [*NAMES, ""]
    kinds = {re.sub(r" \(.*", "", machine.name) for machine in past}
    assert len(kinds) == 1


@pytest.mark.parametrize(
    ("number", "state", "every", "silent"),
    [
        (NIGHTLY, State.CURRENT, 1, 0),
        (LATE, State.OVERDUE, 1, 3),
        (LOST, State.DISAPPEARED, 1, 19),
        (WEEKLY, State.CURRENT, 7, 9),
        (SELDOM, State.OCCASIONAL, None, 15),
    ],
)
def test_who_is_late_is_told_by_its_own_rhythm(
    past: tuple[Machine, ...], number: int, state: State, every: float | None, silent: float
) -> None:
    (habit,) = board(past, number).habits
    assert (habit.state, habit.every, habit.runs) == (state, every, len(NIGHTS[number]))
    assert habit.silent == pytest.approx(silent, abs=0.01)  # a board begins some minutes after the one before it


def test_runs_of_one_afternoon_are_no_rhythm_and_a_new_one_is_learnt() -> None:
    def days(*gaps: float) -> list[datetime]:
        began = [datetime(2026, 1, 1, tzinfo=UTC)]
        for gap in gaps:
            began.append(began[-1] + timedelta(days=gap))
        return began

    assert rhythm(days(0.01, 0.02, 0.01)) == 1.0
    assert rhythm(days(1)) is None
    assert rhythm(days(*[1] * 100, *[7] * machines.RECENT)) == 7.0


def test_an_option_is_told_with_the_versions_of_the_run_that_last_measured_it(past: tuple[Machine, ...]) -> None:
    nightly = board(past, NIGHTLY)
    measured = {one.option: one for one in nightly.measured}
    last = read_arrow(RECORDED / "coco128-640-cpu", "cells").to_pylist()
    precisions = {row["precision"] for row in last if row["option"] == "openvino" and row["latency_p50_ms"]}
    gone = measured["openvino"]
    assert (gone.is_gone, gone.night.started.date()) == (True, NEW_YEAR.date() + timedelta(days=LAST_OPENVINO - 1))
    assert set(gone.precisions) == precisions
    assert gone.version.startswith("2026.4.1"), "as OpenVINO attested it"
    assert not measured["onnx"].is_gone
    assert measured["onnx"].night == nightly.newest
    installed = {one.family: dict(one.packages) for one in nightly.installed}
    assert installed["onnx"]["onnxruntime"] == "99.0"
    assert installed["openvino"]["openvino"] == "2026.4.1"
    former = {one.family: dict(one.packages) for one in board(past, LATE).installed}
    assert former["onnx"]["onnxruntime"] == "1.32.0"


def test_packages_of_a_page_are_told_as_those_of_python() -> None:
    before = {("js:ort-web-js", "packages"): '["@protobufjs/float@1.0.2", "onnxruntime-web@1.25.1"]'}
    after = {("js:ort-web-js", "packages"): '["@protobufjs/float@1.0.2", "onnxruntime-web@1.26.0"]'}
    (version,) = drift.versions(before, after)
    assert (version.name, version.before, version.after) == ("onnxruntime-web", "1.25.1", "1.26.0")


def test_what_is_not_in_any_table_of_ours_is_no_obstacle(tmp_path: Path) -> None:
    """An option of somebody's own, a runtime that attests nothing, a machine that says nothing, a run without cells."""
    source = Source.of(cells=2)
    strange = [
        {**source.cells[0], "option": "mine", "attested": None},
        {**source.cells[1], "attested": '{"version": null}', "target": "<odd> target"},
    ]
    own = replace(source, cells=strange, environment=[row for row in source.environment if row["scope"] != "machine"])
    Fleet(own).write(tmp_path / "runs", 1)
    failed = Fleet(own, seed=1).write(tmp_path / "runs", 2)
    rows = read_arrow(failed, "cells").to_pylist()
    store.write_table(failed, "cells", [{**row, "status": "failed"} for row in rows])
    merging.add(tmp_path / "history", [tmp_path / "runs"])
    with reading.opened(tmp_path / "history") as base:
        found = drift.look(base, MATRICES)
        (machine,) = machines.load(base, found, MATRICES)
    assert [(one.option, one.version, one.is_gone) for one in machine.measured] == [
        (strange[1]["option"], "", True),
        ("mine", "", True),
    ]
    html = pages.render(evidence.load([RECORDED / "coco128-640-cpu"], MATRICES), Trends(found), (machine,))
    assert "&lt;odd&gt; target" in html["en/fleet.html"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_says_it_and_leads_on(site: dict[str, str], past: tuple[Machine, ...], language: str) -> None:
    html = site[f"{language}/fleet.html"]
    words = {
        "en": ("overdue", "disappeared", "on time", "now and then", "as of the newest run of all, on 2026-01-24"),
        "zh": ("逾期", "消失", "按时", "偶尔", "以全部运行中最新的一次为准：2026-01-24"),
    }[language]
    assert all(word in html for word in words)
    assert "onnxruntime&nbsp;99.0" in html
    assert "<b>name</b>" not in html
    assert all(f'id="{machine.key}"' in html for machine in past)
    addresses = {path for path in re.findall(r'href="([^"#:]+)(?:#[^"]*)?"', html) if not path.startswith("..")}
    assert addresses >= {"nights/2026-01-24.html", "options/onnx.html", "trends.html"}
    assert all(f"{language}/{path}" in site for path in addresses)
    fragments = re.findall(r'href="#([^"]+)"', html)
    assert all(f'id="{fragment}"' in html for fragment in fragments)
    for page in ("index", "trends"):
        assert 'href="fleet.html"' in site[f"{language}/{page}.html"]


def test_equal_histories_give_equal_pages(site: dict[str, str], root: Path) -> None:
    with reading.opened(root) as base:
        again = machines.load(base, drift.look(base, MATRICES), MATRICES)
    found = evidence.load([RECORDED / "coco128-640-cpu"], MATRICES)
    files = pages.render(found, Trends(drift.load(root, MATRICES)), again)
    assert [files[f"{language}/fleet.html"] for language in LANGUAGES] == [
        site[f"{language}/fleet.html"] for language in LANGUAGES
    ]


@pytest.fixture(scope="module")
def written(site: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = {name: text for name, text in site.items() if name.startswith("assets/") or name.endswith("/fleet.html")}
    return write_pages(own, tmp_path_factory.mktemp("site"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off_and_no_text_lies_on_another(
    browser: Browser, written: Path, width: int, language: str
) -> None:
    for scheme in ("light", "dark"):
        watch = Watch(browser, written / language / "fleet.html", width=width, scheme=scheme)
        assert faults(watch.page) == []
        unfold(watch.page)
        assert overlaps(watch.page) == []
        assert watch.page.evaluate("document.documentElement.scrollWidth") <= width
        assert [one for one in faults(watch.page) if "px high" not in one] == []
        assert barriers(watch.page) == []
        assert watch.complaints == []
        watch.page.context.close()


@pytest.mark.parametrize(
    ("given", "variable", "name"),
    [
        ("rack-3", "", "rack-3"),
        (None, "rack-4", "rack-4"),
        ("rack-3", "rack-4", "rack-3"),
        ("  of   many\twords ", "", "of many words"),
        (None, "  ", ""),
        (None, "", ""),
    ],
)
def test_a_machine_is_called_as_its_user_says(
    monkeypatch: pytest.MonkeyPatch, given: str | None, variable: str, name: str
) -> None:
    monkeypatch.setenv(MACHINE_VARIABLE, variable)
    assert Request({"machine-name": given}).machine_name == name


@pytest.mark.parametrize("given", ["", "  ", "a\u202eb", "x" * 61, "a\x00b"])
def test_a_name_that_cannot_stand_in_a_table_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    with pytest.raises(UsageError, match=r"--machine-name .* characters that can be printed"):
        _ = Request({"machine-name": given}).machine_name
    if given.strip() and "\x00" not in given:
        monkeypatch.setenv(MACHINE_VARIABLE, given)
        with pytest.raises(UsageError, match=MACHINE_VARIABLE):
            _ = Request({}).machine_name
