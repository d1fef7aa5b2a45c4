"""The guest side of the worker protocol: loads one adapter by its path and serves it over a pipe.

    python -s -P server.py ADAPTER.py [--cpus 0,1] [--network] [--writable DIR]...

Runs inside an option family's own environment and imports the standard library, numpy and the adapter, nothing else.
Before that it gives up the network and every file that it is not told it may write to (seal.py).
A request is one line of JSON on standard input, `{"id": 1, "verb": "load", ...}`; the answer is one line on a private
copy of standard output, `{"id": 1, ...}` or `{"id": 1, "error": {"kind", "message", "traceback"}}`.  File descriptor 1
is then pointed at standard error, so that a library that prints cannot break the protocol.  Tensors travel through two
memory-mapped files, not through the pipe.

An adapter of a runtime is a module with four functions:
`load(spec) -> model`; `prepare(model, x) -> prepared` puts float32 (B, 3, S, S), RGB 0..1, into the runtime's own host
layout and is not timed; `infer(model, prepared) -> array` returns numpy on the host and is what is timed, or a mapping
of names to such arrays where the network has several outputs;
`attest(model) -> dict` says what ran (device, provider, compute, threads, input_shape, version, and extras); its key
`declared` lists those keys that only repeat what was asked for, or what the file says, and are read from nothing that
ran.
Where inference happens in other processes (a browser) an adapter also has `time_inside(model, prepared, n) -> list`
with the nanoseconds of n inferences by the clock over there, `output(model) -> array` with what the last of them gave,
`cpu_ns(model)` with what those processes have used, and `footprint(model) -> dict` with their peak_rss_bytes and
threads.
`time_on_device(model, prepared, n, *, graph) -> list` gives the milliseconds of n inferences on a GPU alone, between
two of its events, input and output already there; where `graph` is true, of the inference captured once as a CUDA graph
and replayed.  None off a GPU.
`emulated(model) -> str` names what stands in for a device that is not there.
`profile(model, prepared, n) -> list` gives every operator that an inference executes as {"name", "type", "ms"}: what
the runtime calls it, and its time in n inferences with the runtime's profiler on, after some that are not counted: the
median, or the mean where the runtime tells no more.  It takes a session of its own wherever a profiler would stay in
the one that is timed, names an operator alike each time, and may return None where the operators of this model cannot
be told.
An exporter is a module with functions that take and return one JSON object; the verb `call` reaches them.
Loading once more, `elsewhere`, puts the model at other addresses of the same process (Served.load).  A guest that has
loaded nothing may be asked to `fork`, for a child with its own adapter or with another, and how a child has ended
(`reap`): forking.py.
A `spec` with a share `planted` makes every inference slower by it (planting.py); only the gate's self-check gives one.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
import types
from pathlib import Path
from typing import Any, NoReturn

PROTOCOL = 9
VERBS = ("load", "infer", "time", "once", "profile", "device", "stats", "call")
"""What a guest is asked of its adapter; `fork`, `reap` and `quit` are asked of its process."""
OUTPUT = "output"  # name of the array of a network that has only one
PACKAGE = "bench_guest"  # what the folder of this file is called inside a guest
FOLDER = "bench-worker-"  # how the core names the folder that it starts a guest in
_TRACEBACK_LINES = 20
_REMOVALS = 200  # a child that is still alive may be writing into the folder while it is being removed


class Channel:
    """JSON lines on private copies of standard input and output.

    A thread reads the requests, so that the end of the input (the core died) ends this process even in the middle of
    a long call.  It sleeps in the kernel between requests and takes no CPU time from a measurement.
    """

    def __init__(self) -> None:
        """Take over file descriptors 0 and 1; from here on a library sees /dev/null and standard error there."""
        sys.stdout.flush()
        self._folder = Path.cwd()
        self._source = os.fdopen(os.dup(0), "rb")
        self._sink = os.fdopen(os.dup(1), "wb")
        self.descriptors = (self._source.fileno(), self._sink.fileno())
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        self._requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def _read(self) -> None:
        for line in self._source:
            self._requests.put(line)
        if self._folder.name.startswith(FOLDER):  # the core, whose folder this is, can no longer remove it
            for _ in range(_REMOVALS):
                shutil.rmtree(self._folder, ignore_errors=True)
                if not self._folder.exists():
                    break
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)  # with whatever an exporter started
        os._exit(0)

    def receive(self) -> dict[str, Any]:
        """The next request, waiting for it."""
        request: dict[str, Any] = json.loads(self._requests.get())
        return request

    def send(self, answer: dict[str, Any]) -> None:
        """Write one answer."""
        self._sink.write(json.dumps(answer).encode() + b"\n")
        self._sink.flush()


class Served:
    """One adapter with the model it loaded and the input it was given last."""

    def __init__(self, adapter: types.ModuleType, import_ms: float) -> None:
        """`import_ms` is how long importing the adapter, and with it the runtime, took."""
        self._adapter = adapter
        self._import_ms = import_ms
        self._model: Any = None
        self._prepared: Any = None
        self._outputs: dict[str, dict[str, Any]] = {}
        self._imgsz = 0
        self._share = 0.0
        self._planted: Any = None

    def anew(self) -> Served:
        """The same adapter with nothing loaded."""
        return Served(self._adapter, self._import_ms)

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Load the artifact that `spec` describes; times in ms.

        `elsewhere`: at other addresses than what is loaded.  That lies where it is until this is done, and blocks of
        random sizes, kept for good, lie between.  `movable` says whether that moves what inference works on.
        """
        spec = request["spec"]
        if request.get("elsewhere"):
            importlib.import_module(f"{PACKAGE}.forking").move()
        self._outputs = described_outputs(spec["manifest"])
        self._imgsz = int(spec["imgsz"])
        self._prepared = None
        self._planted, self._share = None, float(spec.get("planted", 0.0))
        if self._share and hasattr(self._adapter, "time_inside"):
            raise ValueError("a slowdown cannot be planted where inference happens in another process")
        started = time.perf_counter_ns()
        self._model = self._adapter.load(spec)
        elapsed = (time.perf_counter_ns() - started) / 1e6
        emulated = self._adapter.emulated(self._model) if hasattr(self._adapter, "emulated") else ""
        movable = not hasattr(self._adapter, "time_inside")
        return {
            "import_ms": self._import_ms,
            "load_ms": elapsed,
            "emulated": emulated,
            "movable": movable,
        }

    def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One inference of the mapped input; the mapped replies are always float32, in the units of the core.

        Where `timed` is true its figures are those that `time` would give of it: an inference whose output is looked at
        is then a sample.
        """
        x = read_tensor(request["request"])
        self._prepared = self._adapter.prepare(self._model, x)
        if self._share:
            self._planted = importlib.import_module(f"{PACKAGE}.planting").Planted(self._share, x)
        inside = request["timed"] and hasattr(self._adapter, "time_inside")
        run = self._infer_inside if inside else self._infer_here
        gc.disable()
        try:
            cpu, wall = self._cpu_ns(), time.perf_counter_ns()
            raw, sample = run(self._model, self._prepared)
            # To ask another process for one inference takes a larger share of it than to ask for ten.
            wall = sample if inside else time.perf_counter_ns() - wall
            cpu = self._cpu_ns() - cpu
        finally:
            gc.enable()
        if inside:
            raw = self._adapter.output(self._model)
        named = raw if isinstance(raw, dict) else {OUTPUT: raw}
        if named.keys() != self._outputs.keys():
            raise ValueError(f"the outputs {sorted(named)} are not those of the manifest, {sorted(self._outputs)}")
        replies = {
            name: write_tensor(f"{request['reply_path']}-{number}", normalise(named[name], about, self._imgsz))
            for number, (name, about) in enumerate(self._outputs.items())
        }
        return {"replies": replies, "infer_ns": sample, "cpu_ns": cpu, "wall_ns": wall}

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        """`n` timed inferences of the input of the last `infer`, after `warmup` untimed ones.

        The garbage collector is off meanwhile, as in the standard library's `timeit`.
        """
        if self._prepared is None:
            raise RuntimeError("time was asked for before any infer gave an input")
        run = getattr(self._adapter, "time_inside", self._time_here)
        model, prepared = self._model, self._prepared
        run(model, prepared, request["warmup"])
        gc.disable()
        try:
            cpu, wall = self._cpu_ns(), time.perf_counter_ns()
            samples = run(model, prepared, request["n"])
            wall = time.perf_counter_ns() - wall  # first: to add up what other processes used takes a while
            cpu = self._cpu_ns() - cpu
        finally:
            gc.enable()
        return {"samples_ns": samples, "cpu_ns": cpu, "wall_ns": wall, "threads": self._footprint()["threads"]}

    def once(self, _request: dict[str, Any]) -> dict[str, Any]:
        """One timed inference of the input of the last `infer` and nothing beside it, for guests that take turns."""
        if self._prepared is None:
            raise RuntimeError("once was asked for before any infer gave an input")
        run = getattr(self._adapter, "time_inside", self._time_here)
        return {"ns": run(self._model, self._prepared, 1)[0]}

    def profile(self, request: dict[str, Any]) -> dict[str, Any]:
        """Operators of `n` inferences of the last `infer`'s input; null where the adapter cannot tell them."""
        if self._prepared is None:
            raise RuntimeError("profile was asked for before any infer gave an input")
        if not hasattr(self._adapter, "profile"):
            return {"operators": None}
        return {"operators": self._adapter.profile(self._model, self._prepared, request["n"])}

    def device(self, request: dict[str, Any]) -> dict[str, Any]:
        """`n` inferences of the last `infer`'s input on the device alone, after `warmup` that are left out.

        Null where the adapter cannot tell their times.
        """
        if self._prepared is None:
            raise RuntimeError("device was asked for before any infer gave an input")
        told, warmup = None, request["warmup"]
        if hasattr(self._adapter, "time_on_device"):
            number = warmup + request["n"]
            told = self._adapter.time_on_device(self._model, self._prepared, number, graph=request["graph"])
        return {"ms": None if told is None else told[warmup:]}

    def _infer_here(self, model: Any, prepared: Any) -> tuple[Any, int]:
        """The raw output of an inference in this process, and its nanoseconds."""
        if self._planted is not None:
            raw: list[Any] = []
            elapsed = self._planted.time(lambda: raw.append(self._adapter.infer(model, prepared)))
            return raw[0], elapsed
        started = time.perf_counter_ns()
        found = self._adapter.infer(model, prepared)
        return found, time.perf_counter_ns() - started

    def _infer_inside(self, model: Any, prepared: Any) -> tuple[None, int]:
        """The nanoseconds of an inference over there, whose output is yet to be had."""
        [elapsed] = self._adapter.time_inside(model, prepared, 1)
        return None, elapsed

    def _time_here(self, model: Any, prepared: Any, n: int) -> list[int]:
        """Nanoseconds of `n` inferences in this process."""
        infer, clock = self._adapter.infer, time.perf_counter_ns
        if self._planted is not None:
            return [self._planted.time(lambda: infer(model, prepared)) for _ in range(n)]
        samples = []
        for _ in range(n):
            started = clock()
            infer(model, prepared)
            samples.append(clock() - started)
        return samples

    def _cpu_ns(self) -> int:
        """CPU time so far of this process, or of those that it has the inference done in."""
        return int(self._adapter.cpu_ns(self._model)) if hasattr(self._adapter, "cpu_ns") else time.process_time_ns()

    def _footprint(self) -> dict[str, int]:
        """Peak memory and threads of the same processes."""
        if hasattr(self._adapter, "footprint") and self._model is not None:
            elsewhere: dict[str, int] = self._adapter.footprint(self._model)
            return elsewhere
        return {"peak_rss_bytes": peak_rss_bytes(), "threads": thread_count()}

    def stats(self, request: dict[str, Any]) -> dict[str, Any]:
        """Peak memory and threads and, where asked, what the runtime says it ran."""
        answer: dict[str, Any] = {**self._footprint(), "pid": os.getpid(), "huge_bytes": huge_bytes()}
        if request.get("attest"):
            answer["attested"] = self._adapter.attest(self._model) | ({"planted": self._share} if self._share else {})
        return answer

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call a function of the adapter with one JSON object."""
        return {"result": getattr(self._adapter, request["function"])(request["arguments"])}


def read_tensor(header: dict[str, Any]) -> Any:
    """A private array with the tensor that the core put in the file `path`, of `dtype` and `shape`."""
    import numpy as np

    # A copy, so that the timed inferences read ordinary memory and a runtime may keep or even write it.
    return np.array(np.memmap(header["path"], dtype=header["dtype"], mode="r", shape=tuple(header["shape"])))


def write_tensor(path: str, tensor: Any) -> dict[str, Any]:
    """Put a contiguous `tensor` in the file `path`, which the other side maps; returns its header.

    Written, not mapped, on this side: a full disk is then an OSError and not a SIGBUS.  Over what was there: to empty
    a file and fill it again takes ten times as long as to write into the pages that it has.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600), "wb") as sink:
        sink.write(memoryview(tensor).cast("B") if tensor.nbytes else b"")
        sink.truncate()
    return {"path": path, "dtype": str(tensor.dtype), "shape": list(tensor.shape)}


