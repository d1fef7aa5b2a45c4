"""Times on the workers of a cluster: taken where a tag asks for them and nowhere else, and said of every cell."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import fleets
import psutil
import pytest
from fleets import a_cache, command, finished, infers, kill, process, require_same, scheduler, who_did
from test_models_real import changed

from bench import store
from bench.decide.claims import tables as claims
from bench.decide.deploy.candidates import fields
from bench.environments import houses
from bench.fleet.cluster import _require_same
from bench.fleet.dispatch import timekeeper
from bench.fleet.jobs import Job, _require_machine
from bench.fleet.tags import offered
from bench.grid import machine, matrix
from bench.places import DEMO_CHECKPOINT, ROOT
from bench.reasons import CellProblem, Reason, UsageError
from bench.report import build
from bench.store import baselines, reading

OTHER = "Imagined 9000"
"""A processor that nobody has."""
DISGUISE = f"""
try:
    from bench.grid import machine
except ImportError:  # a guest's Python, which has no bench
    pass
else:
    machine.cpu_name = lambda: {OTHER!r}
"""
"""What a Python that finds this as sitecustomize takes its processor for, and all that it starts."""
IMPATIENT = (
    "import bench.fleet.crew as crew; crew.PATIENCE_S = 4.0; from bench.__main__ import main; main()"
)  # fmt: skip
BLIND = """
from bench.fleet import crew, dispatch
able, begin = crew.Crew.able, dispatch.Fleet.begin

def blindly(self, cells, wanted):
    crew.Crew.able = lambda _self, _tags: False
    begin(self, cells, wanted)
    crew.Crew.able = able

dispatch.Fleet.begin = blindly
from bench.__main__ import main
main()
"""
"""A run that sees no worker while it begins, as while one comes back."""
TIMES = "latency or accuracy"
FP32 = ("--precisions", "fp32")


matrices = fleets.matrices  # the fixtures that both files of the fleet have
own_lock = fleets.own_lock


@dataclass(frozen=True)
class Board:
    """A scheduler with workers, which take their processor for another."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def board(folder: Path, *tags: str, workers: int = 1) -> Iterator[Board]:
    (folder / "disguise").mkdir()
    (folder / "disguise" / "sitecustomize.py").write_text(DISGUISE, encoding="utf-8")
    with ExitStack() as stack:
        address = stack.enter_context(scheduler(folder))
        own = a_cache(folder / "board", images=False)
        line = [sys.executable, "-m", "bench", "worker", address, "--cache", str(own), "--tags", ",".join(tags)]
        path = f"{folder / 'disguise'}:{ROOT}"
        started = [
            stack.enter_context(process(line, folder / f"board-{number}.log", PYTHONPATH=path))
            for number in range(workers)
        ]
        yield Board(address, started)


def test_a_cell_that_no_worker_was_seen_for_is_inferred_by_the_one_that_looks_at_it(
    matrices: Path, tmp_path: Path
) -> None:
    cache = a_cache(tmp_path / "cache", images=True)
    with board(tmp_path, "machine=board") as there:
        arguments = ["--cluster", there.address, *FP32, "--time-on", "machine=board"]
        code, said = finished(command(matrices, tmp_path, cache, *arguments, select="accuracy", start=("-c", BLIND)))
        assert code == 0, said
    done = who_did(tmp_path / "r", "accuracy of")
    assert len(done) == 2, "PyTorch and ONNX"
    assert OTHER in "".join(done.value)


def test_times_are_taken_on_the_worker_with_the_tag_and_on_no_other(matrices: Path, tmp_path: Path) -> None:
    """One run that asks for them there, and one that does not ask: then the worker infers, and this machine times."""
    cache = a_cache(tmp_path / "cache", images=True)
    own = machine.machine_id()
    with board(tmp_path, "machine=board") as there:
        arguments = ["--cluster", there.address, *FP32]
        asked = command(matrices, tmp_path / "asked", cache, *arguments, "--time-on", "machine=board", select=TIMES)
        code, said = finished(asked)
        assert code == 0, said
        code, said = finished(command(matrices, tmp_path, cache, *arguments, "--run-id", "not-asked", select=TIMES))
        assert code == 0, said
    run, other = tmp_path / "asked" / "r", tmp_path / "not-asked"
    cells = store.read_table(run, "cells")
    assert cells.latency_p50_ms.notna().all()
    (timed_on,) = set(cells.timed_on)
    assert timed_on != own
    assert timed_on.startswith("imagined-9000")
    facts = store.read_table(run, "environment").set_index(["scope", "key"]).value
    assert facts[f"machine:{timed_on}", "cpu"] == OTHER
    assert facts["machine", "cpu"] != OTHER
    samples = store.read_table(run, "samples")
    assert set(samples.cell_id) == set(cells.cell_id)
    assert samples.window.nunique() == 1
    assert len(store.read_table(run, "launches")) == 3 * len(cells), "min_launches of each"
    assert set(store.read_table(other, "cells").timed_on) == {own}
    assert OTHER in "".join(who_did(other, "accuracy of").value)
    assert not [key for scope, key in store.read_table(other, "environment")[["scope", "key"]].itertuples(index=False)
                if scope.startswith("machine:")]  # fmt: skip
    require_same(run, other, times=True)
    # Nobody who compares times takes them for those of the machine that the run was started on.
    (field,) = fields(reading.load(run))
    assert field.machine.startswith(OTHER)
    told = claims.load([run, other], matrix.load(matrices))
    assert {name.partition(",")[0] for name in told.grid[told.grid.run_id == "r"].machine} == {OTHER}
    assert OTHER not in "".join(told.grid[told.grid.run_id != "r"].machine)
    assert OTHER in build(run, tmp_path / "report.html").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="timed on other machines"):
        baselines.promote(run, tmp_path / "baselines", own, "main", "a try", houses.pack(matrices))


