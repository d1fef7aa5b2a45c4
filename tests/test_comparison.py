"""The comparison site: the guide's table with verdicts, in both languages, as files that need nothing else."""

from __future__ import annotations

import datetime
import functools
import http.server
import json
import re
import shutil
import string
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urldefrag, urlsplit

import pandas as pd
import pytest
import test_report
from playwright.sync_api import Browser, Page, expect
from report_fixture import HOSTILE, write_pages, write_run
from test_report import Watch

from bench import store
from bench.cli.app import main
from bench.decide.claims import gate, lints
from bench.decide.claims.statements import Check
from bench.decide.claims.verdicts import DECIDED, GROUPS, KINDS, NAMES, Finding, Kind, Verdict
from bench.places import MATRICES, REPORTS, ROOT
from bench.reasons import UsageError
from bench.site import build, evidence, measurements, pages, wording
from bench.site.evidence import Evidence
from bench.words import locale
from bench.words.locale import LANGUAGES, Locale
from bench.words.numbers import MINUS, TIMES
from bench.words.spans import spans
from bench.words.text import Text

RUN = ROOT / "results" / "reference" / "coco128-640-cpu"
LOCALES = REPORTS / "locale" / "site"
WORDS = Text(en="Words.", zh="文字。")

browser = test_report.browser  # the fixture: one Chromium for the tests of this file


