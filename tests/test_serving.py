"""The probe that starts TensorFlow Serving: its client by a stand-in for the server, and what is said without one."""

from __future__ import annotations

import shutil
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from bench.guest.probes import serving as guest
from bench.guest.refusals import TargetAbsent
from bench.probes import runner, serving
from bench.probes.context import Context, Parity, as_given, as_raw

STAND_IN = Path(__file__).parent / "guests" / "model_server.py"
LIMIT = Parity(box_px=1.0, score=0.01)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in as a program of the server's own name, started by this interpreter, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "bin" / serving.PROGRAM
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{STAND_IN.read_text(encoding='utf-8')}", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def asked(server: Path, manner: str, *inputs: Any, seconds: float = 30.0) -> dict[str, Any]:
    model = Path.cwd() / "model"
    model.mkdir()
    (model / manner).touch()
    paths = [Path.cwd() / f"{number}.npy" for number in range(len(inputs))]
    for path, x in zip(paths, inputs, strict=True):
        np.save(path, x)
    arguments = {"server": str(server), "model": str(model), "inputs": [str(path) for path in paths]}
    return guest.serve({**arguments, "seconds": seconds})


def test_every_input_gets_the_server_s_answer(server: Path) -> None:
    one, other = np.arange(24, dtype=np.float32).reshape(1, 2, 4, 3), np.full((1, 2, 4, 3), 0.1, np.float32)
    seen = asked(server, "well", one, other)
    assert (seen["version"], seen["error"]) == ("TensorFlow ModelServer: stand-in", "")
    answers = [np.load(path) for path in seen["outputs"]]
    assert all(answer.dtype == np.float32 for answer in answers)
    np.testing.assert_array_equal(answers[0], 2 * one)
    np.testing.assert_array_equal(answers[1], 2 * other)


@pytest.mark.parametrize(
    ("manner", "said"),
    [
        ("refused", "the model is not served: no such operation"),
        ("dies", "the server ended with 1: cannot map the model"),
        ("bad-request", "it answers 400: "),
        ("loading", "the model is not available after 2 s (state LOADING)"),
    ],
)
def test_a_server_that_does_not_serve_the_model_is_told_with_its_own_words(
    server: Path, manner: str, said: str
) -> None:
    seen = asked(server, manner, np.zeros((1, 2, 2, 3), np.float32), seconds=2.0 if manner == "loading" else 30.0)
    assert seen["outputs"] == []
    assert said in seen["error"]


def test_a_program_that_does_not_run_says_nothing_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(TargetAbsent, match="does not run"):
        guest.serve({"server": str(tmp_path / "nowhere"), "model": "", "inputs": [], "seconds": 1.0})


def test_without_the_server_the_row_says_where_it_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    (row,) = runner.observe("serving", cast("Context", SimpleNamespace()))
    assert (row.outcome.value, row.option, row.subject) == ("unavailable", "", "")
    assert "tensorflow_model_server, is not on PATH" in row.text
    assert "tensorflow-serving-api is its client" in row.text


def test_the_answers_decide_and_an_error_is_a_no() -> None:
    theirs = [np.ones((1, 6, 4), np.float32)]
    near, far = [theirs[0] + np.float32(0.001)], [theirs[0] * 9]
    outcomes = [serving.judge("v", answers, theirs, "", LIMIT).outcome.value for answers in (near, far)]
    assert outcomes == ["yes", "no"]
    row = serving.judge("v", [], theirs, "the server ended with 1", LIMIT)
    assert (row.outcome.value, row.text) == ("no", "v: the server ended with 1")


def test_an_artifact_s_layouts_are_those_of_its_manifest() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    assert as_given({"input": {"layout": "NHWC"}}, x).shape == (1, 2, 2, 3)
    assert as_given({"input": {"layout": "NCHW"}}, x) is not None
    output = np.ones((1, 7, 6), np.float32)
    raw = as_raw({"output": {"layout": "channels_last", "units": "unit"}}, 640, output)
    assert raw.shape == (1, 6, 7)
    assert (raw[:, :4] == 640).all()
    assert (raw[:, 4:] == 1).all()
    np.testing.assert_array_equal(as_raw({"output": {"layout": "", "units": "px"}}, 640, output), output)
