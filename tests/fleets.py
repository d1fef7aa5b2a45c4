"""Clusters of real processes for the tests of the fleet: schedulers, workers, and runs on them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
from processes import command_line, end
from sweeps import LATENCY_OF_SECONDS, matrices_with

from bench import demo, store
from bench.grid.request import Request
from bench.measure.instruments.footprint import Footprint
from bench.measure.instruments.latency import Latency
from bench.places import ROOT

SWEEP = """
description = "A minute: for the tests of the fleet."
imgsz = [160]
images = 72
calibration_images = 8
options = ["onnx"]
precisions = ["fp32", "int8"]
targets = ["cpu"]
"""
SWEEP += LATENCY_OF_SECONDS
OWN = {
    "run_id", "started", "seconds", "export_seconds", "import_ms", "load_ms", "first_inference_ms",
    "rss_after_load_bytes", "peak_rss_bytes", "size_bytes", "artifact_sha256",
}  # fmt: skip
"""Columns of a run's own: name, times and memory of its processes, and what exporters write paths and dates into."""
OF_TIMES = {*Latency.fills, *Footprint.fills}
"""Those that are a machine's where it took times."""


def a_cache(place: Path, *, images: bool) -> Path:
    """A cache without artifacts, which borrows the user's environments, and has images of its own or none."""
    users = Request({}).cache
    place.mkdir(parents=True)
    (users / "envs").mkdir(exist_ok=True)
    (place / "envs").symlink_to(users / "envs")
    if images:
        demo.prepare(users / "demo")
        shutil.copytree(users / "demo", place / "demo")
    return place


def command(
    matrices: Path, results: Path, cache: Path, *arguments: str, select: str = "not latency", start: Sequence[str] = ()
) -> list[str]:
    """A run named r; `start` is how Python is started for it."""
    given = ["--matrices", str(matrices), "--sweep", "tiny", "--results", str(results), "--cache", str(cache)]
    return [sys.executable, *(start or ("-m", "bench")), "run", *given, "--run-id", "r", "-k", select, *arguments]


def finished(line: Sequence[str], **variables: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    given = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | variables
    done = subprocess.run(line, cwd=ROOT, env=given, capture_output=True, text=True, check=False, timeout=600)
    return done.returncode, done.stdout + done.stderr


def require_same(run: Path, other: Path, *, times: bool = False) -> None:
    """All that is measured, to the last digit: what is the run's own and what is of its machine's times left out.

    `times`: both have some, which are their own, and so is what an exporter was told of the machine.
    """
    own = OWN | (OF_TIMES if times else set())
    for name in ("cells", "detections", "ground_truth"):
        mine, theirs = store.read_table(run, name), store.read_table(other, name)
        shared = [column for column in mine.columns if column not in own]
        pd.testing.assert_frame_equal(mine[shared], theirs[shared], check_exact=True)
    assert not store.read_table(run, "detections").empty


def who_did(run: Path, what: str) -> pd.DataFrame:
    facts = store.read_table(run, "environment")
    return facts[(facts.scope == "fleet") & facts.key.str.startswith(what)]


@contextmanager
def process(line: Sequence[str], log: Path, cwd: Path = ROOT, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the background, ended with all its children."""
    given = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    with log.open("wb") as sink, subprocess.Popen(line, cwd=cwd, env=given, stdout=sink, stderr=sink) as started:
        try:
            yield started
        finally:
            if started.poll() is None:
                kill(started)


def kill(started: subprocess.Popen[bytes]) -> None:
    """End a process and all below it at once, as a power cut does."""
    children = psutil.Process(started.pid).children(recursive=True)
    for one in [psutil.Process(started.pid), *children]:
        end(one)
    started.wait(30)


@contextmanager
def scheduler(folder: Path) -> Iterator[str]:
    """A scheduler's address."""
    log = folder / "scheduler.log"
    line = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with process(line, log):
        deadline = time.monotonic() + 60
        while (found := re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text(encoding="utf-8"))) is None:
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.2)
        yield found[1]


def infers(started: subprocess.Popen[bytes]) -> bool:
    """Whether a guest of a worker is at work."""
    below = psutil.Process(started.pid).children(recursive=True)
    return any("server.py" in word for one in below for word in command_line(one))


@pytest.fixture(scope="module")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Matrices with a sweep for these tests."""
    return matrices_with(SWEEP, tmp_path_factory.mktemp("matrices"))


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another lock than the one that this machine's real runs take, for which workers would wait."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