def test_a_worker_that_is_killed_while_it_times_costs_nothing(matrices: Path, tmp_path: Path) -> None:
    cache = a_cache(tmp_path / "cache", images=True)
    with board(tmp_path, "machine=board", workers=2) as there:
        line = command(matrices, tmp_path, cache, "--cluster", there.address, "--time-on", "machine=board", *FP32,
                       select=TIMES)  # fmt: skip
        with process(line, tmp_path / "run.log") as run:
            kill(timing(there, run, tmp_path))
            code = run.wait(400)
    assert code == 0, (tmp_path / "run.log").read_text(encoding="utf-8")
    cells = store.read_table(tmp_path / "r", "cells")
    assert set(cells.status) == {"measured"}
    assert cells.latency_p50_ms.notna().all()
    samples = store.read_table(tmp_path / "r", "samples")
    assert samples.groupby("cell_id", observed=True)["round"].nunique().nunique() == 1, "one window, none of it twice"
    assert samples.window.nunique() == 1


def timing(there: Board, run: subprocess.Popen[bytes], folder: Path) -> subprocess.Popen[bytes]:
    """The worker that is at it, once it has taken a turn or two; it has noted its process beside the lock."""
    deadline = time.monotonic() + 400
    while True:
        assert run.poll() is None, (folder / "run.log").read_text(encoding="utf-8")
        assert time.monotonic() < deadline
        for note in (folder / "state").rglob("*.pid"):
            noted = note.read_text(encoding="ascii")
            for one in there.workers:
                if noted and int(noted) in {child.pid for child in psutil.Process(one.pid).children(recursive=True)}:
                    time.sleep(1.0)
                    return one
        time.sleep(0.1)


@pytest.mark.parametrize("what", ["scheduler", "workers"])
def test_who_is_left_alone_says_so_and_keeps_what_there_is(matrices: Path, tmp_path: Path, what: str) -> None:
    cache = a_cache(tmp_path / "cache", images=True)
    with ExitStack() as stack:
        address = stack.enter_context(scheduler(tmp_path))
        own = a_cache(tmp_path / "host", images=False)
        line = [sys.executable, "-m", "bench", "worker", address, "--cache", str(own)]
        worker = stack.enter_context(process(line, tmp_path / "worker.log"))
        start = ("-c", IMPATIENT)
        line = command(matrices, tmp_path, cache, "--cluster", address, *FP32, start=start)
        run = stack.enter_context(process(line, tmp_path / "run.log"))
        deadline = time.monotonic() + 400
        while not infers(worker):
            assert run.poll() is None, (tmp_path / "run.log").read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.1)
        port = int(address.rpartition(":")[2])
        kill_listener(port) if what == "scheduler" else kill(worker)
        code = run.wait(300)
    said = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert code == 2, said
    assert "Traceback" not in said
    # Of workers the tags are told that its work of just then needs: a platform's to export, a target's to infer.
    expected = r"is lost; start it" if what == "scheduler" else r"no worker with \S+ has been connected to tcp"
    assert re.search(expected, " ".join(said.split()))
    assert len(store.read_table(tmp_path / "r", "cells")) == 2, "every cell has its row"


def kill_listener(port: int) -> None:
    """Kill whoever listens on a port of this machine."""
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
            psutil.Process(one.pid).kill()


def test_several_models_of_one_run_are_evaluated_by_workers(matrices: Path, tmp_path: Path) -> None:
    models = [shutil.copy(DEMO_CHECKPOINT, tmp_path / "a.pt"), changed(tmp_path / "b" / "b.pt", 0.7)]
    given = ["--model", ",".join(map(str, models)), *FP32]
    data = ["--data", str(images_of(tmp_path))]
    for name, more in (("single", []), ("fleet", ["--cluster", "local:2"])):
        cache = a_cache(tmp_path / f"cache-{name}", images=True)
        code, said = finished(command(matrices, tmp_path / name, cache, *given, *data, *more))
        assert code == 0, said
    require_same(tmp_path / "fleet" / "r", tmp_path / "single" / "r")
    assert set(store.read_table(tmp_path / "fleet" / "r", "cells").model) == {"a", "b"}
    assert len(who_did(tmp_path / "fleet" / "r", "accuracy of")) == 4


