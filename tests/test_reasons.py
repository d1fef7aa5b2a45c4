"""What is said about names that nobody knows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from running import bench

from bench.reasons import did_you_mean

KNOWN = ("onnx", "openvino", "tflite", "tflite-runtime", "ncnn")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["onxx"], " (did you mean onnx?)"),
        (["opnvino"], " (did you mean openvino?)"),
        (["tflite-runtim"], " (did you mean tflite-runtime?)"),
        (["onxx", "ncn"], " (did you mean onnx, ncnn?)"),
        (["onxx", "onxn"], " (did you mean onnx?)"),
        (["onxx", "tensorrt"], " (did you mean onnx?)"),
        (["tensorrt"], ""),
        ([""], ""),
        ([], ""),
    ],
)
def test_a_name_like_a_known_one_is_asked_about_once(names: Sequence[str], said: str) -> None:
    assert did_you_mean(names, KNOWN) == said


def test_nothing_known_is_like_nothing() -> None:
    assert did_you_mean(["onnx"], ()) == ""
    assert did_you_mean(["onnx"], iter(KNOWN)) == " (did you mean onnx?)", "known names may come one by one"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sweep", "smok"), "did you mean smoke?"),
        (("--options", "onxx"), "did you mean onnx?"),
        (("--precisions", "in8"), "did you mean int8?"),
        (("--targets", "cudaa"), "did you mean cuda?"),
    ],
)
def test_the_command_line_asks_too(arguments: tuple[str, str], said: str) -> None:
    done = bench("list", *arguments)
    assert done.code == 2, done.said
    assert said in done.said
    assert len(done.said.splitlines()) == 1
