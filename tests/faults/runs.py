"""Faults of whole runs: `yolo11-bench run` in a process of its own, struck while it goes on."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil
from faults import machine
from faults.holds import Watched, ended, orphans, readable
from faults.kinds import Kind, Outcome, Setting
from running import Done
from sweeps import LATENCY_OF_SECONDS

from bench.demo import CHECKPOINT
from bench.places import ROOT
from bench.reasons import Reason
from bench.store.parts import files
from bench.store.tables import read_table

SWEEP = "faults"
SWEEP_TEXT = f"""
description = "Seconds: for the campaign of faults."
imgsz = [160]
images = 8
options = ["onnx", "openvino"]
precisions = ["fp32"]
targets = ["cpu", "arm-cpu"]

[deadlines]
load = 60
infer = 6
{LATENCY_OF_SECONDS.replace("rounds = 2", "rounds = 1")}"""
ADAPTERS = {"onnx_runtime.py": "onnx", "openvino_runtime.py": "openvino", "pytorch.py": "pytorch"}
"""Option of a guest by the name of its adapter."""
LOOK_S = 0.1
LONGEST_S = 300.0
"""A run that takes longer hangs."""
RUN = "r"
UNTIMED = ("-k", "not latency")
"""A run without its longest part, where the fault does not ask for it."""


@dataclass
class Going:
    """A run that goes on: its process, its folder, what it had on disk."""

    process: subprocess.Popen[bytes]
    output: Path
    watched: Watched
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self.started

    def follow(self, until: Callable[[], bool]) -> bool:
        """Look at what is on disk until `until`; False where the run ended before that."""
        looked = 0.0
        while self.process.poll() is None and self.seconds < LONGEST_S:
            if time.monotonic() - looked > LOOK_S:
                self.watched.look()
                looked = time.monotonic()
            if until():
                return True
            time.sleep(0.01)
        return False

    def wait(self, seconds: float) -> bool:
        """Follow it for so long; False where it ended before that."""
        return self.follow(lambda: self.seconds >= seconds)

    def end(self) -> Done:
        """Wait until it ends; a run that does not is killed, and its exit code is then 124."""
        try:
            code = self.process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = 124
        return Done(code, self.output.read_text(encoding="utf-8", errors="replace"))

    def guests(self) -> Iterator[tuple[str, psutil.Process]]:
        """Its guests by the option that they run, exporters left out."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    words = process.cmdline()
                    found = [ADAPTERS[Path(word).name] for word in words if Path(word).name in ADAPTERS]
                    if (
                        found
                        and any(Path(word).name == "server.py" for word in words)
                        and "exporters" not in str(words)
                    ):
                        yield found[0], process


@contextmanager
def going(
    setting: Setting,
    scratch: Path,
    *arguments: str,
    results: Path | None = None,
    temporary: Path | None = None,
    cache: Path | None = None,
    variables: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Going]:
    """A run of the campaign's sweep; everything that it starts has the name of `scratch` in its environment."""
    results, temporary = results or scratch / "runs", temporary or scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    command = [*prefix, sys.executable, "-m", "bench", "run", "--sweep", SWEEP, "--run-id", RUN]
    command += ["--matrices", str(setting.matrices), "--cache", str(cache or setting.cache), "--results", str(results)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "", "COLUMNS": "200", "TMPDIR": str(temporary)}
    environment |= {"XDG_STATE_HOME": str(scratch / "state"), "BENCH_FAULT": scratch.name, **(variables or {})}
    output = scratch / f"output-{len(list(scratch.glob('output-*')))}"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            preexec_fn=_hear_ctrl_c,  # noqa: PLW1509 - all it does is one system call
        )
    try:
        yield Going(process, output, Watched(results / RUN))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _hear_ctrl_c() -> None:
    """A process that is started in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def judged(
    one: Going, scratch: Path, allowed: Collection[int], *, names: Collection[str] = (), tidy: bool = True
) -> Outcome:
    """What is wrong after a run has ended: with its end, its folder, what it left behind.

    Nobody can be `tidy` on a disk that has become read-only.
    """
    done = one.end()
    broken = ended(done, allowed, names)
    broken += orphans(scratch.name)
    broken += one.watched.lost()
    broken += readable(one.watched.run) if one.watched.run.is_dir() else []
    if done.code >= 0:
        tmp = scratch / "tmp"
        broken += [f"{path.name} was left in the temporary folder" for path in tmp.glob("bench-worker-*")]
        broken += [f"{path.name} was left in the run" for path in one.watched.run.glob(".*.tmp") if tidy]
    return Outcome(f"exit {done.code}", tuple(broken))


def _moment(setting: Setting, random: Random, *, timed: bool = True) -> float:
    """Any moment of a run; of one that is not `timed`, which takes about half as long."""
    return random.uniform(0.2, (setting.seconds or 20.0) * (1.0 if timed else 0.5))


def killed(setting: Setting, random: Random) -> Sequence[Outcome]:
    """SIGKILL of the run."""
    scratch = setting.scratch()
    with going(setting, scratch) as one:
        one.wait(_moment(setting, random))
        one.process.kill()
        return [judged(one, scratch, {-signal.SIGKILL, 0, 1})]


def stopped(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Ctrl-C, or a stop signal."""
    scratch = setting.scratch()
    with going(setting, scratch) as one:
        one.wait(_moment(setting, random))
        one.process.send_signal(random.choice([signal.SIGINT, signal.SIGTERM]))
        return [judged(one, scratch, {130, 0, 1, *_BEFORE_IT_LISTENS})]


