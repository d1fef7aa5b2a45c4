"""The tools that a guest is held against: the vendors' own where an environment has one, and bare loops.

A tool is told what a guest is told - artifact, input, threads, arithmetic - and timed as often; `times` says in words
what lies between its two readings of the clock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.grid.matrix import Cell
from bench.places import GUEST_TOOLS
from bench.reasons import CellProblem, Reason, Status

WARMUP = 3
"""Untimed inferences of a guest, and of the tools that let themselves be told; benchmark_app has one."""


@dataclass(frozen=True)
class Job:
    """What a tool is to time: the artifact's file and the input's (.npy), `runs` inferences."""

    cell: Cell
    model: Path
    input: Path
    runs: int


@dataclass(frozen=True)
class Reading:
    """What a tool found: the median of `runs` inferences in ms; `inner_ms` that of their part between the copies."""

    median_ms: float
    runs: int
    inner_ms: float | None = None


@dataclass(frozen=True)
class Tool:
    """A program that times a runtime; `runtimes` are the adapters whose artifacts it takes."""

    name: str
    runtimes: tuple[str, ...]
    program: str
    times: str
    arguments: Callable[[Job], list[str]]
    read: Callable[[Job, str], Reading]
    """Its answer from its standard output.  Raises CellProblem where it holds none, or it ran something else."""
    precisions: tuple[str, ...] = ()
    """Those it can run; empty: all."""


def of(cell: Cell) -> list[Tool]:
    """The tools that can time a cell."""
    return [tool for tool in for_runtime(cell.runtime) if not tool.precisions or cell.precision in tool.precisions]


def for_runtime(runtime: str) -> list[Tool]:
    """The tools that take the artifacts of an adapter."""
    return [tool for tool in TOOLS if runtime in tool.runtimes]


# -- OpenVINO's benchmark_app ------------------------------------------------------------------------------------------

_TYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_MILLISECONDS = {"ms": 1.0, "us": 1e-3}


def _benchmark_app(job: Job) -> list[str]:
    """One stream and no hint, so that threads may be said; -ip, or it would feed 8-bit integers and convert them."""
    cell = job.cell
    words = ["-m", str(job.model), "-i", str(job.input), "-ip", "f32", "-d", "CPU", "-api", "sync", "-hint", "none"]
    words += ["-nstreams", "1", "-nthreads", str(cell.threads), "-inference_only", "true", "-niter", str(job.runs)]
    precision = cell.spec.runtime_options.get("inference_precision")
    return [*words, "-infer_precision", str(precision)] if precision else words


def read_benchmark_app(job: Job, said: str) -> Reading:
    """The median that benchmark_app prints, once what the plugin says of itself is what was asked."""
    ran = {"streams": _found(r"NUM_STREAMS: (\S+)", said), "threads": _found(r"INFERENCE_NUM_THREADS: (\S+)", said)}
    asked = {"streams": "1", "threads": str(job.cell.threads)}
    precision = job.cell.spec.runtime_options.get("inference_precision")
    if precision:
        asked["precision"] = _TYPES[str(precision)]
        ran["precision"] = _found(r"INFERENCE_PRECISION_HINT: <Type: '(\w+)'>", said)
    if ran != asked:
        text = f"benchmark_app ran {ran}, asked was {asked}"
        raise CellProblem(Reason.ATTESTATION_MISMATCH, text, Status.INVALID)
    value, unit = _found(r"Median:\s+([\d.]+ (?:ms|us))", said).split()
    return Reading(float(value) * _MILLISECONDS[unit], int(_found(r"Count:\s+(\d+) iterations", said)))


# -- LiteRT's litert-benchmark -----------------------------------------------------------------------------------------


def _litert_benchmark(job: Job) -> list[str]:
    words = ["--model", str(job.model), "--num_threads", str(job.cell.threads)]
    return [*words, "--num_runs", str(job.runs), "--warmup_runs", str(WARMUP)]


def read_litert_benchmark(_job: Job, said: str) -> Reading:
    """The median that litert-benchmark prints."""
    median = float(_found(r"Inference \(median\):\s+([\d.]+) ms", said))
    return Reading(median, int(_found(r"Inference \(avg\):.*\((\d+) runs\)", said)))


# -- programs of ours: bare loops, and one around PyTorch's timer, which is none itself --------------------------------


def _bare(runtime: str) -> Callable[[Job], list[str]]:
    def arguments(job: Job) -> list[str]:
        return [runtime, *_ours(job), "--options", json.dumps(job.cell.spec.runtime_options)]

    return arguments


def _ours(job: Job) -> list[str]:
    return [str(job.model), str(job.input), "--threads", str(job.cell.threads), "--runs", str(job.runs)]


def read_json(_job: Job, said: str) -> Reading:
    """The last line that one of our own programs printed; libraries may have written lines before it."""
    try:
        answer = json.loads(said.splitlines()[-1])
        inner = answer["inner_ms"]
        return Reading(float(answer["median_ms"]), int(answer["runs"]), None if inner is None else float(inner))
    except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise _unread(said) from error


def _found(pattern: str, said: str) -> str:
    """The group of a pattern.  Raises CellProblem(PROTOCOL) where the output does not hold it."""
    match = re.search(pattern, said)
    if match is None:
        raise _unread(said)
    return match[1]


def _unread(said: str) -> CellProblem:
    return CellProblem(Reason.PROTOCOL, f"the tool printed no result that can be read; its end: {said[-500:]!r}")


_ARRAYS = "from an array on the host to an array on the host, as the guest"
_BARE = str(GUEST_TOOLS / "bare.py")
_TORCH = str(GUEST_TOOLS / "torch_timer.py")

TOOLS = (
    Tool(
        "torch.utils.benchmark",
        ("pytorch", "torchscript"),
        _TORCH,
        "the network's call on a tensor in inference mode; neither is an array made a tensor nor the reverse",
        lambda job: [job.cell.runtime, *_ours(job)],
        read_json,
        ("fp32",),
    ),
    Tool("bare loop", ("onnx_runtime",), _BARE, _ARRAYS, _bare("onnx_runtime"), read_json),
    Tool(
        "benchmark_app",
        ("openvino_runtime",),
        "benchmark_app",
        "the request alone, by OpenVINO's own clock; the input was copied in once before, the output stays where it is",
        _benchmark_app,
        read_benchmark_app,
    ),
    Tool(
        "bare loop",
        ("openvino_runtime",),
        _BARE,
        f"{_ARRAYS}; between the copies: the request by OpenVINO's own clock",
        _bare("openvino"),
        read_json,
    ),
    Tool(
        "litert-benchmark",
        ("tflite",),
        "litert-benchmark",
        "`CompiledModel.run`, where the guest has an interpreter; random input written once, the output stays in its "
        "buffer",
        _litert_benchmark,
        read_litert_benchmark,
    ),
    Tool("bare loop", ("tflite",), _BARE, f"{_ARRAYS}; between the copies: `invoke`", _bare("litert"), read_json),
    Tool(
        "bare loop",
        ("ncnn_runtime",),
        _BARE,
        f"{_ARRAYS}; between the copies: `extract`",
        _bare("ncnn"),
        read_json,
    ),
)
