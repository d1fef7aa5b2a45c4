"""What the commands around a measurement print, in both languages: A/B, baselines, calibration, self-check, probes."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from report_fixture import write_run
from rich.cells import cell_len
from rich.console import Console
from running import bench

from bench import store
from bench.check.selfcheck import SelfCheck
from bench.grid import machine, matrix
from bench.grid.metrics import BISECTED
from bench.grid.request import Request
from bench.grid.tolerances import load
from bench.measure.facts import _WORDS
from bench.places import MATRICES, ROOT
from bench.probes.observation import Outcome
from bench.report import calibration, change
from bench.stats.change import Change
from bench.store.calibration import GUEST, Turn
from bench.store.selfcheck import files
from bench.words.locale import texts
from bench.words.messages import messages

ENGLISH = re.compile(r"\b[a-z]{2,}(?:,? [a-z]+){2,}\b")
"""Three words of English after one another."""
EN, ZH = texts("terminal", "en"), texts("terminal", "zh")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("spoken") / "run")


def outcome(language: str, decided: Change, columns: int = 120) -> str:
    stage = {"pairs": 7, "ratio": 1.0834, "low": 1.0712, "high": 1.0958, "sd": 0.0132, "visible": 0.021}
    side = {"label": "onnxruntime==1.24.4", "p50_ms": 41.26, "huge_mb": 96.4}
    told = {
        "cell": "demo/onnx-fp32-cpu-320-b1-t1", "change": decided.value, "words": _WORDS[decided], "screen": stage,
        "confirm": None, "sides": {"base": side, "candidate": side}, "margin": 0.05, "pages": "huge",
    }  # fmt: skip
    out = io.StringIO()
    change.print_outcome(told, Console(file=out, width=columns), texts("terminal", language))
    return out.getvalue()


@pytest.mark.parametrize("decided", Change)
def test_every_outcome_of_an_ab_has_its_words(decided: Change) -> None:
    said = outcome("zh", decided)
    assert not ENGLISH.search(said), said
    assert f"：{ZH(f'ab.change.{decided}')}，" in said
    assert "初筛" in said
    assert "[1.0712, 1.0958]" in said
    assert "onnxruntime==1.24.4  中位 41.26 毫秒" in said
    said = outcome("en", decided)
    assert said.startswith(f"demo/onnx-fp32-cpu-320-b1-t1: {decided}, {_WORDS[decided]}\n")
    assert "base       onnxruntime==1.24.4  p50 41.26 ms, 96 MB on huge pages" in said


@pytest.mark.parametrize("columns", [80, 120])
def test_an_outcome_is_as_wide_as_the_terminal(columns: int) -> None:
    said = outcome("zh", Change.REGRESSED, columns)
    assert max(map(cell_len, said.splitlines())) <= columns
    assert "…" not in said


def test_a_calibration_has_titles_in_both_languages() -> None:
    turns = [Turn("onnx-fp32-cpu-320", tool, n, 0, 10.0, 8.0, 40) for tool in (GUEST, "bare loop") for n in range(3)]

    def titles(language: str) -> str:
        out = io.StringIO()
        calibration.print_rows(calibration.rows(turns), Console(file=out, width=120), texts("terminal", language))
        return out.getvalue().splitlines()[0]

    assert titles("en").split("  ")[0] == "cell"
    assert "guest / tool" in titles("en")
    assert "进程 / 工具" in titles("zh")
    assert not re.search("[a-z]", titles("zh"))


def test_a_self_check_is_shown_in_chinese(tmp_path: Path) -> None:
    """A recorded one, as if it were of this kind of machine."""
    recorded = files(ROOT / "results" / "self-check")[0]
    own = tmp_path / "self-check" / f"{machine.machine_id()}.parquet"
    own.parent.mkdir()
    shutil.copy(recorded, own)
    shown = ["self-check", "--show", "--results", tmp_path / "runs"]
    done = bench(*shown, "--lang", "zh")
    assert "误报：单元与自身比较" in done.said
    assert f"配对数据  {own}" in done.said
    assert not ENGLISH.search(done.said), done.said
    english = bench(*shown, "--lang", "en")
    assert english.code == done.code
    assert "False alarms: a cell against itself" in english.said


def test_why_a_self_check_is_outdated_is_known_in_chinese(tmp_path: Path) -> None:
    asked = SelfCheck(Request({"results": str(tmp_path / "runs")}), huge=False)
    judged = asked._to_judge()
    say, told = messages("zh"), set()
    for other in (None, {**judged, "rule": "another"}, {**judged, "margins": {}}, {**judged, "night": {}},
                  {**judged, "pairs": 7}):  # fmt: skip
        asked._facts = {"judged": other}
        told.add(say(asked.outdated))
    assert len(told) == 5
    assert not [text for text in told if ENGLISH.search(text)]


def test_baselines_are_listed_in_chinese(tmp_path: Path) -> None:
    def write(own: str) -> None:
        keys = ("when", "who", "run_id", "model_sha256", "images", "data_sha256", "sweep", "model", "data", "task",
                "commit", "house")  # fmt: skip
        facts = dict.fromkeys(keys, "x") | {
            "name": "main",
            "machine": own,
            "why": "升级之前 {braces}",
            "identities": {},
        }
        folder = tmp_path / own / "main"
        folder.mkdir(parents=True)
        (folder / "baseline.json").write_text(json.dumps(facts), encoding="utf-8")

    for one in (machine.machine_id(), "another"):
        write(one)
    done = bench("baseline", "list", "--baselines", tmp_path, "--lang", "zh")
    assert done.code == 0, done.said
    (own,) = [line for line in done.said.splitlines() if line.startswith(machine.machine_id())]
    (other,) = [line for line in done.said.splitlines() if line.startswith("another")]
    assert own.endswith("（本机）  main  x  x  x：升级之前 {braces}")
    assert "本机" not in other
    assert " (this machine)  main" in bench("baseline", "list", "--baselines", tmp_path, "--lang", "en").said


def test_exports_and_probes_say_in_chinese_what_they_wrote(run: Path, tmp_path: Path) -> None:
    done = bench("export", "badge", run, "--out", tmp_path / "badge.svg", "--lang", "zh")
    assert done.code == 0, done.said
    assert done.said.startswith(f"徽章  {tmp_path / 'badge.svg'}：demo on cpu, ")
    done = bench("probe", run, "--only", "packages", "--lang", "zh")
    assert done.code == 0, done.said
    assert f"结果  {run}" in done.said
    assert not ENGLISH.search(done.said), done.said


def test_what_was_observed_in_the_recorded_run_is_said_in_chinese() -> None:
    """But for what a library, an installer, a compiler's list or a trace of calls said, which is quoted."""
    table = store.read_table(ROOT / "results" / "reference" / "coco128-640-guide", "probes")
    ours = table[~table.probe.isin(["devices", "operators", "data_only"]) & (table.outcome != "unavailable")]
    say, quoted = messages("zh"), "name looked up"
    said = {text: say(text) for text in ours.text if quoted not in text}
    assert len(said) > 15
    assert not [told for told in said.values() if ENGLISH.search(told)]
    assert all(say(text).startswith("文件按内容分为：") for text in table[table.probe == "data_only"].text)
    assert say("in the compiler's list, within limits: some are left out to keep precision").startswith(
        "在编译器的列表中，但有限制：some"
    )
    assert say("TensorFlow lists CPU (packages of the environment tf)").endswith("环境 tf 的软件包）")
    assert say("package @tensorflow/tfjs 4.22.0; not measured in this run").endswith("；本次运行未测量")


