"""Guests that are forked: what a new process is, with an end, a log and a folder of its own; and spares of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from processes import gone
from rich.console import Console
from test_worker import GUESTS, images, spec, worker

from bench.guest.forking import MOVES
from bench.guest.seal import WRITES
from bench.measure.spares import Spares
from bench.places import ROOT
from bench.progress import Reporter
from bench.reasons import CellProblem, Reason
from bench.wall.child import Child
from bench.wall.confinement import Confinement, refusals
from bench.wall.worker import Worker

pytestmark = [
    pytest.mark.usefixtures("temporary"),
    pytest.mark.skipif(sys.platform != "linux", reason="guests are forked on Linux alone"),
]
KEY = ("linear", "python", 1, (0,))


@pytest.fixture
def parent() -> Iterator[Worker]:
    with worker("misbehaving") as guest:
        yield guest


def test_a_child_serves_as_its_parent_would_and_both_go_on() -> None:
    with worker("linear") as parent, Child(parent) as one, Child(parent) as other:
        assert len({parent.pid, one.pid, other.pid}) == 3
        assert os.getpgid(one.pid) == one.pid
        assert one.confined == parent.confined
        for guest in (one, other, parent):
            guest.load(spec())
            assert np.array_equal(guest.infer(images()), np.full((1, 6, 5), 0.25, np.float32))
        told = [guest.stats(attest=True).attested for guest in (one, parent)]
        assert told[0]["cpus"] == told[1]["cpus"]
        own = [said["variables"].pop("TMPDIR") for said in told]
        assert own[0] == str(one.folder / "tmp")
        assert own[0] != own[1]


def test_no_two_children_have_their_memory_at_the_same_addresses(tmp_path: Path) -> None:
    told = tmp_path / "loads"
    own = Confinement(writable=(tmp_path,))
    loaded = spec(loads=str(told))
    with worker("moving", confinement=own) as parent:
        for _ in range(6):
            with Child(parent) as child:
                child.load(loaded)
    pids, addresses = zip(*(line.split() for line in told.read_text(encoding="ascii").splitlines()), strict=True)
    assert len(set(pids)) == 6
    assert len(set(addresses)) > 1
    assert max(MOVES) >= 1 << 18


@pytest.mark.parametrize(
    ("behaviour", "reason", "text"),
    [
        ("exit", Reason.CRASHED, "exit code 3"),
        ("sigkill", Reason.CRASHED, "SIGKILL.*about to go"),
        ("segfault", Reason.CRASHED, "SIGSEGV"),
        ("raise", Reason.LOAD_FAILED, "the kernel said no"),
    ],
)
def test_how_a_child_ends_is_told_and_its_parent_has_another(
    parent: Worker, behaviour: str, reason: Reason, text: str
) -> None:
    with Child(parent) as child, pytest.raises(CellProblem, match=f"(?s){text}") as problem:
        child.load(spec(behaviour=behaviour))
    assert problem.value.reason is reason
    with Child(parent) as child:
        child.load(spec(behaviour="none"))
        assert child.infer(images()).shape == (1, 6, 5)


def test_a_child_that_hangs_ends_at_the_deadline_with_its_own_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    own = Confinement(writable=(tmp_path,))
    started = time.monotonic()
    with worker("misbehaving", confinement=own) as parent, Child(parent) as child:
        with pytest.raises(CellProblem) as problem:
            child.load(spec(behaviour="child", pid_file=str(pid_file)), timeout=2)
        assert problem.value.reason is Reason.TIMED_OUT
        assert time.monotonic() - started < 8
        assert all(gone(int(pid)) for pid in pid_file.read_text(encoding="ascii").split())


def test_what_a_child_writes_is_in_its_own_log(tmp_path: Path) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    with worker("misbehaving", log_path=first) as parent, Child(parent, log_path=second) as child:
        child.load(spec(behaviour="chatty"))
        assert "a C library prints" in child.log_tail()
    assert "a C library prints" in second.read_text(encoding="utf-8")
    assert "a C library prints" not in first.read_text(encoding="utf-8")


def test_a_child_may_outlive_its_parent_in_a_folder_of_its_own(tmp_path: Path, temporary: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    parent = worker("misbehaving", confinement=Confinement(writable=(place,)))
    parent.start()
    child = Child(parent, place)
    child.start()
    parent.close()
    with Child(child) as grandchild:
        grandchild.load(spec(behaviour="none"))
        assert grandchild.infer(images()).shape == (1, 6, 5)
    pid = child.pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(CellProblem, match="cannot say how") as problem:
        Child(child).start()
    assert problem.value.reason is Reason.CRASHED
    child.close()
    assert gone(pid)
    assert not place.exists()
    assert list(temporary.iterdir()) == []


def test_a_child_may_serve_another_adapter(parent: Worker) -> None:
    with Child(parent, adapter=GUESTS / "linear.py") as child:
        child.load(spec())
        assert np.array_equal(child.infer(images()), np.full((1, 6, 5), 0.25, np.float32))
        with pytest.raises(CellProblem, match="linear: 'call' raised"):
            child.call("none", {}, 30)
    with (
        pytest.raises(CellProblem, match=r"No module named 'bench_guest\.guests\.absent'") as problem,
        Child(parent, adapter=GUESTS / "absent.py"),
    ):
        pass
    assert problem.value.reason is Reason.LOAD_FAILED
    with Child(parent) as child:
        child.load(spec(behaviour="none"))


@pytest.mark.skipif(WRITES in refusals(), reason=refusals().get(WRITES, ""))
def test_a_child_may_write_to_less_than_its_parent_and_the_parent_as_before(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        for name in ("there", "kept"):
            (folder / name).write_text(name, encoding="utf-8")

    def tried(guest: Worker, folder: Path) -> set[str]:
        ways = ["remove", "move in", "move out", "link", "make a folder", "by a child", "truncate", "change"]
        found = guest.call("files", {"folder": str(folder), "leave": ways}, 30)
        assert found.pop("read") == "done"
        return set(found.values())

    with worker("reaching", confinement=Confinement(writable=(tmp_path,))) as parent:
        with Child(parent, confinement=Confinement(writable=(mine,))) as child:
            assert child.confined == parent.confined
            assert tried(child, mine) == {"done"}
            assert tried(child, other) == {"PermissionError"}
            assert child.call("usual", {}, 30)["temporary"] == "done"
        assert tried(parent, other) == {"done"}


def test_threads_may_share_a_parent(parent: Worker) -> None:
    def one(_: int) -> int:
        with Child(parent) as child:
            child.load(spec(behaviour="none"))
            return child.pid

    with ThreadPoolExecutor(4) as pool:
        pids = list(pool.map(one, range(16)))
    assert len(set(pids)) == 16
    assert all(gone(pid) for pid in pids)


def test_children_end_with_whoever_started_them(tmp_path: Path) -> None:
    """The core is killed: it closes nothing itself."""
    script, told = tmp_path / "core.py", tmp_path / "pids"
    script.write_text(
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from bench.wall.child import Child\nfrom bench.wall.worker import Worker\n"
        "parent = Worker(Path(sys.executable), Path(sys.argv[1]), variables={})\nparent.start()\n"
        "child = Child(parent)\nchild.start()\n"
        "Path(sys.argv[2]).write_text(f'{parent.pid} {child.pid} {parent.folder} {child.folder}')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n",
        encoding="utf-8",
    )
    line = [sys.executable, str(script), str(GUESTS / "linear.py"), str(told)]
    done = subprocess.run(line, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    *pids, one, other = told.read_text(encoding="utf-8").split()
    assert all(gone(int(pid)) for pid in pids)
    assert not any(Path(folder).exists() for folder in (one, other))


# -- spares of a run ---------------------------------------------------------------------------------------------------


@pytest.fixture
def spares() -> Iterator[Spares]:
    kept = Spares(Reporter(Console(), enabled=False))
    yield kept
    kept.close()


def test_a_spare_is_left_behind_and_ends_with_the_run(spares: Spares, temporary: Path) -> None:
    with spares.place(KEY, wanted=True) as (confinement, folder):
        assert folder is not None
        with worker("linear", confinement=confinement) as guest:
            spares.keep(KEY, guest, folder)
    spare = spares.of(KEY)
    assert spare is not None
    with Child(spare) as child:
        child.load(spec())
    with spares.place(KEY, wanted=True) as (_, folder):
        assert folder is None, "one is enough"
    pid = spare.pid
    spares.close()
    assert gone(pid)
    assert spares.of(KEY) is None
    assert list(temporary.iterdir()) == []


def test_where_no_spare_comes_of_it_nothing_stays(spares: Spares, temporary: Path) -> None:
    with spares.place(KEY, wanted=False) as (_, folder):
        assert folder is None
    with spares.place(KEY, wanted=True) as (confinement, folder):
        assert folder is not None
        with worker("linear", confinement=confinement) as guest:
            psutil.Process(guest.pid).kill()
            spares.keep(KEY, guest, folder)
    assert spares.of(KEY) is None
    assert list(temporary.iterdir()) == []
