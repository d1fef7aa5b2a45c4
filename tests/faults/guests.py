"""Faults of a guest at work: real runtimes on real artifacts, struck while they start, load, infer or are timed."""

from __future__ import annotations

import contextlib
import resource
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import psutil
from faults import machine
from faults.files import damage
from faults.holds import orphans
from faults.kinds import Kind, Outcome, Setting
from guest_spec import spec

from bench.demo import CHECKPOINT
from bench.environments.javascript import JsEnvironments
from bench.environments.locked import Environments
from bench.places import RUNTIMES
from bench.reasons import CellProblem, Reason, UsageError
from bench.wall import checkpoint
from bench.wall.artifacts import Artifact
from bench.wall.worker import Worker

IMGSZ = 160
START_S, HANG_S, ANSWER_S = 30.0, 5.0, 3.0
"""Deadlines: of a start or a load, of one that is going to hang, of an answer."""
AT_WORK_S = 2.0
"""How long a guest is at work that nothing happens to."""
Strike = Callable[[int], None]
"""Does something to the process of that id.  Raises OSError where it has ended."""


def at_work(
    worker: Worker,
    asked: dict[str, object],
    struck: Strike | None = None,
    delay: float = 0.0,
    start_s: float = START_S,
) -> CellProblem | None:
    """Start a guest, load and keep it busy; the problem that ends it, or None where none does.

    `struck` is called `delay` seconds after its process is there.
    """
    over = threading.Event()
    striker = threading.Thread(target=_strike, args=(worker, struck, delay, over)) if struck else None
    x = np.random.default_rng(0).random((1, 3, IMGSZ, IMGSZ), np.float32)
    try:
        if striker is not None:
            striker.start()
        worker.start(start_s)
        worker.load(asked, start_s)
        begun = time.monotonic()
        while time.monotonic() - begun < AT_WORK_S + delay:
            worker.outputs(x, ANSWER_S)
            worker.time(5, 1, ANSWER_S)
        worker.stats(attest=True, timeout=start_s)
    except CellProblem as problem:
        return problem
    finally:
        over.set()
        if striker is not None:
            striker.join()
        worker.close()
    return None


def _strike(worker: Worker, struck: Strike, delay: float, over: threading.Event) -> None:
    while not over.is_set():
        try:
            pid = worker.pid
        except CellProblem:  # it is not there yet
            time.sleep(0.001)
            continue
        if not over.wait(delay):
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                struck(pid)
        return


def outcome(problem: CellProblem | None, reasons: Collection[Reason], token: str, *, may_hold: bool = False) -> Outcome:
    """What is wrong with the problem of a guest that was struck, and whether something of it is still there."""
    broken = orphans(token)
    if problem is None:
        return Outcome("went on", tuple(broken if may_hold else [*broken, "nothing was noticed"]))
    if problem.reason not in reasons:
        broken.append(f"{problem.reason.value} where {', '.join(reasons)} would be right: {problem.text[:300]}")
    if not problem.text.strip():
        broken.append("no words")
    return Outcome(problem.reason.value, tuple(broken))


def guest(setting: Setting, option: str, token: str, wrapper: Sequence[str] = ()) -> tuple[Worker, dict[str, object]]:
    """A guest of an option and what it loads; the processes that it starts have `token` in their environment."""
    environments = Environments(setting.matrices, setting.cache)
    family, module, target, javascript = _GUESTS[option]
    artifact = setting.artifacts["onnx" if javascript else option]
    folder = JsEnvironments(setting.matrices, setting.cache).ensure(javascript).directory if javascript else ""
    worker = Worker(
        environments.ensure(family).python,
        RUNTIMES / f"{module}.py",
        variables=environments.variables() | {"BENCH_FAULT": token},
        wrapper=wrapper,
    )
    return worker, spec(artifact, IMGSZ, target=target, javascript=folder)


