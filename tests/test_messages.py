"""Messages that arise in English, recognised and said in Chinese."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import bench

from bench.places import MATRICES, ROOT
from bench.reasons import CellProblem, Problems, Reason, UsageError
from bench.words import messages as module
from bench.words.locale import asked, load
from bench.words.messages import Form, form, messages

ENGLISH = load(module.TEXTS)["en"].strings
CHINESE = re.compile("[\N{CJK UNIFIED IDEOGRAPH-4E00}-\N{CJK UNIFIED IDEOGRAPH-9FFF}]")
SENTENCE = re.compile(r"(?:\b[A-Za-z][a-z']+ ){4,}[a-z']+")
"""Five words of English after one another."""
RAISED = {"UsageError", "StoreError", "CellProblem", "Remark", "Problems", "add", "message", "phase", "timed", "Check"}
"""Calls that are given a message."""
TOLD = (
    "cli/habits.py", "cli/options.py", "cli/app.py", "cli/gate.py", "engine.py", "files.py", "grid/request.py",
    "measure/inspection.py", "measure/session.py", "measure/checkup.py", "measure/prepare.py",
    "store/finding.py", "tasks/datafile.py", "tasks/images.py", "tasks/dataset.py", "tasks/detect/labels.py",
    "fleet/cluster.py", "fleet/crew.py", "fleet/depot.py", "fleet/dispatch.py", "fleet/jobs.py", "fleet/tags.py",
    "wall/moving.py", "measure/resuming.py", "store/before.py", "tasks/instances.py", "report/submission.py",
    "wall/checkpoint.py", "wall/datasets.py", "decide/compare.py", "decide/deploy/candidates.py",
    "decide/deploy/recommend.py", "report/page.py", "report/photo.py",
    "check/bisect.py", "check/holding.py", "check/plan.py", "check/selfcheck.py", "check/states.py", "cli/export.py",
    "cli/bisect.py", "cli/history.py", "decide/claims/tables.py", "environments/houses.py", "environments/locked.py",
    "history/reading.py", "measure/calibration.py", "measure/contestants.py", "measure/tools.py", "measure/trials.py",
    "probes/command.py", "probes/runner.py", "report/annotated/notes.py", "report/tracking.py", "site/pages.py",
    "store/baselines.py", "store/calibration.py", "store/looks.py", "store/pairs.py", "store/selfcheck.py",
)  # fmt: skip
"""Modules whose every message is said in Chinese: what people meet who use the commands."""


def literals(tree: ast.AST) -> Iterator[str]:
    """Every text of a module, what is filled in replaced by a 7, which may stand for a number and for a name."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) not in inside and (text := written(node)) is not None:
            yield text


