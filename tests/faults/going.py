"""A whole run that goes on, `yolo11-bench run` in a process of its own: how it is started, followed and judged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil
from faults.holds import Watched, ended, marked, orphans, readable
from faults.kinds import Outcome, Setting
from processes import command_line
from running import Done
from sweeps import LATENCY_OF_SECONDS

from bench.guest.server import FOLDER
from bench.places import ROOT, RUNTIMES
from bench.wall.worker import SERVER

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
{LATENCY_OF_SECONDS.replace("rounds = 2", "rounds = 1")}forks = true
"""
ADAPTERS = {"onnx_runtime.py": "onnx", "openvino_runtime.py": "openvino", "pytorch.py": "pytorch"}
"""Option of a guest by the name of its adapter."""
LOOK_S = 0.1
LONGEST_S = 300.0
"""A run that takes longer hangs."""
RUN = "r"
UNTIMED = ("-k", "not latency")
"""A run without its longest part, where the fault does not ask for it."""
KEPT = "what was on disk is still there, turns have a p50, the grid is full, and nothing is left behind"
"""What must hold after every fault of a whole run."""


@dataclass
class Going:
    """A run that goes on: its process, what all that it starts has in its environment, its folder, what that held."""

    process: subprocess.Popen[bytes]
    token: str
    output: Path
    watched: Watched
    started: float = field(default_factory=time.monotonic)
    late: bool = False
    """Whether it had ended when what was waited for was due."""

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

    def wait(self, seconds: float) -> None:
        """Follow it until it has gone on for so long, when a fault is due."""
        self.late = not self.follow(lambda: self.seconds >= seconds)

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
        """Its guests by the option that they run; a forked one outlives its parent, and is nobody's child then."""
        for process in marked(self.token, SERVER.name):
            adapters = [Path(word) for word in command_line(process)]
            found = [ADAPTERS[path.name] for path in adapters if path.parent == RUNTIMES and path.name in ADAPTERS]
            if found:
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
    name: str = RUN,
    said: int | None = None,
) -> Iterator[Going]:
    """A run of the campaign's sweep; everything that it starts has the name of `scratch` in its environment.

    `said` is where its standard output goes, if not into a file as its errors do.
    """
    results, temporary = results or scratch / "runs", temporary or scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    command = [*prefix, sys.executable, "-m", "bench", "run", "--sweep", SWEEP, "--run-id", name]
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
            stdout=sink if said is None else said,
            stderr=sink,
            stdin=subprocess.DEVNULL,
            preexec_fn=_hear_ctrl_c,  # noqa: PLW1509 - all it does is one system call
        )
    try:
        yield Going(process, scratch.name, output, Watched(results / name))
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
        broken += [f"{path.name} was left in the temporary folder" for path in tmp.glob(f"{FOLDER}*")]
        broken += [f"{path.name} was left in the run" for path in one.watched.run.glob(".*.tmp") if tidy]
    return Outcome(f"exit {done.code}", tuple(broken), one.late)


def moment(setting: Setting, random: Random, *, timed: bool = True) -> float:
    """Any moment of a run; of one that is not `timed`, which takes about half as long."""
    return random.uniform(0.2, (setting.seconds or 20.0) * (1.0 if timed else 0.5))
