"""ONNX Runtime: one session, one execution provider, as many intra-op threads as asked."""

from __future__ import annotations

import importlib.util
import json
import statistics
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ..refusals import TargetAbsent, TargetUnsupported
from ..tf32 import require_tf32
from ._ort_nodes import COMPUTE, convolutions, executed, named, plain
from ._tasks import started, tasks
from ._told import arithmetic, places

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
PROVIDERS = {"cpu": CPU, "arm-cpu": CPU, "cuda": CUDA}
DEVICES = {CPU: "cpu", CUDA: "cuda"}


@dataclass(frozen=True)
class Model:
    """A session and what it was made from."""

    session: Any
    path: Path
    provider: tuple[str, dict[str, str]]
    threads: int
    pool: int | None
    """Threads that the session started; None where that cannot be told."""
    entries: dict[str, str]
    source: str
    """Name of the only input, looked up once: to ask the session in every inference takes part of its time."""


def load(spec: dict[str, Any]) -> Model:
    """A session on the provider of the target; `options` are ONNX Runtime's own session entries by name, and `tf32`.

    CUDA's TF32, which ONNX Runtime has on by default, is off unless `tf32` is true: its 10-bit mantissa is not FP32.
    Raises TargetAbsent, TargetUnsupported, PrecisionUnsupported where there is no TF32, or ONNX Runtime's errors.
    """
    target = spec["target"]
    if target not in PROVIDERS:
        raise TargetUnsupported(f"ONNX Runtime is run on {', '.join(PROVIDERS)} here, not on {target}.")
    provider = PROVIDERS[target]
    if provider == CUDA and hasattr(ort, "preload_dlls"):
        preload()
    if provider not in ort.get_available_providers():
        available = ", ".join(ort.get_available_providers())
        raise TargetAbsent(f"{provider} is not in this build of ONNX Runtime, which has: {available}.")
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    entries = {name: str(value) for name, value in spec["options"].items() if name != "tf32"}
    tf32 = bool(spec["options"].get("tf32", False))
    if tf32:
        require_tf32(target)
    chosen = (provider, cuda_options(spec, tf32=tf32) if provider == CUDA else {})
    before = tasks()
    session = ort.InferenceSession(str(path), _options(spec["threads"], entries), providers=[chosen])
    pool = started(before, tasks()) if provider == CPU else None  # CUDA starts some of its own
    if session.get_providers()[0] != provider:
        raise TargetAbsent(f"ONNX Runtime fell back to {session.get_providers()[0]} from {provider}; see the log.")
    return Model(session, path, chosen, spec["threads"], pool, entries, session.get_inputs()[0].name)


def preload() -> None:
    """Load CUDA and cuDNN from the packages of this interpreter, in whichever of its folders they are.

    ONNX Runtime looks beside itself alone; what an environment takes from the interpreter below it lies elsewhere.
    """
    beside = Path(ort.__file__).parents[1] / "nvidia"
    spec = importlib.util.find_spec("nvidia")
    places = [] if beside.is_dir() or spec is None else spec.submodule_search_locations or []
    folders = [str(folder) for place in places for folder in sorted(Path(place).glob("*/lib"))]
    if not folders:
        ort.preload_dlls()
    for folder in folders:
        ort.preload_dlls(directory=folder)


def cuda_options(spec: dict[str, Any], *, tf32: bool) -> dict[str, str]:
    """Options of the CUDA provider: whether it may round to TF32, and what it may take of the card's memory.

    By itself its arena grows by powers of two and without a limit, beside guests that need the card as well.
    """
    options = {"use_tf32": str(int(tf32)), "arena_extend_strategy": "kSameAsRequested"}
    return options | ({"gpu_mem_limit": str(spec["gpu_limit_bytes"])} if "gpu_limit_bytes" in spec else {})


def prepare(_model: Model, x: np.ndarray) -> np.ndarray:
    """The input as it is."""
    return x