class Html(HTMLParser):
    """Ids, addresses, and the cells of tables by their data attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.cells: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.addresses += [values[name] or "" for name in ("href", "src") if name in values]
        if tag == "td" and "data-verdict" in values:
            self.cells.append(values)
        assert not [name for name in values if name.startswith("on") or name == "style"], "the policy forbids it"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def second_run(folder: Path) -> Path:
    return write_run(folder / "second")


@pytest.fixture(scope="module")
def found(second_run: Path) -> Evidence:
    return evidence.load([RUN, second_run], MATRICES)


@pytest.fixture(scope="module")
def files(found: Evidence) -> dict[str, str]:
    return pages.render(found)


@pytest.fixture(scope="module")
def site(files: dict[str, str], folder: Path) -> Path:
    return write_pages(files, folder / "site")


@pytest.fixture(scope="module")
def locales() -> dict[str, Locale]:
    return locale.load(LOCALES)


# What the pages say


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_cell_of_the_table_has_its_verdict_and_leads_to_its_statement(
    language: str, files: dict[str, str], found: Evidence
) -> None:
    table = Html(files[f"{language}/guide.html"])
    expected = [found.by_claim[f"{o}.{a}"].verdict.verdict for o in found.facts.options for a in found.facts.aspects]
    assert len(expected) == 14 * 7
    assert [cell["data-verdict"] for cell in table.cells] == expected
    links = {f"options/{option}.html#{aspect}" for option in found.facts.options for aspect in found.facts.aspects}
    assert links <= set(table.addresses)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_statement_stands_with_words_reading_threshold_and_evidence(
    language: str, files: dict[str, str], found: Evidence, locales: dict[str, Locale]
) -> None:
    text = Html(files[f"{language}/options/torchscript.html"]).text
    judged = found.by_claim["torchscript.performance"]
    claim, t = judged.claim, locales[language]
    assert " ".join(wording.figure(t, judged.verdict).split()) in text
    row = next(row for row in judged.verdict.rows if "torchscript" in row)
    command = found.commands([row])[0]
    parts = [claim.quote, t.pick(claim.reading), t.pick(claim.supports), t.pick(claim.refutes), row, command]
    parts += [t.pick(claim.checks[0].because), t.pick(judged.findings[0][1].reason), "threshold = 1.0"]
    assert claim.table is not None
    assert claim.table.difference is not None
    parts += [claim.table.quote, t.pick(claim.table.difference)]
    parts += [claim.english, claim.table.english] if language == "en" else []
    for part in parts:
        assert " ".join(part.split()) in text, part


def test_every_general_statement_and_every_lint_is_shown(files: dict[str, str], found: Evidence) -> None:
    text, printed = (Html(files[f"zh/{name}.html"]).text for name in ("general", "published"))
    for judged in found.general:
        words = "".join(span.text for span in spans(judged.claim.quote))
        assert re.sub(r"\s", "", words) in re.sub(r"\s", "", text)
    assert found.lints
    for lint in found.lints:
        assert lint.text.zh in printed
    assert {one.claim.id for one in found.published} <= set(printed.split())


def test_counts_are_those_of_the_verdicts(files: dict[str, str], found: Evidence) -> None:
    counts = Counter(one.verdict.verdict for one in found.about_options)
    text = Html(files["en/guide.html"]).text
    for verdict, number in counts.items():
        assert f"{number} {NAMES[verdict].en}" in text
    decided = sum(counts[one] for one in (Verdict.SUPPORTED, Verdict.REFUTED, Verdict.MIXED))
    partly, indicated = (
        counts[Verdict.PARTLY_SUPPORTED],
        counts[Verdict.INDICATED_FOR] + counts[Verdict.INDICATED_AGAINST],
    )
    assert f"{decided} of 98 are decided here by measurement, {partly} more in part. {indicated} are only" in text


def test_nothing_is_supported_that_was_not_measured_in_every_part(found: Evidence) -> None:
    supported = [one for one in found.judged if one.verdict.verdict is Verdict.SUPPORTED]
    assert supported
    for one in supported:
        assert {part.verdict for part in one.parts} == {Verdict.SUPPORTED}, one.claim.id
        decisive = {check.kind for check, finding in one.findings if finding.verdict is Verdict.SUPPORTED}
        assert decisive == {Kind.MEASURED}, one.claim.id
        assert not found.tables.stands_in(one.verdict.rows), one.claim.id
    for one in found.judged:
        kinds = {check.kind for check in one.claim.deciding}
        if one.verdict.verdict in DECIDED and one.verdict.verdict is not Verdict.REFUTED:
            assert Kind.MEASURED in kinds, one.claim.id


def test_what_a_verdict_rests_on_is_told_apart(
    files: dict[str, str], found: Evidence, locales: dict[str, Locale]
) -> None:
    t = locales["en"]
    for judged in found.about_options:
        page = files[f"en/{pages.option_path(judged.claim.option)}"]
        for check in judged.claim.checks:
            assert f'class="tag is-{check.kind.value}"' in page, judged.claim.id
        if KINDS[judged.verdict.verdict] is Kind.PROXY:
            assert f'<span class="tag is-proxy">{t("basis.proxy")}</span>' in page, judged.claim.id
    home = Html(files["en/guide.html"]).text
    for kind, verdicts in GROUPS.items():
        number = sum(one.verdict.verdict in verdicts for one in found.about_options)
        assert f"{t('basis.' + (kind.value if kind else 'open'))}: {number}" in home or not number


def test_a_statement_that_the_document_no_longer_makes_is_shown_as_stale(found: Evidence) -> None:
    changed = [
        replace(one, verdict=Finding(Verdict.STALE, WORDS), findings=()) if one.claim.id == "onnx.security" else one
        for one in found.judged
    ]
    rendered = pages.render(replace(found, judged=tuple(changed)))
    cells = [cell for cell in Html(rendered["en/guide.html"]).cells if cell["data-verdict"] == "stale"]
    assert len(cells) == 1
    assert "Words." in Html(rendered["en/options/onnx.html"]).text


def test_summary_takes_the_best_target_and_all_runs(found: Evidence, locales: dict[str, Locale]) -> None:
    grid = found.tables.grid
    openvino = grid[(grid.option == "openvino") & (grid.precision == "fp32") & (grid.model == "demo")]
    faster = openvino.assign(target="intel-gpu", cell_id="demo/faster", latency_ratio=9.0, latency_ratio_low=8.0)
    repeated = openvino.assign(run_id="third", latency_ratio=2.5, latency_ratio_low=2.4, latency_ratio_high=2.6)

    def row(*extra: Any) -> measurements.Row:
        frames = pd.concat([grid, *extra], ignore_index=True)
        tables = replace(found.tables, grid=frames)
        table = next(one for one in measurements.summaries(tables, found.grid, locales["en"]) if one.model == "demo")
        return next(row for row in table.rows if (row.option, row.values[1].text) == ("openvino", "FP32"))

    assert row().values[2].text == "cpu"
    assert row(faster.assign(latency_ratio_high=10.0)).values[2].text == "intel-gpu"
    once, twice = (float(one.values[3].order) for one in (row(), row(repeated)))
    assert twice == pytest.approx((once + 2.5) / 2)
    assert len(row(repeated).evidence) == 2


def test_accuracy_is_that_of_most_images_and_few_are_told(found: Evidence, locales: dict[str, Locale]) -> None:
    grid = found.tables.grid
    many = grid[(grid.option == "openvino") & (grid.precision == "fp32") & (grid.model == "demo")].assign(images=128)
    timed = many.assign(run_id="third", threads=9, images=16, map50_95=0.99, latency_ratio=9.0, latency_ratio_low=8.9)
    few = many.assign(option="ncnn", cell_id="demo/few", images=16)

    def row(option: str) -> measurements.Row:
        tables = replace(found.tables, grid=pd.concat([grid.drop(many.index), many, timed, few], ignore_index=True))
        table = next(one for one in measurements.summaries(tables, found.grid, locales["en"]) if one.model == "demo")
        return next(row for row in table.rows if (row.option, row.values[1].text) == (option, "FP32"))

    accuracy = row("openvino").values[4]
    assert (float(accuracy.order), accuracy.note) == (float(many.map50_95.iloc[0]), "")
    assert row("openvino").values[2].note == "9 thr"
    assert row("ncnn").values[4].note == "16 images"


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "english", "chinese"),
    [
        (0.8543, 0.8259, 0.8836, "x", f"0.854{TIMES} [0.826,\N{NO-BREAK SPACE}0.884]", None),
        (26.0, 26.0, 26.0, "days", "26 days", "26 天"),
        (0.00046, None, None, "px", "<\N{NARROW NO-BREAK SPACE}0.001 px", None),
        (0.994, 0.994, 0.994, "share", "99.4 %", None),
        (-0.0012, -0.0031, 0.0007, "mAP", f"{MINUS}0.0012 mAP [{MINUS}0.0031,\N{NO-BREAK SPACE}+0.0007]", None),
        (3.0, None, None, "furlongs", "3.00 furlongs", None),
    ],
)
def test_figures_read_as_their_unit_is(
    value: float, low: float, high: float, unit: str, english: str, chinese: str | None, locales: dict[str, Locale]
) -> None:
    finding = Finding(Verdict.SUPPORTED, WORDS, value=value, low=low, high=high, unit=unit)
    assert wording.figure(locales["en"], finding) == english
    assert wording.figure(locales["zh"], finding) == (chinese or english)


def test_a_quotes_links_become_words_and_its_code_stays_code() -> None:
    quote = "强调[数据隐私](https://example.invalid/x)和 `model.export()` <b>安全</b>。"
    assert "".join(span.text for span in spans(quote)) == "强调数据隐私和 model.export() <b>安全</b>。"
    assert [span.text for span in spans(quote) if span.kind == "code"] == ["model.export()"]


# Two languages


def test_every_string_is_used_and_every_check_has_words(found: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[str] = set()

    class Recorder(dict[str, str]):
        def __getitem__(self, key: str) -> str:
            used.add(key)
            return super().__getitem__(key)

    load, known = locale.load, locale.load(LOCALES)
    recorders = {name: Locale(one.language, Recorder(one.strings)) for name, one in known.items()}
    monkeypatch.setattr(locale, "load", lambda folder: recorders if folder == LOCALES else load(folder))
    pages.render(found)
    keys = set(known["en"].strings)
    # Which figures, checks and lints there are depends on the results; that each has words does not.
    checks = {f"check.{name}" for name in gate.CHECKS}
    rules = {f"published.{name}" for name in lints.RULES}
    assert {key for key in keys if key.startswith("check.")} == checks
    assert rules <= keys
    # Likewise what is said only of nothing measured, nothing found, the document at hand, or a stale statement.
    # And what is said of a history, or of several models, which this site has none of.
    of_history = {key for key in keys if key.startswith(("nav.trends", "trends.", "metric.", "nav.fleet", "fleet."))}
    depends = {key for key in keys if key.startswith("figure.")} | checks | rules | of_history | {
        "and_more", "measurements.none", "measurements.outside_guide", "published.no_lints", "method.document_compared",
        "statement.verdict", "measurements.untimed", "home.none",
        "home.nothing", "home.standing_possibly", "home.chart_steps", "home.threads.one", "home.threads.more",
        "measurements.evaluated", "index.finds",
    }  # fmt: skip
    assert keys - used <= depends


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('reset = "Reset"', "", r"en\.toml: controls\.reset: missing; zh\.toml has it"),
        ('reset = "Reset"', 'reset = " "', r"en\.toml: controls\.reset: must be a text"),
        ("{shown} of {total} rows", "{shown} rows", r"controls\.shown: its gaps are"),
    ],
)
def test_languages_that_differ_are_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    shutil.copytree(LOCALES, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "en.toml"
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(UsageError, match=said):
        locale.load(tmp_path)


def test_gaps_are_filled_and_never_shown(files: dict[str, str], locales: dict[str, Locale]) -> None:
    gaps = {
        f"{{{name}}}"
        for text in locales["en"].strings.values()
        for _, name, _, _ in string.Formatter().parse(text)
        if name
    }
    for name, text in files.items():
        shown = set(
            re.findall(r"\{\w+\}", re.sub(r'data-shown="[^"]*"|<script.*?</script>', "", text, flags=re.DOTALL))
        )
        assert not (name.endswith(".html") and shown & gaps), name


# Files that need nothing else


def test_without_a_history_there_are_no_nights(files: dict[str, str]) -> None:
    assert not [name for name in files if "trend" in name or "night" in name or "fleet" in name]
    assert not re.search(r"(trends|fleet)\.html", files["en/index.html"])


def test_every_link_leads_to_a_file_and_an_anchor_that_are_there(files: dict[str, str]) -> None:
    parsed = {name: Html(text) for name, text in files.items() if name.endswith(".html")}
    assert len(parsed) > 2 * (14 + 5)
    for name, page in parsed.items():
        assert len(page.ids) == len(set(page.ids)), f"{name}: an id is there twice"
        for address in page.addresses:
            if address == "data:,":
                continue
            path, anchor = urldefrag(address)
            assert not urlsplit(address).scheme, f"{name}: {address}"
            assert not path.startswith("/"), f"{name}: {address} would not work under a sub-path"
            target = _resolved(PurePosixPath(name).parent / path) if path else name
            assert target in files, f"{name}: {address}"
            if anchor:
                assert anchor in parsed[target].ids, f"{name}: {address}"


def test_same_runs_in_any_order_give_the_same_bytes(files: dict[str, str], second_run: Path) -> None:
    assert pages.render(evidence.load([second_run, RUN], MATRICES)) == files


def test_no_page_holds_the_place_it_was_made_in(files: dict[str, str], folder: Path) -> None:
    for name, text in files.items():
        assert str(folder) not in text, name
        assert str(ROOT) not in text, name


def test_command_writes_a_site_and_replaces_only_a_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["site", str(RUN), "--out", str(out)]
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    assert "index.html" in capsys.readouterr().out
    listing = json.loads((out / "site.json").read_text("utf-8"))
    assert len(listing["verdicts"]) > 98
    (out / "en" / "old.html").write_text("of an earlier site", "utf-8")
    build([RUN], out)
    assert not (out / "en" / "old.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left beside it"
    (out / "site.json").unlink()
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "holds something else than a site" in " ".join(capsys.readouterr().err.split())
    assert (out / "en" / "index.html").is_file()
    with pytest.raises(UsageError, match="is a file"):
        build([RUN], out / "en" / "index.html")


# In a browser


def pages_of(site: Path, language: str) -> list[Path]:
    return sorted((site / language).rglob("*.html"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_load_without_complaint_and_fit_a_phone(language: str, browser: Browser, site: Path) -> None:
    watch = Watch(browser, site / "index.html", width=375)
    every = pages_of(site, language)
    assert len(every) >= 14 + 5
    for path in every:
        watch.page.goto(path.as_uri())
        assert watch.page.evaluate("document.documentElement.scrollWidth") <= 375, path
    assert watch.complaints == []
    assert watch.outside() == []
    assert watch.refused == []


def test_english_pages_hold_chinese_only_where_the_guide_is_quoted(browser: Browser, site: Path) -> None:
    page = Watch(browser, site / "index.html").page
    unmarked = """() => {
      const walker = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
      const found = [];
      while (walker.nextNode()) {
        const node = walker.currentNode;
        if (/\\p{Script=Han}/u.test(node.data) && node.parentElement.closest("[lang]").lang !== "zh")
          found.push(node.data);
      }
      for (const element of document.querySelectorAll("[title], [aria-label]"))
        if (element.closest("[lang]").lang !== "zh" && /\\p{Script=Han}/u.test(element.title + element.ariaLabel))
          found.push(element.outerHTML);
      return found;
    }"""
    for path in pages_of(site, "en"):
        page.goto(path.as_uri())
        assert page.evaluate(unmarked) == [], path
    page.goto((site / "zh" / "index.html").as_uri())
    assert page.evaluate(unmarked) == [], "a Chinese page is marked as such as a whole"


def test_chinese_pages_hold_no_english_string(
    files: dict[str, str], locales: dict[str, Locale], found: Evidence
) -> None:
    english = {text for text in locales["en"].strings.values() if len(text) > 12 and "{" not in text}
    english -= set(locales["zh"].strings.values())
    english |= {getattr(one.claim, key).en for one in found.judged for key in ("reading", "supports", "refutes")}
    english |= {finding.reason.en for one in found.judged for _, finding in one.findings}
    for name, text in files.items():
        if name.startswith("zh/"):
            shown = Html(text).text
            assert [words for words in english if words in shown] == [], name


@pytest.mark.parametrize("language", LANGUAGES)
def test_table_sorts_and_filters_and_the_address_keeps_it(
    language: str, browser: Browser, site: Path, found: Evidence, locales: dict[str, Locale]
) -> None:
    t = locales[language]
    watch = Watch(browser, site / language / "guide.html")
    page = watch.page
    rows = page.locator("#guide-table tbody tr")
    expect(rows).to_have_count(14)
    page.locator(".controls").get_by_label(t("controls.verdict")).select_option("untested_here")
    with_one = {one.claim.option for one in found.about_options if one.verdict.verdict is Verdict.UNTESTED_HERE}
    expect(rows).to_have_count(len(with_one))
    chosen = page.locator('td[data-verdict="untested_here"]')
    assert page.locator("#guide-table td:not(.aside)").count() == chosen.count()
    assert t("controls.shown", shown=len(with_one), total=14) == page.locator(".shown").inner_text()
    assert page.url.endswith("?verdict=untested_here")
    page.locator("#language").click()
    expect(page.locator("html")).to_have_attribute("lang", pages.other_language(language))
    expect(rows).to_have_count(len(with_one))
    page.go_back()
    expect(rows).to_have_count(len(with_one))
    page.get_by_role("button", name=t("controls.reset")).click()
    expect(rows).to_have_count(14)
    assert "?" not in page.url
    page.get_by_label(t("controls.search")).fill("edge tpu")
    expect(rows.first).to_contain_text("TF Edge TPU")
    page.get_by_role("button", name=t("controls.reset")).click()
    page.get_by_label(t("controls.sort")).select_option("1")
    page.locator('#guide-table th[aria-sort="ascending"]').wait_for()
    places = [int(value) for value in _orders(page, 2)]
    assert places == sorted(places)
    assert len(set(places)) > 1
    page.locator("#guide-table thead th").nth(1).click()
    page.locator('#guide-table th[aria-sort="descending"]').wait_for()
    assert [int(value) for value in _orders(page, 2)] == sorted(places, reverse=True)
    page.get_by_role("button", name=t("controls.reset")).click()
    assert _orders(page, 1) == [str(place) for place in range(1, 15)]
    assert watch.complaints == []


def test_measurements_sort_by_number_and_filter(browser: Browser, site: Path) -> None:
    page = Watch(browser, site / "en" / "measurements.html").page
    table = page.locator("table.summary").first
    total = table.locator("tbody tr").count()
    table.locator("thead th").nth(6).click()
    table.locator('th[aria-sort="ascending"]').wait_for()
    sizes = [
        float(value)
        for value in table.locator("tbody tr > :nth-child(7)").evaluate_all("all => all.map(c => c.dataset.order)")
    ]
    assert sizes == sorted(sizes)
    page.locator(".controls select").nth(1).select_option("int8")
    assert 0 < table.locator("tbody tr").count() < total


def test_phone_shows_cards_and_the_words_switch_with_the_scheme(browser: Browser, site: Path) -> None:
    page = Watch(browser, site / "zh" / "guide.html", width=375).page
    assert not page.locator("#guide-table thead").is_visible()
    label = page.locator("#guide-table td").first.evaluate("cell => getComputedStyle(cell, '::before').content")
    assert label == '"性能基准"'
    button = page.locator("#scheme")
    assert button.inner_text() == "深色"
    button.click()
    assert button.inner_text() == "浅色"


def test_paper_shows_what_is_folded_and_every_row(browser: Browser, site: Path) -> None:
    page = Watch(browser, site / "en" / "options" / "onnx.html").page
    assert page.locator("details:not([open])").count() > 0
    page.emulate_media(media="print")
    expect(page.locator("details:not([open])")).to_have_count(0)
    assert not page.locator("#language").is_visible()


def test_pages_read_without_scripts(browser: Browser, site: Path) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((site / "en" / "guide.html").as_uri())
    assert page.locator("#guide-table tbody tr").count() == 14
    assert not page.locator(".controls").is_visible()
    page.locator("#guide-table a.evidence").first.click()
    assert page.url.endswith("options/pytorch.html#performance")


@pytest.fixture
def server(site: Path, tmp_path: Path) -> Iterator[str]:
    """The site under a sub-path, as GitHub Pages has it."""
    (tmp_path / "sub").symlink_to(site)
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/sub/"
        running.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_site_works_under_a_sub_path(browser: Browser, server: str) -> None:
    page = browser.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("response", lambda answer: problems.append(answer.url) if answer.status >= 400 else None)
    page.on("request", lambda one: None if one.url.startswith((server, "data:")) else problems.append(one.url))
    page.goto(server)
    page.get_by_role("link", name="English").click()
    page.get_by_role("link", name="The guide's table").click()
    page.locator("#guide-table a.evidence").first.click()
    page.locator("#language").click()
    assert page.url == f"{server}zh/options/pytorch.html"
    page.wait_for_load_state()
    assert page.locator("html").evaluate("root => root.classList.contains('scripted')")
    assert problems == []
    page.close()


# Hostile text


EVIL = f"\"'&</style></title></textarea>{HOSTILE}\u202e\x07"


def test_hostile_text_is_shown_and_never_run(browser: Browser, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", hostile=True)
    for name in ("cells", "environment"):
        frame = store.read_table(run, name)
        if name == "environment":
            frame.loc[frame["key"] == "cpu", "value"] = EVIL
        else:
            frame["run_id"] = "run"
            frame["target"] = EVIL
        store.write_table(run, name, frame.astype(object).where(frame.notna(), None).to_dict("records"))
    bad = evidence.load([run], MATRICES)
    text = Text(en=EVIL, zh=EVIL)
    check = Check.model_validate(
        {"check": "faster_than", "kind": "measured", "because": text, "threshold": 1.0, "baseline": EVIL}
    )
    finding = Finding(
        Verdict.REFUTED, text, EVIL, EVIL, 1.0, 0.9, 1.1, 1.0, EVIL, (EVIL, f"run/probes:{EVIL}/x"),
        datetime.date(2026, 1, 1),
    )  # fmt: skip
    judged = []
    for one in bad.judged:
        table = one.claim.table and one.claim.table.model_copy(
            update={"quote": EVIL, "english": EVIL, "difference": text}
        )
        claim = one.claim.model_copy(
            update={
                "quote": EVIL, "english": EVIL, "reading": text, "supports": text, "refutes": text, "needs": text,
                "checks": (check,), "table": table, "section": EVIL,
            }
        )  # fmt: skip
        judged.append(replace(one, claim=claim, verdict=finding, findings=((check, finding),)))
    facts = bad.facts.model_copy(update={"title": EVIL, "source": EVIL})
    lint = replace(bad.lints[0], text=text, rows=(EVIL,))
    printed = tuple(replace(one, verdict=finding, findings=((check, finding),)) for one in bad.published)
    bad = replace(bad, judged=tuple(judged), published=printed, facts=facts, lints=(lint,))
    files = pages.render(bad)
    assert "\u202e" not in "".join(files.values())
    site = write_pages(files, tmp_path / "site")
    watch = Watch(browser, site / "index.html", width=375)
    dialogs: list[str] = []

    def dismiss(dialog: Any) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    watch.page.on("dialog", dismiss)
    for language in LANGUAGES:
        for name in ("index", "guide", "general", "measurements", "published", "method", "recommend", "options/onnx"):
            watch.page.goto((site / language / f"{name}.html").as_uri())
            assert watch.page.evaluate("window.hacked") is None
            assert "<script>window.hacked=1</script>" in watch.page.locator("body").inner_text(), name
            assert watch.page.locator("img").count() == 0
            assert watch.page.evaluate("document.documentElement.scrollWidth") <= 375, name
    assert dialogs == []
    assert watch.complaints == []
    assert watch.outside() == []


def _orders(page: Page, column: int) -> list[str]:
    cells = page.locator(f"#guide-table tbody tr > :nth-child({column})")
    return [str(value) for value in cells.evaluate_all("all => all.map(cell => cell.dataset.order)")]


def _resolved(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