def stopped_twice(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Ctrl-C, and again before the run has ended."""
    scratch = setting.scratch()
    with going(setting, scratch) as one:
        one.wait(_moment(setting, random))
        one.process.send_signal(signal.SIGINT)
        one.wait(one.seconds + random.choice([random.uniform(0, 0.2), random.uniform(0, 2.0)]))
        one.process.send_signal(random.choice([signal.SIGINT, signal.SIGTERM]))
        return [judged(one, scratch, {130, 0, 1, *_BEFORE_IT_LISTENS})]


_BEFORE_IT_LISTENS = (-signal.SIGINT, -signal.SIGTERM)
"""How an interpreter ends that has not read the first line of ours yet."""


_CRASHED = (Reason.CRASHED, Reason.OK)
"""A guest that had said all that it was asked for by then is not missed."""


def guests(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Each guest but the reference's is struck once in its life: killed, or made to crash."""
    return _struck(setting, random, setting.artifacts.keys() - {"pytorch"}, _CRASHED, _crash)


def early(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A guest is struck where it is characterised."""
    return _struck(setting, random, {"onnx"}, _CRASHED, _crash, first=True)


def reference(setting: Setting, random: Random) -> Sequence[Outcome]:
    """The guest of what others are compared with."""
    return _struck(setting, random, {"pytorch"}, _CRASHED, _crash)


def hanging(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A guest hangs where it is characterised; while it is timed, the deadline is a minute."""
    return _struck(setting, random, {random.choice(["onnx", "openvino"])}, {Reason.TIMED_OUT}, _hang, first=True)


def greedy(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A guest gets no more memory from some moment on."""
    reasons = {Reason.OUT_OF_MEMORY, Reason.CRASHED, Reason.LOAD_FAILED, Reason.INFERENCE_FAILED, Reason.OK}
    return _struck(setting, random, {random.choice(["onnx", "openvino"])}, reasons, _starve)


def _crash(process: psutil.Process, random: Random) -> None:
    process.send_signal(random.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS]))


def _hang(process: psutil.Process, _random: Random) -> None:
    process.suspend()


def _starve(process: psutil.Process, random: Random) -> None:
    size = machine.address_space(process.pid) + random.randrange(1 << 20)
    machine.limit(process.pid, resource.RLIMIT_AS, size)


def _struck(
    setting: Setting,
    random: Random,
    options: set[str],
    reasons: Collection[Reason],
    strike: Callable[[psutil.Process, Random], None],
    *,
    first: bool = False,
) -> Sequence[Outcome]:
    """Strike a guest of each option once: at a random moment of one of its lives, the first only where `first` is."""
    scratch = setting.scratch()
    due = {name: (1 if first else random.randrange(1, 5), random.uniform(0, 0.8)) for name in options}
    lives: dict[str, list[int]] = {name: [] for name in options}
    born: dict[int, float] = {}
    struck: set[str] = set()
    with going(setting, scratch, *(UNTIMED if first else ())) as one:

        def all_struck() -> bool:
            for option, process in one.guests():
                if option not in options - struck:
                    continue
                if process.pid not in lives[option]:
                    lives[option].append(process.pid)
                    born[process.pid] = time.monotonic()
                life, age = due[option]
                if len(lives[option]) == life and time.monotonic() - born[process.pid] >= age:
                    with contextlib.suppress(psutil.Error, OSError):
                        strike(process, random)
                        struck.add(option)
            return struck == options

        one.follow(all_struck)
        one.follow(lambda: False)
        found = judged(one, scratch, {0, 1})
    told = [_reason(one.watched.run, option) for option in sorted(struck)]
    wrong = [
        f"{option} was struck and its reason is {code!r}"
        for option, code in zip(sorted(struck), told, strict=True)
        if code not in reasons
    ]
    outcomes = [Outcome(code or "went on") for code in told] or [Outcome("ended before")]
    return [outcomes[0].worse([*found.broken, *wrong]), *outcomes[1:]]


def _reason(run: Path, option: str) -> str:
    if not files(run, "cells"):
        return "no table"
    table = read_table(run, "cells")
    own = table[(table.option == option) & (table.reason_code != Reason.TARGET_ABSENT.value)]
    return str(own.reason_code.iloc[0])


def full(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Results on a small disk."""
    scratch = setting.scratch()
    kib = random.choice([20, 60, 100, 140, 180, 220, 300])
    with machine.small_disk(scratch / "disk", kib) as disk, going(setting, scratch, *UNTIMED, results=disk) as one:
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2})]


