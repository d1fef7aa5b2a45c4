"""The core's side of the worker protocol: one guest process, a deadline on every call, a reason for every death.

`Worker` starts `bench/guest/server.py` with an environment's interpreter in a session of its own and talks to it in
lines of JSON; tensors go through memory-mapped files.  Whatever the guest does - die, hang, print, run out of
memory, answer nonsense - becomes a `CellProblem` with the right reason code and the last lines it wrote, and neither
a process nor a file is left behind: it works in a folder of its own, which also holds its temporary files.
"""

from __future__ import annotations

import atexit
import math
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.guest.forking import LOG
from bench.guest.server import FOLDER, OUTPUT, described_outputs, write_tensor
from bench.interrupts import held_back
from bench.places import GUEST
from bench.reasons import CellProblem, Reason
from bench.wall.confinement import CONFINED, Confinement
from bench.wall.process import GuestProcess

SERVER = GUEST / "server.py"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_FOREIGN_VARIABLES = ("PYTHONPATH", "PYTHONHOME")

# Where the libraries that guests are made of look for a place for temporary files.
TEMPORARY_VARIABLES = ("TMPDIR", "TEMP", "TMP")
_REMOVALS, _REMOVAL_PAUSE_S = 20, 0.05

T = TypeVar("T")

_LIVE: weakref.WeakSet[Worker] = weakref.WeakSet()


@dataclass(frozen=True)
class Loaded:
    """Times of a load: `import_ms` of the runtime in a fresh process, numpy left out; `load_ms` after that.

    `emulated` names what stands in for a device that this machine has not, such as a renderer that draws in software.
    `movable` says whether the model lies in the guest's own memory, where another load puts it at other addresses.
    """

    import_ms: float
    load_ms: float
    emulated: str = ""
    movable: bool = False


@dataclass(frozen=True)
class Timing:
    """Timed inferences: `samples_ms` float64 (n,) by the guest's monotonic clock, CPU and wall seconds of the whole.

    `cpu_s` counts all threads of the guest, so `cpu_s / wall_s` is the number of CPUs it kept busy.
    """

    samples_ms: NDArray[np.float64]
    cpu_s: float
    wall_s: float
    threads: int


@dataclass(frozen=True)
class Sample:
    """One timed inference with its raw outputs: ms by the guest's clock, CPU and wall seconds as in `Timing`."""

    outputs: dict[str, NDArray[np.float32]]
    ms: float
    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class Stats:
    """The guest process, or the browser it drives: peak resident bytes, OS threads, and what the runtime says it ran.

    `attested` is empty unless it was asked for, and holds what the guest may reach too; `huge_bytes` is what of the
    guest lies on huge pages now.
    """

    peak_rss_bytes: int
    threads: int
    attested: dict[str, Any]
    huge_bytes: int = 0


@dataclass(frozen=True)
class Operator:
    """One operator as the runtime executed it: what the runtime calls it, and its usual time in an inference, ms."""

    name: str
    type: str
    ms: float