_GUESTS = {
    "onnx": ("onnx", "onnx_runtime", "cpu", ""),
    "pytorch": ("pytorch", "pytorch", "cpu", ""),
    "ort-web": ("browser", "ort_web", "browser-wasm", "ort-web-js"),
}
"""Environment, adapter, target and JavaScript packages of the options that are struck."""


def signalled(setting: Setting, random: Random, number: signal.Signals) -> Sequence[Outcome]:
    """A signal at any moment of a guest's life."""
    hangs = number is signal.SIGSTOP
    option = "onnx" if hangs else random.choice(["onnx"] * 7 + ["pytorch"])
    token = setting.scratch().name
    worker, asked = guest(setting, option, token)
    delay = random.uniform(0, 1.5 if option == "onnx" else 4.0)
    problem = at_work(worker, asked, partial(_kill, number=number), delay, HANG_S if hangs else START_S)
    return [outcome(problem, [Reason.TIMED_OUT if hangs else Reason.CRASHED], token)]


def _kill(pid: int, number: signal.Signals) -> None:
    psutil.Process(pid).send_signal(number)


_MEMORY = (
    Reason.OUT_OF_MEMORY, Reason.CRASHED, Reason.LOAD_FAILED, Reason.INFERENCE_FAILED, Reason.ENVIRONMENT_FAILED
)  # fmt: skip
"""A runtime that cannot have memory says so, dies of it, or says something else about its own thread or file."""


def little_memory(setting: Setting, random: Random) -> Sequence[Outcome]:
    """An address space that is too small, from the start or from some moment on."""
    token = setting.scratch().name
    if random.random() < 0.5:
        size = random.randrange(50, 700) << 20
        worker, asked = guest(setting, "onnx", token, ("prlimit", f"--as={size}"))
        return [outcome(at_work(worker, asked), _MEMORY, token, may_hold=True)]
    room = random.randrange(2 << 20)

    def struck(pid: int) -> None:
        machine.limit(pid, resource.RLIMIT_AS, machine.address_space(pid) + room)

    worker, asked = guest(setting, "onnx", token)
    return [outcome(at_work(worker, asked, struck, random.uniform(0, 0.6)), _MEMORY, token, may_hold=True)]