def described_outputs(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a manifest says of each output, by name: its `outputs`, or its only `output` under the name for that."""
    several: dict[str, dict[str, Any]] | None = manifest.get("outputs")
    return several if several is not None else {OUTPUT: manifest["output"]}


def normalise(raw: Any, output: dict[str, Any], imgsz: int) -> Any:
    """The runtime's output as contiguous float32 with boxes cx, cy, w, h in px where it holds any.

    `output` is the manifest's: `layout` "channels_first" (B, 4 + classes, anchors), "channels_last" (B, anchors,
    4 + classes; of masks (B, H, W, channels)) or "as_is"; `units` "px", "unit" (0..1 of the side `imgsz`, boxes first)
    or "none" (no boxes in it).
    Raises ValueError on other words.
    """
    import numpy as np

    array = np.asarray(raw)
    if output["layout"] == "channels_last" and array.ndim >= 3:
        array = np.moveaxis(array, -1, 1)
    elif output["layout"] not in ("channels_first", "as_is"):
        raise ValueError(f"the manifest's output layout {output['layout']!r} is not known")
    array = np.ascontiguousarray(array, dtype=np.float32)
    if output["units"] == "unit":
        array = array.copy()  # it may be the runtime's own
        array[:, :4] *= imgsz
    elif output["units"] not in ("px", "none"):
        raise ValueError(f"the manifest's output units {output['units']!r} are not known")
    return array


def peak_rss_bytes() -> int:
    """Largest resident set of this process so far.

    VmHWM, because `ru_maxrss` of a Linux process starts at what its parent had when it forked.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return usage if sys.platform == "darwin" else usage * 1024
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def huge_bytes() -> int:
    """How much of this process's memory lies on huge pages now; 0 where the kernel does not say."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages:")), 0)


def thread_count() -> int:
    """Threads of this process as the kernel counts them; outside Linux only those Python knows."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()