def test_wrong_tags_are_one_clear_error(matrices: Path, tmp_path: Path) -> None:
    cache = a_cache(tmp_path / "cache", images=False)
    code, said = finished(command(matrices, tmp_path, cache, "--time-on", "machine=board"))
    assert (code, "give --cluster as well" in said) == (2, True), said
    with board(tmp_path, "machine=board", "rack=2") as there:
        connected(there.address)
        line = command(matrices, tmp_path, cache, "--cluster", there.address, "--time-on", "machine=epyc")
        code, said = finished(line)
        assert code == 2, said
        assert "theirs are: machine=board rack=2" in " ".join(said.split())
        assert "Traceback" not in said
    for tags in ("board", "target=cuda", "machine-id=x", "machine=a b"):
        code, said = finished([sys.executable, "-m", "bench", "worker", "tcp://127.0.0.1:9", "--tags", tags])
        assert code == 2, said
        assert f"--tags {tags}" in said
    code, said = finished([sys.executable, "-m", "bench", "worker", "127.0.0.1"])
    assert (code, "is no scheduler's address" in said) == (2, True), said


def test_a_worker_with_another_bench_is_refused(matrices: Path, tmp_path: Path) -> None:
    """Another state of the code, which may read or decode images otherwise."""
    cache = a_cache(tmp_path / "cache", images=False)
    copy = tmp_path / "copy"
    for name in ("bench", "matrices", "reports"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "bench" / "another.py").write_text('"""Not in this bench."""\n', encoding="utf-8")
    with scheduler(tmp_path) as address:
        line = [sys.executable, "-m", "bench", "worker", address, "--cache", str(tmp_path / "cache")]
        with process(line, tmp_path / "worker.log", cwd=copy, PYTHONPATH=str(copy)):
            connected(address)
            code, said = finished(command(matrices, tmp_path, cache, "--cluster", address))
    assert code == 2, said
    assert "has another state of the bench than this run" in said
    assert "Traceback" not in said


def connected(address: str) -> None:
    """Wait for the first worker of a scheduler."""
    from distributed import Client

    with Client(address) as client:
        client.wait_for_workers(1, timeout=120)


def images_of(folder: Path) -> Path:
    """The data file of the images in a cache like those of the tests."""
    cache = a_cache(folder / "images", images=True)
    return min((cache / "demo").rglob("*.yaml"), key=lambda file: len(str(file)))  # other tests draw more of them


def test_versions_that_differ_are_named() -> None:
    _require_same("the worker at x", {"python": "3.11", "numpy": "2.4.6"}, {"python": "3.11", "numpy": "2.4.6"})
    with pytest.raises(UsageError) as told:
        _require_same("the worker at x", {"python": "3.11", "numpy": "2.4.6"}, {"python": "3.12"})
    assert "python 3.12 (here 3.11), numpy missing (here 2.4.6)" in str(told.value)


A, B = frozenset({"machine=a", "machine-id=epyc", "target=cpu"}), frozenset({"machine=b", "machine-id=xeon",
                                                                            "target=cpu", "target=cuda"})  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "target", "found"),
    [
        (["machine=a", "target=cuda"], "cpu", "epyc"),
        (["machine=a", "target=cuda"], "cuda", "xeon"),
        (["machine=a"], "cuda", ""),
        ([], "cpu", ""),
        (["machine-id=xeon"], "cpu", "xeon"),
    ],
)
def test_the_first_tag_whose_machine_has_the_target_says_who_takes_times(
    asked: list[str], target: str, found: str
) -> None:
    assert timekeeper([A, B], asked, target) == found


def test_a_tag_of_different_machines_does_not_say_who_takes_times() -> None:
    with pytest.raises(UsageError, match=r"2 different machines have it.*machine=a.*machine=b"):
        timekeeper([A, B], ["target=cpu"], "cpu")
    assert timekeeper([A, A | {"machine=c"}], ["target=cpu"], "cpu") == "epyc", "two of a kind share their times"


def test_what_is_of_another_machine_is_refused_by_the_worker_itself() -> None:
    """Whatever its tags say: they are words, and the machine is asked."""
    job = Job.__new__(Job)
    object.__setattr__(job, "machine", "epyc")
    with pytest.raises(CellProblem) as told:
        _require_machine(job)
    assert told.value.reason is Reason.NOT_TIMED
    assert machine.machine_id() in told.value.text
    object.__setattr__(job, "machine", machine.machine_id())
    _require_machine(job)


def test_a_worker_is_called_after_its_host_unless_it_is_given_a_name() -> None:
    assert f"machine={socket.gethostname()}" in offered()
    named = offered(["machine=epyc"])
    assert "machine=epyc" in named
    assert f"machine={socket.gethostname()}" not in named
    assert f"machine-id={machine.machine_id()}" in named