def written(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def said(tree: ast.AST) -> Iterator[str]:
    """The messages of a module: what such calls are given, and what is called `text` or `remedy` before."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = [written(argument) for argument in node.args] if name in RAISED else []
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("text", "remedy"):
            given = [written(node.value)]
        else:
            continue
        yield from (text for text in given if text is not None and len(text.split()) > 2 and text[:4] != "yolo")


def test_every_message_of_the_modules_that_a_newcomer_meets_is_said_in_chinese() -> None:
    say = messages("zh")
    missing = [
        f"{path}: {text}"
        for path in TOLD
        for text in said(ast.parse((ROOT / "bench" / path).read_text(encoding="utf-8")))
        if not say.knows(text)
    ]
    assert not missing, "give each a key in reports/locale/messages"


def test_every_english_form_is_one_that_the_code_has() -> None:
    """Else a message was reworded and is shown in English, unnoticed.  What libraries say stands under `foreign`.

    A message may be put together from several texts of the code; those between its gaps must each be there.
    """
    files = (ROOT / "bench").rglob("*.py")
    code = "\n".join(text for path in files for text in literals(ast.parse(path.read_text(encoding="utf-8"))))
    gone = [
        f"{key}: {piece}"
        for key, text in ENGLISH.items()
        for piece in (part.strip(" :.;,()'") for part in form(key, text).texts)
        if len(piece) > 4 and piece not in code and not key.startswith("foreign.")
    ]
    assert not gone


@pytest.mark.parametrize("key", ENGLISH)
def test_a_message_is_told_from_all_others(key: str) -> None:
    """Filled with the same word everywhere, it is recognised as itself, or as one that says the same in more words."""
    one = form(key, ENGLISH[key])
    message = "".join(f"{text}{'7' if place < len(one.gaps) else ''}" for place, text in enumerate(one.texts))
    assert messages("zh")(message) == messages("zh").locale(key, **dict.fromkeys(one.gaps, "7"))


def test_gaps_are_apart_and_the_words_around_them_are_many_enough() -> None:
    """Two gaps beside each other could not be told apart; a form of a few letters would be found everywhere."""
    for key, text in ENGLISH.items():
        one = form(key, text)
        assert all(one.texts[1:-1]), key
        assert not one.gaps or one.weight >= 4 or all(name.partition("_")[0] == "n" for name in one.gaps), key


def test_what_fills_a_gap_is_said_too_and_what_is_unknown_stays() -> None:
    say = messages("zh")
    told = say("--model 7.pt: no such file. Give the path of an Ultralytics detect checkpoint (.pt), or leave --model "
               "and --data out to use the embedded demo model")  # fmt: skip
    assert told.startswith("--model 7.pt：没有这个文件。")
    assert say("options: unknown onxx (did you mean onnx?); allowed: onnx, openvino") == (
        "options：未知的 onxx（是不是想写 onnx？）；可用：onnx, openvino"
    )
    absent = (
        "Intel NPU not found: no /sys/class/accel. It needs an Intel Core Ultra processor with the NPU driver, "
        "visible as /dev/accel/accel*."
    )
    assert say(absent).startswith("没有找到 英特尔 NPU：没有 /sys/class/accel。需要装有 NPU 驱动的")
    assert say("RuntimeError: nobody has ever said this") == "RuntimeError: nobody has ever said this"
    assert messages("en")(absent) == absent


def test_several_problems_are_said_line_by_line() -> None:
    several = str(
        Problems(["a.yaml has neither 'names' nor 'nc'; add 'names:' with one entry per class", "unheard of"])
    )
    assert messages("zh")(several).split("\n") == [
        "共 2 个问题：",
        "  a.yaml 既没有 'names' 也没有 'nc'；请加上 'names:'，每个类别一项",
        "  unheard of",
    ]


@pytest.mark.parametrize(
    ("message", "filled"),
    [
        ("7 of 9 rows", {"n": "7", "n_all": "9"}),
        ("some of 9 rows", None),
        ("7 of 9 rows, and more", None),
        ("7 of rows", None),
        (
            "1 234 of 9.5 rows".replace(" ", "\N{NARROW NO-BREAK SPACE}", 1),
            {"n": "1\N{NARROW NO-BREAK SPACE}234", "n_all": "9.5"},
        ),
    ],
)
def test_a_form_finds_its_gaps(message: str, filled: dict[str, str] | None) -> None:
    assert form("key", "{n} of {n_all} rows").filled(message) == filled


def test_a_form_needs_room_for_both_its_ends() -> None:
    """The end of the first text may not be the beginning of the last."""
    assert Form("key", ("aba", "aba"), ("x",)).filled("ababa") is None
    assert Form("key", ("aba", "aba"), ("x",)).filled("abaaba") == {"x": ""}


@pytest.mark.parametrize(
    ("arguments", "language"),
    [
        (["show", "--lang", "zh"], "zh"), (["show", "--lang=en"], "en"), (["--lang"], "fr"), (["--lang", "auto"], "fr"),
        (["show"], "fr"),
    ],
)  # fmt: skip
def test_an_error_is_told_in_the_language_that_was_asked_for(
    arguments: list[str], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.words.locale.preferred", lambda: "fr")
    assert asked(arguments) == language


def test_an_unknown_text_of_a_cell_comes_with_what_its_reason_means() -> None:
    from bench.cli.complaints import told

    unheard = CellProblem(Reason.EXPORT_FAILED, "RuntimeError: unheard of")
    assert told(unheard, "zh").startswith("export_failed：导出程序报错")
    assert told(unheard, "zh").endswith("\nRuntimeError: unheard of")
    assert told(unheard, "en") == str(unheard)
    assert told(UsageError("unheard of"), "zh") == "unheard of"


WRONG = [
    ("run", "--optoins", "onnx"), ("rnu",), ("check",), ("run", "--lang", "fr"), ("recommend", "--max-size", "small"),
    ("show", "one", "two"), ("show", "--format"), ("list", "--sweep", "smok"), ("list", "--options", "onxx"),
    ("list", "--precisions", "in8"), ("list", "--imgsz", "100"), ("list", "--imgsz", "big"), ("list", "--options", ","),
    ("run", "half=maybe"), ("run", "device=tpu"), ("run", "--run-id", "a/b"), ("inspect", "--model", "none.pt"),
    ("show", "no-such-run"), ("recommend", "--max-map-loss", "-1", "coco128-640-cpu"),
    ("recommend", "--threads", "99", "coco128-640-cpu"), ("check", "--against", "nobody"), ("ab", "--candidate", "x"),
    ("list", "--options", "tensorrt", "--precisions", "bf16"), ("run", "--resume", "r", "--run-id", "s"),
    ("run", "--resume", "no-such-run"), ("export", "submission", "coco128-640-cpu", "onnx-fp32"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_what_a_newcomer_does_wrong_is_told_in_chinese(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Names of commands, options and values stay; nothing else is English."""
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.chdir(tmp_path)
    done = bench(*arguments)
    assert done.code == 2, done.said
    assert CHINESE.search(done.said), done.said
    assert not SENTENCE.search(done.said), done.said


def test_targets_and_sweeps_have_their_words_in_both_languages() -> None:
    """What a matrix says to people is said in Chinese beside it."""
    for path in [MATRICES / "targets.toml", *(MATRICES / "sweeps").glob("*.toml")]:
        text = path.read_text(encoding="utf-8")
        for key in ("needs", "description"):
            assert len(re.findall(rf"^{key} = ", text, re.MULTILINE)) == len(
                re.findall(rf"^{key}_zh = ", text, re.MULTILINE)
            ), path
