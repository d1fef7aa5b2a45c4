"""Chinese throughout: every text has its words, the report and the commands have no English sentence left."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_fixture import write_run
from rich.cells import cell_len
from rich.console import Console
from running import bench
from typer.testing import CliRunner

from bench.cli import app as cli
from bench.decide.gate import Line, Verdict
from bench.grid import matrix
from bench.places import REPORTS, ROOT
from bench.report import build
from bench.report import check as checks
from bench.report.checked import SELF_CHECKS
from bench.report.inspection import print_inspection
from bench.stats import Interval
from bench.store import pairs, reading
from bench.words.locale import texts

ENGLISH = re.compile(r"\b[a-z]{2,}(?:,? [a-z]+){2,}\b")
"""Three words of English after one another."""
QUOTED = {
    "cause": "what a runtime, an exporter or an installer said, quoted",
    "facts": "facts as they were recorded, and keys of the tables",
    "attestation-table": "what runtimes attest, in their words",
}
"""Where the Chinese report may show English, by the class or id of an element around it, and why."""
CATALOGUES = ("terminal", "report", "recommend", "site", "annotations")
COVERED = ("terminal", "report")
CODE = [*(ROOT / "bench").rglob("*.py")]
TEMPLATES = [*(REPORTS / "templates").rglob("*.j2")]
AGAINST = "baseline main"


def test_every_note_of_a_precision_is_said_in_chinese() -> None:
    precisions = {
        f"{option.id} {name}": precision
        for option in matrix.load().options.values()
        for name, precision in option.precisions.items()
    }
    assert [name for name, one in precisions.items() if one.note and not one.note_zh] == []


# -- the catalogues ----------------------------------------------------------------------------------------------------


def constants(node: ast.AST) -> Iterator[str]:
    return (str(one.value) for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str))


def asked_for() -> Iterator[tuple[str, str]]:
    """Ids that code and templates ask for a text by, with where; of one that is put together its beginning."""
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and called(node) in ("t", "locale", "t.count", "_one"):
                first = node.args[0]
                if isinstance(first, ast.JoinedStr):
                    head = first.values[0]
                    if isinstance(head, ast.Constant):
                        yield f"{head.value!s}*", path.name
                elif isinstance(first, ast.Constant | ast.IfExp):
                    choices = [first] if isinstance(first, ast.Constant) else [first.body, first.orelse]
                    yield from ((str(one.value), path.name) for one in choices if isinstance(one, ast.Constant))
    for path in TEMPLATES:
        for key, more in re.findall(r"\b(?:t|rich|t\.count)\(\"([a-z0-9_.]+)\"( ~)?", path.read_text(encoding="utf-8")):
            yield f"{key}*" if more else key, path.name


def called(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return f"{owner}.{name}"
    return ""


def test_every_text_that_is_asked_for_is_there_in_chinese() -> None:
    """Loading a catalogue has held the two languages against each other, so what is here is in English as well."""
    known = {key for name in CATALOGUES for key in texts(name, "zh").strings}
    known |= {key.removesuffix(".one") for key in known}  # what `count` adds
    absent = {
        f"{where}: {key}"
        for key, where in asked_for()
        if (key not in known if key[-1] != "*" else not any(one.startswith(key[:-1]) for one in known))
    }
    assert not absent


@pytest.mark.parametrize("name", COVERED)
def test_every_text_that_is_there_is_used(name: str) -> None:
    written = {text for path in CODE for text in constants(ast.parse(path.read_text(encoding="utf-8")))}
    written |= {
        found for path in TEMPLATES for found in re.findall(r'"([a-z0-9_.]+)"', path.read_text(encoding="utf-8"))
    }
    beginnings = ("reason.", *(key[:-1] for key, _ in asked_for() if key[-1] == "*" and len(key) > 1))
    unused = [
        key
        for key in texts(name, "zh").strings
        if not written & {key, re.sub(r"[._](one|more)$", "", key)} and not key.startswith(beginnings)
    ]
    assert not unused


# -- the report --------------------------------------------------------------------------------------------------------


class Visible(HTMLParser):
    """Texts that a reader of a page sees or is read, each with the classes of the elements around it."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[tuple[str, set[str]]] = []
        self._open: list[tuple[str, set[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        around = self._around() | set((named.get("class") or "").split())
        self.texts += [(value, around) for name in ("title", "aria-label", "alt") if (value := named.get(name))]
        if tag not in ("meta", "link", "br", "img", "input", "use", "rect", "path", "circle", "image"):
            self._open.append((tag, around | {named.get("id") or ""}))

    def handle_endtag(self, tag: str) -> None:
        while any(name == tag for name, _ in self._open) and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip() and not {name for name, _ in self._open} & {"script", "style", "code"}:
            self.texts.append((" ".join(data.split()), self._around()))

    def _around(self) -> set[str]:
        return self._open[-1][1] if self._open else set()


def facts() -> dict[str, Any]:
    """A check that something was found by, of a machine whose self-check is recorded."""
    ratio = Interval(1.081, 1.062, 1.1)
    lines = [
        Line("demo/onnx-fp32-cpu-320-b1-t2", "latency", Verdict.WORSE, 10.0, 10.8, ratio, 0.03, 0.02),
        Line(
            "demo/onnx-int8-cpu-320-b1-t2",
            "latency",
            Verdict.UNDECIDED,
            9.0,
            9.1,
            None,
            0.03,
            0.021,
            "seen, not confirmed",
        ),
        Line(
            "demo/openvino-fp32-cpu-320-b1-t2", "status", Verdict.INCOMPARABLE, why="the base does not have this cell"
        ),
    ]
    machine = next(SELF_CHECKS.glob("*.parquet")).stem
    return checks.facts_of(lines, AGAINST, machine=machine, notes=["3.2 minutes."], operators={})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("chinese") / "run")
    pairs.write_facts(folder / pairs.CHECK, facts())
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return build(run, run / "report.zh.html", language="zh").read_text(encoding="utf-8")


def test_the_chinese_report_has_no_english_sentence_that_is_not_quoted(page: str) -> None:
    seen = Visible()
    seen.feed(page)
    assert len(seen.texts) > 500, "the whole page was read"
    english = [text for text, around in seen.texts if ENGLISH.search(text) and not around & QUOTED.keys()]
    assert not english


def test_the_chinese_report_has_what_the_english_one_has(page: str, run: Path) -> None:
    """Tables, figures and anchors are the same; only words differ."""
    english = build(run, run / "report.en.html").read_text(encoding="utf-8")
    for what in (r"<h[1-4]", r"<tr", r"<svg", r'<a href="#[a-z]+"', r"<dt>", r"<th scope"):
        assert len(re.findall(what, page)) == len(re.findall(what, english)), what
    assert '<html lang="zh">' in page
    assert '<html lang="en">' in english
    assert "。 " not in re.sub(r"<style.*?</style>|<script.*?</script>", "", page, flags=re.DOTALL), (
        "a full stop has its room"
    )


def test_what_cells_lack_is_said_in_chinese(page: str) -> None:
    """The fixture's reasons are invented; those that the bench gives itself are known."""
    assert "已跳过" in page
    assert texts("terminal", "zh")("reason.target_absent") in page


def test_figures_are_drawn_without_a_warning_about_glyphs(run: Path, recwarn: pytest.WarningsRecorder) -> None:
    build(run, run / "again.html", language="zh")
    assert not [one for one in recwarn if "Glyph" in str(one.message)]


# -- the commands ------------------------------------------------------------------------------------------------------


def bordered(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(("│", "┃", "┏", "└", "┡", "┌"))]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_list_of_cells_fits_any_width(columns: int) -> None:
    done = bench("list", "--lang", "zh", columns=columns)
    assert done.code == 0, done.said
    assert "…" not in done.said, "rich cuts what it takes for one long word"
    assert max(map(cell_len, done.said.splitlines())) <= columns
    assert "可运行" in done.said
    assert not ENGLISH.search(done.said), done.said


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_tables_of_doctor_are_whole_at_any_width(columns: int) -> None:
    done = bench("doctor", "--lang", "zh", columns=columns)
    assert done.code == 0, done.said
    assert "…" not in done.said, "rich cuts what it takes for one long word"
    rows = bordered(done.said)
    assert rows
    assert {cell_len(row) for row in rows if row.startswith("│")} <= {
        cell_len(row) for row in rows if row.startswith("└")
    }
    assert max(map(cell_len, rows)) <= columns
    assert not ENGLISH.search(done.said), done.said


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("command", ["show", "recommend"])
def test_a_run_is_shown_without_english(run: Path, command: str, columns: int) -> None:
    done = CliRunner(env={"COLUMNS": str(columns)}).invoke(cli.app, [command, str(run), "--lang", "zh"])
    assert done.exit_code == 0, done.output
    quoted = {cell.reason for cell in reading.load(run).cells}
    left = " ".join(done.output.split())
    for words in sorted((" ".join(reason.split()) for reason in quoted), key=len, reverse=True):
        left = left.replace(words, "") if words else left
    assert not ENGLISH.search(left), left


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_check_is_printed_whole(columns: int, language: str) -> None:
    out = io.StringIO()
    t = texts("terminal", language)
    checks.print_check(facts(), Console(file=out, width=columns), t, everything=True)
    said = out.getvalue()
    assert "…" not in said
    assert max(map(cell_len, said.splitlines())) <= columns
    assert "1.081" in said
    if language == "zh":
        assert said.startswith("有退化（对照：基线 main）：变差 1、未定 1、不可比 1")
        assert "已发现，未得到确认；本可发现 2.1 % 的变慢" in "".join(said.split("\n")).replace(" ", " ")
        assert not ENGLISH.search(said)


def test_markdown_of_a_check_is_chinese() -> None:
    said = checks.markdown(facts(), texts("terminal", "zh"))
    assert "| 单元 | 指标 | 结论 |" in said
    assert not ENGLISH.search(said)


def test_the_comparison_is_exported_with_chinese_titles(run: Path) -> None:
    done = CliRunner().invoke(cli.app, ["show", str(run), "--format", "markdown", "--lang", "zh"])
    assert done.exit_code == 0, done.output
    assert "速度比（" in done.output.replace(" (", "（")


INSPECTED: dict[str, Any] = {
    "models": [{
        "name": "best", "file": "best.pt", "task": "detect", "classes": ["gear", "bolt"], "channels": 3, "stride": 32,
        "head": "Detect", "end_to_end": False, "parameters": 2_600_000, "architecture": "yolo11n", "trained_imgsz": 640,
        "written_by": "8.4.190 2026-01-01", "sha256": "0" * 64,
    }],
    "data": {
        "file": "data.yaml", "split": "val",
        "images": {"found": 1200, "read": 8, "with_objects": 7, "empty_label_file": 1},
        "label_files": {"boxes": 6, "polygons": 1}, "annotations": None, "crowd_regions": 0,
        "objects": 21, "classes": 2, "seen": {"gear": 20, "bolt": 1},
        "sizes": {"smallest": [32, 48], "largest": [640, 480], "different": 2}, "sha256": "",
    },
    "calibration": {"images": 64, "taken": 16, "evaluated_too": 2},
    "warnings": [
        {"name": "copies", "count": 2, "text": "2 of 8 images are copies of others in the split, and each counts."},
    ],
    "problems": ["data.yaml, line 3: 'nc: 3' but 'names' has 2 entries; make them agree"],
}  # fmt: skip


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_an_inspection_is_told_in_chinese(columns: int) -> None:
    out = io.StringIO()
    print_inspection(INSPECTED, Console(file=out, width=columns), texts("terminal", "zh"))
    said = out.getvalue()
    assert "…" not in said
    assert "val 中 1 200 张，读取了其中 8 张".replace("1 200", "1\N{NARROW NO-BREAK SPACE}200") in said
    assert "6 个文件为边界框、1 个文件为多边形" in said
    assert "从 64 张训练图像中取 16 张，其中 2 张也参与评测" in said
    assert "data.yaml 第 3 行：'nc: 3'，而 'names' 有 2 项；请使两者一致" in said
    assert "8张图像中有2张与其他图像完全相同" in "".join(said.split())
    assert not ENGLISH.search(said)


def test_official_annotations_are_told_in_chinese() -> None:
    """In the place of label files, of which nothing is said then."""
    official = {"annotations": "instances.json", "crowd_regions": 3, "label_files": {}}
    images = INSPECTED["data"]["images"] | {"empty_label_file": 0}
    out = io.StringIO()
    facts = INSPECTED | {"data": INSPECTED["data"] | official | {"images": images}}
    print_inspection(facts, Console(file=out, width=120), texts("terminal", "zh"))
    said = out.getvalue()
    assert "21 个标注，其中有 3 个密集区域；instances.json" in said
    assert "1 张图像没有目标\n" in re.sub(" +\n", "\n", said)
    assert "标注文件" not in said
    assert not ENGLISH.search(said)