def import_adapter(path: Path) -> types.ModuleType:
    """Import an adapter as a member of the package that this file's folder is to guests.

    So `from ..refusals import TargetAbsent` reaches the file beside this one, and `from ._torch import infer` a module
    beside the adapter, or one of ours where the adapter's package comes from elsewhere.  Its folder is not put on
    sys.path: a file named like a library (onnx.py) would then hide that library.
    """
    here, folder = Path(__file__).parent, path.parent
    _make_package(PACKAGE, here)
    name = f"{PACKAGE}.{folder.name}"
    _make_package(name, folder, here / folder.name)
    return importlib.import_module(f"{name}.{path.stem}")


def _make_package(name: str, *folders: Path) -> None:
    package = types.ModuleType(name)
    package.__path__ = [str(folder) for folder in folders]
    sys.modules[name] = package


def describe(error: BaseException) -> dict[str, str]:
    """An exception as the protocol carries it."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {"kind": type(error).__name__, "message": str(error), "traceback": "\n".join(lines[-_TRACEBACK_LINES:])}


def leave() -> NoReturn:
    """End this process at once: some runtimes crash in their exit handlers, long after the last result."""
    sys.stderr.flush()
    os._exit(0)


def main() -> NoReturn:
    """Serve one adapter until `quit` or the end of the input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--cpus", default="")
    _make_package(PACKAGE, Path(__file__).parent)
    seal = importlib.import_module(f"{PACKAGE}.seal")
    seal.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.cpus and hasattr(os, "sched_setaffinity"):
        # Before any library counts the CPUs it may use.
        os.sched_setaffinity(0, {int(cpu) for cpu in arguments.cpus.split(",")})
    if Path("/proc/self/oom_score_adj").exists():
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # when memory ends: this process first
    confined = seal.apply(arguments)  # while there is one thread, and before any code that came with a model
    channel = Channel()
    importlib.import_module("numpy")  # every option needs it, so it is no part of the runtime's import time
    greeting = {"id": 0, "protocol": PROTOCOL, "python": sys.version.split()[0], "confined": confined}
    channels = [channel]  # kept by a child too: nobody may close what is its parent's
    served = imported(arguments.adapter, channel)
    while True:
        asked = serve(served, channels[-1], greeting)
        channels.append(Channel())
        served = imported(Path(asked["adapter"]), channels[-1]) if asked.get("adapter") else served.anew()


