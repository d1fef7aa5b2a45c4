"""Checks of what a runtime and its artifact need and do: Python, the network, code of their own, a sandbox, a server.

Each asks one probe of bench/probes, a finding per subject that the probe looked at.
"""

from __future__ import annotations

from typing import ClassVar

from bench.decide.claims import gate
from bench.decide.claims.checks._probes import answers
from bench.decide.claims.statements import Parameters
from bench.decide.claims.synthetic import probe, results
from bench.decide.claims.verdicts import Kind
from bench.words.text import Text


class Told(Parameters):
    """What every library that works offline passes, and every file that is data: it tells none apart, so it is told."""

    strongest: ClassVar[Kind] = Kind.FACT


SAID: dict[str, tuple[str, dict[str, Text]]] = {
    "runs_without_python": (
        "no_python",
        {
            "yes": Text(
                en="It runs in a process without Python.",
                zh="能在没有 Python 的进程中运行。",
            ),
            "no": Text(
                en="It does not run without Python.",
                zh="没有 Python 就无法运行。",
            ),
        },
    ),
    "no_network": (
        "no_network",
        {
            "yes": Text(
                en="Inference makes no connection and works without a network.",
                zh="推理不建立任何连接，断网也能运行。",
            ),
            "no": Text(
                en="Inference makes a connection, or fails without a network.",
                zh="推理建立了连接，或断网时失败。",
            ),
        },
    ),
    "data_only": (
        "data_only",
        {
            "yes": Text(
                en="Loading the artifact runs no code of its own.",
                zh="加载模型文件时不会运行文件自带的代码。",
            ),
            "no": Text(
                en="Loading the artifact can run code that it carries.",
                zh="加载模型文件时可能运行文件自带的代码。",
            ),
        },
    ),
    "sandboxed": (
        "sandbox",
        {
            "yes": Text(
                en="It runs under this restriction.",
                zh="能在此限制下运行。",
            ),
            "no": Text(
                en="It does not run under this restriction.",
                zh="不能在此限制下运行。",
            ),
        },
    ),
    "served": (
        "serving",
        {
            "yes": Text(
                en="TensorFlow Serving serves it, and answers as TensorFlow does.",
                zh="TensorFlow Serving 能提供该模型的服务，且回答与 TensorFlow 一致。",
            ),
            "no": Text(
                en="TensorFlow Serving does not serve it, or answers otherwise than TensorFlow does.",
                zh="TensorFlow Serving 无法提供该模型的服务，或回答与 TensorFlow 不一致。",
            ),
            "absent": Text(
                en="It takes TensorFlow Serving's server, tensorflow_model_server, on PATH, and then "
                "`yolo11-bench probe --only serving`. No package of PyPI, npm or Debian has that server "
                "(tensorflow-serving-api is its client): its makers give it as an image and in a repository of theirs.",
                zh="需要 PATH 上有 TensorFlow Serving 的服务器程序 tensorflow_model_server，然后执行 "
                "`yolo11-bench probe --only serving`。PyPI、npm 和 Debian 都没有包含该服务器的软件包"
                "（tensorflow-serving-api 只是客户端）：其开发者以镜像和自有软件源提供它。",
            ),
        },
    ),
}
"""Check name to the probe it asks and the words for its answers; `absent` for where the probe could not be made."""

_TOLD = {"no_network", "data_only"}

for _name, (_probe, _said) in SAID.items():
    gate.register(
        _name,
        Told if _name in _TOLD else Parameters,
        answers(_probe, _said),
        supports=results(probe(_probe, "onnx", "subject", "yes")),
        refutes=results(probe(_probe, "onnx", "subject", "no")),
        wide=results(probe(_probe, "onnx", "subject", "unavailable")),
    )