def killed_for_memory(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A control group in which the kernel ends whoever asks for too much."""
    token = setting.scratch().name
    with machine.memory_group(random.randrange(10, 70)) as members:
        join = ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(members))
        worker, asked = guest(setting, "onnx", token, join)
        return [outcome(at_work(worker, asked), [Reason.OUT_OF_MEMORY], token, may_hold=True)]


def no_room_for_tensors(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A full disk below the folder that the guest works in."""
    token = setting.scratch().name
    reasons = (Reason.ENVIRONMENT_FAILED, Reason.LOAD_FAILED, Reason.INFERENCE_FAILED)
    with machine.small_disk(setting.folder / f"disk-{token}", random.randrange(4, 400)) as disk, _temporary(disk):
        worker, asked = guest(setting, "onnx", token)
        found = outcome(at_work(worker, asked), reasons, token, may_hold=True)
        left = [f"{path.name} was left behind" for path in disk.iterdir()]
    return [found.worse(left)]


def short_files(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A limit on the size of files, from some moment on."""
    token = setting.scratch().name
    worker, asked = guest(setting, "onnx", token)
    struck = partial(machine.limit, what=resource.RLIMIT_FSIZE, size=random.randrange(20_000))
    problem = at_work(worker, asked, struck, random.uniform(0, 1.5))
    return [outcome(problem, [Reason.INFERENCE_FAILED, Reason.LOAD_FAILED], token)]


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def damaged_artifact(setting: Setting, random: Random) -> Sequence[Outcome]:
    """An artifact that is damaged after it was found whole."""
    scratch = setting.scratch()
    whole = setting.artifacts["onnx"]
    copy = shutil.copytree(whole.directory, scratch / whole.key)
    damage(copy / whole.manifest["entry"], random)
    worker, asked = guest(setting, "onnx", scratch.name)
    asked["artifact_dir"] = str(Artifact(whole.key, copy, whole.manifest).directory)
    reasons = (Reason.LOAD_FAILED, Reason.INFERENCE_FAILED, Reason.OUTPUT_INVALID, Reason.CRASHED, Reason.OUT_OF_MEMORY)
    return [outcome(at_work(worker, asked), reasons, scratch.name, may_hold=True)]


def browser_dies(setting: Setting, random: Random) -> Sequence[Outcome]:
    """One of the processes of a browser, or its driver, is killed."""
    token = setting.scratch().name
    worker, asked = guest(setting, "ort-web", token)

    def struck(pid: int) -> None:
        family = psutil.Process(pid).children(recursive=True)
        if family:
            random.choice(family).kill()

    reasons = (Reason.CRASHED, Reason.TIMED_OUT, Reason.LOAD_FAILED, Reason.INFERENCE_FAILED)
    problem = at_work(worker, asked, struck, random.uniform(0.3, 3.0))
    return [outcome(problem, reasons, token, may_hold=True)]  # a browser does without some of its helpers


def damaged_checkpoint(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A checkpoint that is looked into."""
    scratch = setting.scratch()
    path = scratch / "best.pt"
    shutil.copy(CHECKPOINT, path)
    damage(path, random)
    environments = Environments(setting.matrices, setting.cache)
    try:
        checkpoint.resolve(str(path), environments, scratch)
    except UsageError as error:
        named = () if "best.pt" in str(error) else (f"the error does not name best.pt: {error}",)
        return [Outcome("refused", named)]
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is looked for
        return [Outcome(type(error).__name__, (repr(error)[:300],))]
    return [Outcome("read")]


def _lacks_browser() -> str:
    found = any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return "" if found and shutil.which("npm") else "there is no Chromium, or no npm"


_SIGNALS = {
    signal.SIGKILL: ("guest killed", 55, 2),
    signal.SIGSEGV: ("guest segfaults", 35, 1),
    signal.SIGABRT: ("guest aborts", 20, 0),
    signal.SIGSTOP: ("guest hangs", 15, 1),
}
KINDS = (
    *(
        Kind(
            name,
            f"{number.name} at a random moment of a guest that starts, loads, infers, is timed or attests",
            "the reason says so, and no process is left",
            partial(signalled, number=number),
            full=full,
            short=short,
        )
        for number, (name, full, short) in _SIGNALS.items()
    ),
    Kind(
        "guest without address space",
        "RLIMIT_AS from the start, or from a random moment on",
        "it goes on, or the reason is one that a lack of memory can have",
        little_memory,
        full=25,
        short=1,
        lacks=machine.lacks_limits,
    ),
    Kind(
        "guest killed for memory",
        "a control group of 10 to 70 MiB, in which the kernel kills",
        "it goes on, or the reason is out_of_memory",
        killed_for_memory,
        full=12,
        lacks=machine.lacks_groups,
    ),
    Kind(
        "no room for tensors",
        "the temporary folder is a file system of 4 to 400 KiB",
        "it goes on, or the reason names the lack of room; nothing is left there",
        no_room_for_tensors,
        full=12,
        lacks=machine.lacks_mounts,
    ),
    Kind(
        "guest's files cut short",
        "RLIMIT_FSIZE from a random moment on",
        "the reason is that the inference or the load failed",
        short_files,
        full=8,
        lacks=machine.lacks_limits,
    ),
    Kind(
        "artifact damaged before it is loaded",
        "the model's file is cut, flipped, overwritten or replaced after it was checked",
        "it goes on, or the reason is one of loading or inference",
        damaged_artifact,
        full=35,
        short=2,
    ),
    Kind(
        "damaged checkpoint",
        "the .pt file likewise, before it is looked into",
        "one line names the file, or it is read",
        damaged_checkpoint,
        full=4,
    ),
    Kind(
        "browser dies",
        "SIGKILL of one of Chromium's processes, or of its driver",
        "it goes on, or the reason says what failed; no process is left",
        browser_dies,
        full=10,
        lacks=_lacks_browser,
    ),
)