@pytest.mark.parametrize("outcome", Outcome)
def test_what_a_probe_sees_has_its_word(outcome: Outcome) -> None:
    assert EN(f"probe.{outcome}") == outcome.value
    assert ZH(f"probe.{outcome}") != outcome.value


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "badge", "RUN", "--out", "badge.png"),
        ("export", "badge", "RUN", "--of", "check", "--out", "badge.svg"),
        ("probe", "RUN", "--only", "packagse"),
        ("lock", "no-such-family", "--matrices", "matrices"),
        ("baseline", "promote", "RUN", "--name", "a/b", "--why", "x"),
        ("baseline", "promote", "RUN", "--name", "main", "--why", " "),
        ("self-check", "--show", "--results", "none/runs"),
        ("self-check", "--sweep", "smok"),
        ("calibrate", "--options", "tfjs"),
        ("bisect", "--good", "1.0", "--metric", "latenzy"),
        ("annotate", "RUN", "--document", "none.md"),
        ("claims", "RUN", "--document", "file"),
        ("site", "RUN", "--out", "file"),
        ("site", "RUN", "--out", "full"),
    ],
    ids=" ".join,
)
def test_what_these_commands_refuse_is_told_in_chinese(
    arguments: tuple[str, ...], run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(MATRICES, tmp_path / "matrices")
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    done = bench(*(run if word == "RUN" else word for word in arguments))
    assert done.code == 2, done.said
    assert re.search("[\N{CJK UNIFIED IDEOGRAPH-4E00}-\N{CJK UNIFIED IDEOGRAPH-9FFF}]", done.said), done.said
    assert not re.search(r"(?:\b[A-Za-z][a-z']+ ){4,}[a-z']+", done.said), done.said


def test_metrics_that_can_be_bisected_are_those_that_have_a_margin_and_the_status() -> None:
    assert set(BISECTED) == {*load(MATRICES), "status"}
    told = bench("bisect", "--help").said
    assert all(name in told for name in BISECTED)


def test_a_target_that_is_not_there_is_told_with_the_words_that_runs_are_read_by() -> None:
    absent = {
        name: found for name, target in matrix.load_targets().items() if not (found := machine.detect(target)).found
    }
    assert absent, "no machine has every target"
    assert all(machine.NOT_FOUND in one.text for one in absent.values())