def read_only(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Results on a disk that becomes read-only."""
    scratch = setting.scratch()
    with machine.small_disk(scratch / "disk", 20_000) as disk, going(setting, scratch, *UNTIMED, results=disk) as one:
        one.wait(_moment(setting, random, timed=False))
        machine.make_read_only(disk)
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2}, tidy=False)]


def short_files(setting: Setting, random: Random) -> Sequence[Outcome]:
    """No file of the run may be longer than so much, from some moment on."""
    scratch = setting.scratch()
    with going(setting, scratch, *UNTIMED) as one:
        one.wait(_moment(setting, random, timed=False))
        with contextlib.suppress(OSError):
            machine.limit(one.process.pid, resource.RLIMIT_FSIZE, random.randrange(1_000, 60_000))
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2})]


def no_room(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Temporary files on a small disk."""
    scratch = setting.scratch()
    kib = random.choice([4, 100, 320, 400, 640])
    with machine.small_disk(scratch / "tmp", kib) as disk, going(setting, scratch, *UNTIMED, temporary=disk) as one:
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2})]


def read_only_cache(setting: Setting, _random: Random) -> Sequence[Outcome]:
    """A cache that is all there and cannot be written."""
    scratch = setting.scratch()
    with machine.small_disk(scratch / "cache", 60_000) as disk:
        shutil.copytree(setting.cache, disk, symlinks=True, dirs_exist_ok=True)
        machine.make_read_only(disk)
        with going(setting, scratch, *UNTIMED, cache=disk) as one:
            one.follow(lambda: False)
            return [judged(one, scratch, {0, 1, 2})]


def jumping(setting: Setting, random: Random) -> Sequence[Outcome]:
    """The wall clock jumps, far forward or back."""
    scratch = setting.scratch()
    by = random.choice([-400 * 86_400, -3_600, 3_600, 86_400, 3_650 * 86_400])
    variables = {
        "LD_PRELOAD": str(machine.clock_library(setting.folder)),
        "JUMP_AFTER": str(random.randrange(1, 15)),
        "JUMP_BY": str(by),
    }
    with going(setting, scratch, *UNTIMED, variables=variables) as one:
        one.follow(lambda: False)
        return [judged(one, scratch, {0})]


def other_monotonic(setting: Setting, random: Random) -> Sequence[Outcome]:
    """The monotonic clock counts from elsewhere."""
    scratch = setting.scratch()
    ahead = str(random.randrange(10, 10**9))
    prefix = ["unshare", "--time", "--monotonic", ahead, "--boottime", ahead]
    with going(setting, scratch, *UNTIMED, prefix=prefix) as one:
        one.follow(lambda: False)
        return [judged(one, scratch, {0})]