class Worker:
    """A guest process as a context manager; leaving it ends the process and its children."""

    def __init__(
        self,
        env_python: Path,
        adapter: Path,
        *,
        variables: Mapping[str, str],
        threads: int = 1,
        cpus: Sequence[int] = (),
        log_path: Path | None = None,
        wrapper: Sequence[str] = (),
        confinement: Confinement = CONFINED,
    ) -> None:
        """Nothing is started yet.

        `variables` is the guest's whole environment; the thread variables are set from `threads` here.  `cpus` pins
        it (empty: not pinned; no effect on macOS).  Its standard error goes to `log_path`, appended, or is kept only
        for messages.  `wrapper` is a command that runs the guest's own, which follows it (a tracer, a namespace).
        `confinement` is what it may reach beside its folder and its home, HOME of `variables`.
        """
        self._command = [*wrapper, str(env_python), "-s", "-P", str(SERVER), str(adapter)]
        if cpus:
            self._command += ["--cpus", ",".join(map(str, cpus))]
        self._variables = with_threads(variables, threads)
        self._name = adapter.stem
        self._log_path = log_path
        self._confinement = confinement
        self.confined: dict[str, str] = {}
        """What the running guest may reach, in words by what it is about."""
        self._scratch: Path | None = None
        self._guest: GuestProcess | None = None
        self._expected: dict[str, tuple[int, ...]] = {}
        # Of `infer`, measured in the guest and without the preparation of the input; None before it.
        self.first_inference_ms: float | None = None
        self.last_inference_ms: float | None = None

    def __enter__(self) -> Self:
        """Start the guest."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the guest; at once when an exception passes through."""
        if kind is not None and self._guest is not None:
            self._guest.kill()
        self.close()

    def start(self, timeout: float = 300.0) -> None:
        """Start the process and import the adapter.

        Raises CellProblem: LOAD_FAILED when the import raised, ENVIRONMENT_FAILED where there is no room for its files.
        """
        try:
            self._settle()
            self._begin()
            self.confined = self._confinement.told(self._running(Reason.CRASHED).greet(timeout))
        except BaseException:  # Ctrl-C too
            self.close()
            raise

    def _settle(self) -> None:
        """Make the guest's folders.  Raises CellProblem."""
        try:
            with held_back():
                self._scratch = self._work_in()
            _LIVE.add(self)
            (self._scratch / "tmp").mkdir()
        except OSError as error:
            text = f"cannot make a folder for the files of {self._name}: {error}; free some space, or set TMPDIR"
            raise CellProblem(Reason.ENVIRONMENT_FAILED, text) from error

    def _work_in(self) -> Path:
        """A new folder for the guest.  Raises OSError."""
        return Path(tempfile.mkdtemp(prefix=FOLDER))

    def _begin(self) -> None:
        """Start the guest's process.  Raises CellProblem."""
        variables = self._variables | dict.fromkeys(TEMPORARY_VARIABLES, str(self.folder / "tmp"))
        command = [*self._command, *self._confinement.arguments(own_folders(self.folder, variables))]
        log = self._log_path or self.folder / LOG
        with held_back():
            self._guest = GuestProcess.start(self._name, command, variables, self.folder, log)

    @property
    def folder(self) -> Path:
        """Where the running guest works."""
        assert self._scratch is not None, "it runs"
        return self._scratch

    def fork(self, name: str, folder: Path, changed: Mapping[str, Any]) -> GuestProcess:
        """A child of the running guest; see `GuestProcess.fork`.  Raises CellProblem."""
        return self._running(Reason.CRASHED).fork(name, folder, changed)

    def load(self, spec: Mapping[str, Any], timeout: float = 300.0, *, elsewhere: bool = False) -> Loaded:
        """Load an artifact.  `spec` holds artifact_dir, manifest, target, threads, precision, imgsz, batch, options.

        On a GPU that tells how much memory it has, `gpu_limit_bytes` too: what the guest may hold of it.

        `elsewhere` puts it at other addresses than the one that is loaded, which it replaces.
        """
        fields = {"spec": dict(spec), "elsewhere": elsewhere}
        answer = self._exchange("load", fields, timeout, Reason.LOAD_FAILED)
        self.first_inference_ms = self.last_inference_ms = None
        described = described_outputs(spec["manifest"])
        self._expected = {name: tuple(about.get("shape") or ()) for name, about in described.items()}
        return self._read(
            lambda: Loaded(
                _time(float(answer["import_ms"])),
                _time(float(answer["load_ms"])),
                str(answer.get("emulated", "")),
                bool(answer.get("movable", False)),
            ),
            answer,
        )

    def infer(self, x: NDArray[np.float32], timeout: float = 300.0) -> NDArray[np.float32]:
        """The only raw output for `x` (B, 3, S, S), RGB 0..1: (B, 4 + classes, anchors), boxes cx, cy, w, h in px.

        Raises CellProblem as `outputs` does, and where the network has several outputs.
        """
        outputs = self.outputs(x, timeout)
        if len(outputs) != 1:
            text = f"{self._name}: has the outputs {', '.join(outputs)}; one was asked for"
            raise CellProblem(Reason.OUTPUT_INVALID, text)
        return next(iter(outputs.values()))

    def outputs(self, x: NDArray[np.float32], timeout: float = 300.0) -> dict[str, NDArray[np.float32]]:
        """Raw outputs for `x` (B, 3, S, S), RGB 0..1, by name and in the order of the manifest.

        Raises CellProblem(OUTPUT_INVALID) on NaN, infinity or a shape other than the manifest's.
        """
        return self._infer(x, timeout, timed=False).outputs

    def sample(self, x: NDArray[np.float32], timeout: float = 300.0) -> Sample:
        """What `outputs` gives for `x`, and the time of that very inference as `time` would take it."""
        return self._infer(x, timeout, timed=True)

    def _infer(self, x: NDArray[np.float32], timeout: float, *, timed: bool) -> Sample:
        self._running(Reason.INFERENCE_FAILED)
        assert self._scratch is not None
        x = np.ascontiguousarray(x, dtype=np.float32)
        path = self._scratch / "request"
        try:
            request = write_tensor(str(path), x)
        except OSError as error:
            raise CellProblem(Reason.INFERENCE_FAILED, f"cannot write the input to {path}: {error}") from error
        fields = {
            "request": request,
            "reply_path": str(self._scratch / "reply"),
            "timed": timed,
        }
        answer = self._exchange("infer", fields, timeout, Reason.INFERENCE_FAILED)
        sample = self._read(
            lambda: Sample(
                self._replies(answer["replies"]),
                _time(int(answer["infer_ns"]) / 1e6),
                int(answer["cpu_ns"]) / 1e9,
                int(answer["wall_ns"]) / 1e9,
            ),
            answer,
        )
        self.last_inference_ms = sample.ms
        if self.first_inference_ms is None:
            self.first_inference_ms = sample.ms
        for name, output in sample.outputs.items():
            self._check(name, output, len(x))
        return sample

    def _check(self, name: str, output: NDArray[np.float32], batch: int) -> None:
        """Raise CellProblem(OUTPUT_INVALID) unless an output is finite and of its shape."""
        expected = self._expected.get(name)
        called = self._name if name == OUTPUT else f"{self._name}: {name}"
        fits = output.shape[1:] == expected[1:] if expected else name != OUTPUT or output.ndim == 3
        if not fits or output.shape[:1] != (batch,):
            wanted = (batch, *expected[1:]) if expected else f"({batch}, 4 + classes, anchors)"
            raise CellProblem(Reason.OUTPUT_INVALID, f"{called}: the output is {output.shape}, expected {wanted}")
        finite = np.isfinite(output)
        if not finite.all():
            bad = int(output.size - finite.sum())
            text = f"{called}: {bad} of {output.size} output values are not finite"
            raise CellProblem(Reason.OUTPUT_INVALID, text)

    def time(self, n: int, warmup: int = 0, timeout: float | None = None) -> Timing:
        """Time `n` inferences of the last `infer`'s input, after `warmup` untimed ones.

        The default deadline is the larger of 60 s and twenty times what the last inference suggests, so that a slow
        machine is measured as slow and only a hang is ended.
        """
        if timeout is None:
            timeout = self._patience(n + warmup)
        answer = self._exchange("time", {"n": n, "warmup": warmup}, timeout, Reason.INFERENCE_FAILED)

        def timing() -> Timing:
            samples = _times(answer["samples_ns"], n) / 1e6
            return Timing(samples, answer["cpu_ns"] / 1e9, answer["wall_ns"] / 1e9, int(answer["threads"]))

        return self._read(timing, answer)

    def time_on_device(self, n: int, warmup: int, *, graph: bool) -> NDArray[np.float64] | None:
        """Times of `n` inferences of the last `infer`'s input on the GPU alone, ms, after `warmup` untimed ones.

        `graph`: replayed as a captured CUDA graph.  None where the runtime does not tell.
        """
        fields = {"n": n, "warmup": warmup, "graph": graph}
        answer = self._exchange("device", fields, self._patience(n + warmup), Reason.INFERENCE_FAILED)
        if answer.get("ms", ()) is None:
            return None
        return self._read(lambda: _times(answer["ms"], n), answer)

    def once(self, timeout: float = 60.0) -> float:
        """Time of one inference of the last `infer`'s input, ms; for guests that take turns inference by inference."""
        answer = self._exchange("once", {}, timeout, Reason.INFERENCE_FAILED)
        return self._read(lambda: _time(int(answer["ns"]) / 1e6), answer)

    def profile(self, n: int, timeout: float | None = None) -> list[Operator] | None:
        """Every operator that an inference of the last `infer`'s input executes, timed in `n` of them.

        The runtime's own profiler is on meanwhile, so these are not the times of `time`.  None where the runtime does
        not tell its operators.  The default deadline is the larger of 300 s, since the model may be loaded a second
        time, and forty times what the last inference suggests.
        """
        if timeout is None:
            timeout = max(300.0, 40.0 * n * (self.last_inference_ms or 0.0) / 1e3)
        answer = self._exchange("profile", {"n": n}, timeout, Reason.INFERENCE_FAILED)
        if answer.get("operators", ()) is None:
            return None
        return self._read(lambda: _operators(answer["operators"]), answer)

    def stats(self, *, attest: bool = False, timeout: float = 300.0) -> Stats:
        """Memory and threads; `attest=True` also asks the runtime what it ran.

        That costs memory, so the peak reported with it is the one from before.
        """
        answer = self._exchange("stats", {"attest": attest}, timeout, Reason.INFERENCE_FAILED)
        return self._read(
            lambda: Stats(
                int(answer["peak_rss_bytes"]),
                int(answer["threads"]),
                dict(answer["attested"]) | self.confined if attest else {},
                int(answer["huge_bytes"]),
            ),
            answer,
        )

    def call(
        self, function: str, arguments: Mapping[str, Any], timeout: float, reason: Reason = Reason.EXPORT_FAILED
    ) -> dict[str, Any]:
        """Call an exporter's function with one JSON object; `reason` is the code when it raises."""
        answer = self._exchange("call", {"function": function, "arguments": dict(arguments)}, timeout, reason)
        return self._read(lambda: dict(answer["result"]), answer)

    def close(self) -> None:
        """End the guest and its children and remove the shared and its temporary files.  Safe to call twice."""
        if self._guest is not None:
            self._guest.close()
            self._guest = None
        if self._scratch is not None:
            _remove(self._scratch)
            self._scratch = None

    @property
    def pid(self) -> int:
        """Process id of the running guest."""
        return self._running(Reason.CRASHED).pid

    def log_tail(self) -> str:
        """The last lines that the running guest wrote to standard error, where its standard output goes too."""
        return self._running(Reason.CRASHED).log_tail()

    def _patience(self, inferences: int) -> float:
        """Seconds after which some inferences are taken for a hang and not for a slow machine."""
        return max(60.0, 20.0 * inferences * (self.last_inference_ms or 0.0) / 1e3)

    def _running(self, reason: Reason) -> GuestProcess:
        if self._guest is None:
            raise CellProblem(reason, f"{self._name}: the guest is not running")
        return self._guest

    def _exchange(self, verb: str, fields: Mapping[str, Any], timeout: float, reason: Reason) -> dict[str, Any]:
        return self._running(reason).exchange(verb, fields, timeout, reason)

    def _replies(self, headers: Mapping[str, Mapping[str, Any]]) -> dict[str, NDArray[np.float32]]:
        if list(headers) != list(self._expected):
            raise ValueError(f"replies {list(headers)}, not {list(self._expected)}")
        return {name: self._reply(number, header) for number, (name, header) in enumerate(headers.items())}

    def _reply(self, number: int, header: Mapping[str, Any]) -> NDArray[np.float32]:
        assert self._scratch is not None
        shape = tuple(int(side) for side in header["shape"])
        if header["dtype"] != "float32":
            raise ValueError(f"reply of {header['dtype']}")
        if 0 in shape:
            return np.zeros(shape, np.float32)
        return np.array(np.memmap(self._scratch / f"reply-{number}", dtype=np.float32, mode="r", shape=shape))

    def _read(self, build: Callable[[], T], answer: Mapping[str, Any]) -> T:
        """Build a result from an answer; a field that is missing or of another kind is a breach of the protocol."""
        try:
            return build()
        except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
            self._running(Reason.PROTOCOL).fail(
                Reason.PROTOCOL, f"sent an answer that does not fit ({error!r}): {str(dict(answer))[:200]}"
            )