def infer(model: Model, prepared: np.ndarray) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors)."""
    output: np.ndarray = model.session.run(None, {model.source: prepared})[0]
    return output


def attest(model: Model) -> dict[str, Any]:
    """Providers and types of the convolutions that a profiled inference executed, in a session of its own.

    The profile names float32 where CUDA's provider rounds it to TF32; whether it may is asked of the session.
    """
    meta = model.session.get_inputs()[0]
    shape = [side if isinstance(side, int) else 1 for side in meta.shape]
    kernels = [event["args"] for event in _kernels(model, np.zeros(shape, np.float32), 1)]
    ran = convolutions(kernels)
    on_cuda = model.session.get_provider_options().get(CUDA, {})
    tf32 = on_cuda.get("use_tf32") == "1"
    by_compute: Counter[str] = Counter()
    by_provider: Counter[str] = Counter()
    for (_, kind, provider), number in ran.items():
        rounded = tf32 and (kind, provider) == ("float", CUDA)
        by_compute["tf32" if rounded else COMPUTE.get(kind, kind)] += number
        by_provider[provider] += number
    provider = max(by_provider, key=by_provider.__getitem__, default="")
    placed = Counter(node["provider"] for node in kernels)
    return {
        "device": places({DEVICES.get(name, name): number for name, number in by_provider.items()}),
        "provider": provider,
        "compute": arithmetic(by_compute),
        "threads": model.threads if model.pool is None else 1 + model.pool,
        "input_shape": list(meta.shape),
        "version": ort.__version__,
        "declared": ["threads"] if model.pool is None else [],
        "providers": model.session.get_providers(),
        "provider_nodes": dict(sorted(placed.items())),
        "provider_share": round(placed[provider] / placed.total(), 4),
        "convolutions": named(ran),
        "operators": dict(sorted(Counter(node["op_name"] for node in kernels).items())),
        **{name: on_cuda[name] for name in ("arena_extend_strategy", "gpu_mem_limit") if name in on_cuda},
    }


def profile(model: Model, prepared: np.ndarray, n: int) -> list[dict[str, Any]] | None:
    """Nodes of the optimised graph in the order they are executed in, from the profile of a session of its own.

    The session's first inference is not counted: it allocates the memory that the others use again.  None on a GPU,
    where a node's time ends when its kernel is queued.
    """
    if model.provider[0] != CPU:
        return None
    nodes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in _kernels(model, prepared, n + 1):
        nodes.setdefault((event["name"], event["args"].get("node_index", "")), []).append(event)
    names = _names([events[0] for events in nodes.values()])
    return [
        {
            "name": name,
            "type": events[0]["args"]["op_name"],
            "ms": statistics.median(event["dur"] for event in events[1:]) / 1e3,
        }
        for name, events in zip(names, nodes.values(), strict=True)
    ]


def _names(nodes: list[dict[str, Any]]) -> list[str]:
    """A name for each node that is the same in every session.

    What the optimiser adds it numbers in another order each time ("ReorderOutput_token_332").  That number is left out,
    and nodes whose names are then equal are told apart by the shape they make and their place among those that make it.
    """
    stems = [plain(node["name"]) for node in nodes]
    shared, seen = Counter(stems), Counter[str]()
    names = []
    for stem, node in zip(stems, nodes, strict=True):
        name = stem
        if shared[stem] > 1:
            made = [next(iter(output.values())) for output in node["args"].get("output_type_shape", [])]
            shape = f"{stem} {' '.join('x'.join(map(str, sides)) for sides in made)}"
            seen[shape] += 1
            name = f"{shape} {seen[shape]}"
        names.append(name)
    return names


def _kernels(model: Model, x: np.ndarray, n: int) -> list[dict[str, Any]]:
    """What the profiler tells of every kernel that `n` inferences run, in a session of its own."""
    with tempfile.TemporaryDirectory() as folder:
        options = _options(model.threads, model.entries)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(model.path), options, providers=[model.provider])
        for _ in range(n):
            session.run(None, {model.source: x})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return executed(events)


def _options(threads: int, entries: dict[str, str]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    return options