def two_at_once(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Two runs of one name, started together: one has it."""
    scratch = setting.scratch()
    with ExitStack() as stack:
        both = []
        for _ in range(2):
            both.append(stack.enter_context(going(setting, scratch, "-k", "export or footprint")))
            time.sleep(random.choice([0.0, random.uniform(0, 0.5)]))
        for one in both:
            one.follow(lambda: False)
        codes = [one.end().code for one in both]
        broken = [] if sorted(codes) == [0, 2] else [f"exit codes {codes}: one run has the name, the other has not"]
        found = [judged(one, scratch, {0, 2}) for one in both]
    return [Outcome(f"exit {codes}", tuple(dict.fromkeys([*broken, *(text for one in found for text in one.broken)])))]


def vanishing(setting: Setting, random: Random) -> Sequence[Outcome]:
    """An image is deleted or replaced while it is evaluated."""
    scratch = setting.scratch()
    data = shutil.copytree(setting.data.parent, scratch / "data") / setting.data.name
    images = sorted(data.parent.glob("images/val/*.png"))
    arguments = ("--model", str(CHECKPOINT), "--data", str(data), "--images", str(len(images)))
    with going(setting, scratch, *UNTIMED, *arguments) as one:
        one.wait(_moment(setting, random, timed=False))
        path = random.choice(images)
        path.unlink()
        if random.random() < 0.5:
            shutil.copy(Path(__file__), path)
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2}, names=[path.name])]


def healed(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A cached artifact that is damaged is exported again, and the run says so."""
    scratch = setting.scratch()
    cache = scratch / "cache"
    shutil.copytree(setting.cache, cache, symlinks=True)
    artifact = setting.artifacts["pytorch"]
    path = cache / "artifacts" / artifact.key / artifact.manifest["entry"]
    path.write_bytes(path.read_bytes()[: random.randrange(path.stat().st_size)])
    with going(setting, scratch, "-k", "pytorch and footprint", cache=cache) as one:
        one.follow(lambda: False)
        found = judged(one, scratch, {0})
        said = one.output.read_text(encoding="utf-8", errors="replace")
    told = () if "was damaged" in said else ("the run does not say that an artifact was damaged",)
    return [found.worse(told)]


_KEPT = "what was on disk is still there, turns have a p50, the grid is full, and nothing is left behind"
KINDS = (
    Kind("run killed", "SIGKILL at a random moment of a run", _KEPT, killed, full=14),
    Kind("run stopped", "Ctrl-C or SIGTERM, likewise", f"exit code 130; {_KEPT}", stopped, full=6),
    Kind("run stopped twice", "Ctrl-C, and again within two seconds", f"exit code 130; {_KEPT}", stopped_twice, full=6),
    Kind("guests crash in a run", "SIGKILL, SIGSEGV, SIGABRT or SIGBUS of each measured guest at a random moment of "
         "one of its lives", f"exit code 1, each cell says that it crashed; {_KEPT}", guests, full=12),
    Kind("guest crashes early in a run", "the same of one guest, where it is characterised",
         f"exit code 1, the cell says that it crashed; {_KEPT}", early, full=6, short=1),
    Kind("reference crashes in a run", "the same of PyTorch's", f"exit code 1, others say why they have no ratio; "
         f"{_KEPT}", reference, full=3),
    Kind("guest hangs in a run", "SIGSTOP", f"exit code 1, the cell says timed_out; {_KEPT}", hanging, full=4),
    Kind("guest without memory in a run", "RLIMIT_AS at what it has, at a random moment", "the cell goes on or says "
         f"what failed; {_KEPT}", greedy, full=3, lacks=machine.lacks_limits),
    Kind("full disk", "results on a file system of 20 to 300 KiB", f"one line, exit code 2; {_KEPT}", full, full=6,
         lacks=machine.lacks_mounts),
    Kind("disk becomes read-only", "results on a file system that is remounted", f"one line, exit code 2; {_KEPT}",
         read_only, full=4, lacks=machine.lacks_mounts),
    Kind("run's files cut short", "RLIMIT_FSIZE of 1 to 60 kB, at a random moment", f"one line, exit code 2; {_KEPT}",
         short_files, full=4, lacks=machine.lacks_limits),
    Kind("no room for temporary files", "TMPDIR on a file system of 4 to 640 KiB", f"reasons or one line; {_KEPT}",
         no_room, full=4, lacks=machine.lacks_mounts),
    Kind("read-only cache", "a whole cache on a file system that cannot be written", f"reasons or one line; {_KEPT}",
         read_only_cache, full=2, lacks=machine.lacks_mounts),
    Kind("wall clock jumps", "an hour to ten years, forward or back, at a random moment", f"exit code 0; {_KEPT}",
         jumping, full=3, lacks=machine.lacks_clocks),
    Kind("monotonic clock from elsewhere", "a time namespace", f"exit code 0; {_KEPT}", other_monotonic, full=2,
         lacks=machine.lacks_time_namespaces),
    Kind("two runs of one name", "started at once", "one has it, the other is told so with exit code 2", two_at_once,
         full=3),
    Kind("image vanishes", "deleted or replaced at a random moment of a run", f"one line names it; {_KEPT}", vanishing,
         full=4),
    Kind("damaged artifact in a run", "cut short in the cache", "it is exported again, and the run says so", healed,
         full=2),
)  # fmt: skip
