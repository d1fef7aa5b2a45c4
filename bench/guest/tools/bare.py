"""A bare loop over a runtime: what is left of a guest without its adapter, the protocol and the server.

    python bare.py RUNTIME MODEL INPUT.npy --threads N --runs N [--options JSON]

INPUT holds float32 (B, 3, S, S), RGB 0..1.  Prints one line of JSON: `median_ms` of whole inferences, from an array on
the host to an array on the host; `inner_ms`, the median of their part between the copies, where that can be told apart;
`runs`.  Written from the runtimes' own manuals and not from the adapters, which it is there to check.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

WARMUP = 3

Step = Callable[[], "float | None"]
"""One inference; returns the ms of its part between the copies, or None."""


def onnx_runtime(model: str, x: np.ndarray, threads: int, options: dict[str, Any]) -> Step:
    """A session on the CPU provider; `options` are session entries.  It copies nothing that could be told apart."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    for name, value in options.items():
        settings.add_session_config_entry(name, str(value))
    session = ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}

    def step() -> None:
        session.run(None, feed)

    return step


def openvino(model: str, x: np.ndarray, threads: int, options: dict[str, Any]) -> Step:
    """A request on the CPU; its inner part is the `latency` that the request itself reports."""
    import openvino as ov

    config = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
    if "inference_precision" in options:
        config["INFERENCE_PRECISION_HINT"] = options["inference_precision"]
    request = ov.Core().compile_model(model, "CPU", config).create_infer_request()

    def step() -> float:
        request.infer({0: x})
        return float(request.latency)

    return step


def litert(model: str, x: np.ndarray, threads: int, _options: dict[str, Any]) -> Step:
    """An interpreter with its default delegate; its inner part is `invoke`."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=threads)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    if source["dtype"] != np.float32:
        scale, zero = source["quantization"]
        last = np.rint(last / scale + zero).astype(source["dtype"])

    def step() -> float:
        interpreter.set_tensor(source["index"], last)
        started = time.perf_counter()
        interpreter.invoke()
        inner = time.perf_counter() - started
        interpreter.get_tensor(sink)
        return inner * 1e3

    return step


def ncnn(model: str, x: np.ndarray, threads: int, options: dict[str, Any]) -> Step:
    """A network with an extractor per inference, each of which computes when its output is asked for."""
    import ncnn as runtime

    network = runtime.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = threads
    for name, value in options.items():
        setattr(network.opt, name, value)
    network.load_param(model)
    network.load_model(model.removesuffix("param") + "bin")
    source, sink = network.input_names()[0], network.output_names()[0]
    image = np.ascontiguousarray(x[0])

    def step() -> float:
        extractor = network.create_extractor()
        extractor.input(source, runtime.Mat(image))
        started = time.perf_counter()
        _, output = extractor.extract(sink)
        inner = time.perf_counter() - started
        np.array(output)
        return inner * 1e3

    return step


RUNTIMES: dict[str, Callable[[str, np.ndarray, int, dict[str, Any]], Step]] = {
    "onnx_runtime": onnx_runtime,
    "openvino": openvino,
    "litert": litert,
    "ncnn": ncnn,
}


def main() -> None:
    """Load, warm up, time, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runtime", choices=RUNTIMES)
    parser.add_argument("model")
    parser.add_argument("input")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    given = parser.parse_args()
    step = RUNTIMES[given.runtime](given.model, np.load(given.input), given.threads, given.options)
    for _ in range(WARMUP):
        step()
    whole, inner = [], []
    for _ in range(given.runs):
        started = time.perf_counter()
        part = step()
        whole.append((time.perf_counter() - started) * 1e3)
        if part is not None:
            inner.append(part)
    told = statistics.median(inner) if inner else None
    print(json.dumps({"median_ms": statistics.median(whole), "inner_ms": told, "runs": len(whole)}))


if __name__ == "__main__":
    main()