def with_threads(variables: Mapping[str, str], threads: int) -> dict[str, str]:
    """The environment of a process behind the wall: `variables`, with the libraries' thread settings among them."""
    kept = {name: value for name, value in variables.items() if name not in _FOREIGN_VARIABLES}
    return kept | dict.fromkeys(_THREAD_VARIABLES, str(threads))


def own_folders(work: Path, variables: Mapping[str, str]) -> list[Path]:
    """Where a process behind the wall keeps its files: the folder it works in, and the home that it was given."""
    return [work, *(Path(variables[name]) for name in ("HOME",) if name in variables)]


def _time(ms: float) -> float:
    """A time above 0.  Raises ValueError."""
    if not 0 < ms < math.inf:
        raise ValueError(f"a time of {ms} ms")
    return ms


def _times(told: Any, n: int) -> NDArray[np.float64]:
    """`n` times above 0, as a guest sends them.  Raises TypeError or ValueError for anything else."""
    samples = np.asarray(told, dtype=np.float64)
    if samples.shape != (n,) or not (np.isfinite(samples) & (samples > 0)).all():
        raise ValueError(f"{n} times above 0 were asked for")
    return samples


def _operators(told: Any) -> list[Operator]:
    """Operators as a guest sends them.  Raises KeyError, TypeError or ValueError for anything else, none at all too."""
    operators = [Operator(one["name"], one["type"], float(one["ms"])) for one in told]
    fit = all(
        isinstance(one.name, str) and isinstance(one.type, str) and one.type and 0 <= one.ms < math.inf
        for one in operators
    )
    if not operators or not fit:
        raise ValueError("operators without names, types or times")
    return operators


def _remove(folder: Path) -> None:
    """Remove a guest's folder; what its killed children were just writing may take a moment to end."""
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_REMOVAL_PAUSE_S)


@atexit.register
def _close_all() -> None:
    """No folder outlives the core (SIGKILL of the core is covered by the guest, which removes its folder itself)."""
    for worker in list(_LIVE):
        worker.close()