def imported(path: Path, channel: Channel) -> Served:
    """An adapter to be served, once it is imported; whoever waits on `channel` is told why it cannot be."""
    started = time.perf_counter_ns()
    try:
        adapter = import_adapter(path)
    except Exception as error:  # noqa: BLE001 - whatever a third-party module raises belongs in the answer
        channel.send({"id": 0, "error": describe(error)})
        leave()
    return Served(adapter, (time.perf_counter_ns() - started) / 1e6)


def serve(served: Served, channel: Channel, greeting: dict[str, Any]) -> dict[str, Any]:
    """Answer what is asked, until `quit`.

    Returns in a child that was forked, which is to have a channel of its own, with the request that it comes of.
    """
    forking = importlib.import_module(f"{PACKAGE}.forking")
    channel.send(greeting)
    verbs = {name: getattr(served, name) for name in VERBS}
    while True:
        request = channel.receive()
        answer: dict[str, Any] = {"id": request["id"]}
        if request["verb"] == "quit":
            channel.send(answer)
            leave()
        try:
            if request["verb"] == "fork":
                folder, writable = Path(request["folder"]), request.get("writable", ())
                answer["pid"] = forking.fork(folder, channel.descriptors, writable)
                if not answer["pid"]:
                    return request
            elif request["verb"] == "reap":
                answer["code"] = forking.reap(request["pid"])
            else:
                answer.update(verbs[request["verb"]](request))
            json.dumps(answer)  # an adapter that returns what JSON cannot carry is that adapter's error
        except Exception as error:  # noqa: BLE001 - likewise; the guest goes on serving
            answer = {"id": request["id"], "error": describe(error)}
        channel.send(answer)


if __name__ == "__main__":
    main()
