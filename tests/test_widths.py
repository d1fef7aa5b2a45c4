"""Tables on the terminal at 60, 80 and 120 columns: no line too long, no figure broken, and plain text in a pipe."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console
from running import bench

from bench.places import RECORDED
from bench.words.fitted import print_folded
from bench.words.locale import LANGUAGES
from bench.words.numbers import MINUS

RUN = RECORDED / "coco128-640-guide"
INTERVAL = re.compile(rf"\[[{MINUS}+]?\d+\.\d+,\s[{MINUS}+]?\d+\.\d+\]")
WIDTHS = (60, 80, 120)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", ["show", "recommend"])
def test_what_a_run_says_fits_and_no_figure_is_broken(command: str, width: int, language: str) -> None:
    done = bench(command, RUN, "--lang", language, columns=width)
    assert done.code == 0, done.said
    lines = done.said.splitlines()
    assert [line for line in lines if cell_len(line) > width] == []
    assert [line for line in lines if line.count("[") != line.count("]")] == []
    assert INTERVAL.search(done.said)
    assert "\N{HORIZONTAL ELLIPSIS}" not in done.said
    assert "\x1b" not in done.said


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_sweep_s_cells_are_listed_whole(width: int, language: str) -> None:
    done = bench("list", "--sweep", "guide", "--lang", language, columns=width)
    assert done.code == 0, done.said
    assert [line for line in done.said.splitlines() if cell_len(line) > width] == []
    cells = {line.split()[0] for line in done.said.splitlines() if line.strip()}
    assert {"tflite-int8-full-cpu-640", "edgetpu-int8-full-edgetpu-proxy-640"} <= cells
    assert "\N{HORIZONTAL ELLIPSIS}" not in done.said
    assert "\x1b" not in done.said


def test_sentences_break_between_words_and_characters_and_keep_intervals_and_blanks() -> None:
    console = Console(width=20, file=io.StringIO())
    with console.capture() as capture:
        print_folded("  它的耗时是 OpenVINO INT8 的 1.177 [1.152,\N{NO-BREAK SPACE}1.203]，可选。", console)
    lines = capture.get().splitlines()
    assert lines == ["  它的耗时是", "  OpenVINO INT8 的", "  1.177", "  [1.152,\N{NO-BREAK SPACE}1.203]，可", "  选。"]


def test_what_is_longer_than_a_line_is_cut_there() -> None:
    console = Console(width=10, file=io.StringIO())
    with console.capture() as capture:
        print_folded("a /abcdefghijklmno b", console)
    assert capture.get().splitlines() == ["a", "/abcdefghi", "jklmno b"]
