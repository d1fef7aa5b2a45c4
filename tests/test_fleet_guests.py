"""Who does what of a fleet: a guest that is there goes on, workers are ready before they are sent anything."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import fleets
import pytest
from fleets import a_cache, command, finished, process, scheduler

from bench.fleet.cluster import _local
from bench.fleet.jobs import Job
from bench.fleet.queue import Queue, Sent
from bench.grid import matrix
from bench.grid.matrix import Cell
from bench.grid.request import Request

matrices = fleets.matrices  # the fixtures that all files of the fleet have
own_lock = fleets.own_lock

FOUR = ("--options", "pytorch,torchscript,onnx,openvino", "--precisions", "fp32")
NOTING = """
import sys
from bench.fleet import crew
settle = crew.Crew._settle

def noting(self, sent, answer):
    with open({log!r}, "a") as log:
        print(answer.worker, sent.job.guest, file=log)
    settle(self, sent, answer)

crew.Crew._settle = noting
from bench.__main__ import main
main()
"""
"""A run that also writes down which worker has done a job of which cell's guest, in the order in which answers come."""


def test_two_workers_start_every_cell_once_and_help_at_the_last_one(matrices: Path, tmp_path: Path) -> None:
    """Two hold a cell each when none is left to begin; whoever ends first starts the other's, and nobody any more."""
    cache, log = a_cache(tmp_path / "cache", images=True), tmp_path / "log"
    code, said = finished(command(matrices, tmp_path / "before", cache, *FOUR, select="export"))
    assert code == 0, said
    start = ("-c", NOTING.format(log=str(log)))
    line = command(matrices, tmp_path, cache, *FOUR, "--cluster", "local:2", select="accuracy", start=start)
    code, said = finished(line)
    assert code == 0, said
    done = [tuple(text.split()) for text in log.read_text(encoding="utf-8").splitlines()]
    assert len(done) == 4 * 5, "72 images are five shards"
    by_worker = [[cell for worker, cell in done if worker == one] for one in sorted({worker for worker, _ in done})]
    assert len(by_worker) == 2
    begun = [[cell for cell, _ in groupby(cells)] for cells in by_worker]
    assert {cell for cells in begun for cell in cells} == {cell for _, cell in done}
    assert sum(map(len, begun)) in (4, 5)


def test_workers_have_imported_what_jobs_need_before_the_first_one_comes(tmp_path: Path) -> None:
    from distributed import Client

    request = Request({"cache": str(a_cache(tmp_path / "cache", images=False))})
    with _local(2, request) as client:
        found = client.run(lambda: "bench.fleet.jobs" in sys.modules)
        assert list(found.values()) == [True, True], "both are there"
    with scheduler(tmp_path) as address:
        line = [sys.executable, "-m", "bench", "worker", address, "--cache", str(request.cache)]
        with process(line, tmp_path / "worker.log"), Client(address) as client:
            client.wait_for_workers(1, timeout=120)
            assert list(client.run(lambda: "bench.fleet.jobs" in sys.modules).values()) == [True]


@dataclass
class Fleet:
    """A queue and workers that do what they are given at once."""

    queue: Queue
    there: dict[str, frozenset[str]]

    def take(self, worker: str) -> str:
        """The cell, or the work of none, that a worker is given."""
        sent = self.queue.take(worker, self.there)
        return "" if sent is None else sent.job.guest or sent.job.work

    def sent(self, work: str, option: str, *tags: str) -> Sent:
        job = Job.__new__(Job)
        object.__setattr__(job, "work", work)
        object.__setattr__(job, "cells", (Cell("m", matrix.load().options[option], "fp32", "cpu", 160, 1, 1),))
        sent = Sent(job, frozenset(tags or ("target=cpu",)))
        self.queue.add(sent)
        return sent


ALL = frozenset({"target=cpu", "platform=linux"})


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(Queue(), dict.fromkeys(("one", "two", "three"), ALL))


def cell_of(sent: Sent) -> str:
    return sent.job.guest


def test_a_worker_goes_on_with_its_cell_and_others_begin_others(fleet: Fleet) -> None:
    (onnx,) = {cell_of(fleet.sent("predict", "onnx")) for _ in range(4)}
    (openvino,) = {cell_of(fleet.sent("predict", "openvino")) for _ in range(3)}
    assert [fleet.take("one"), fleet.take("two"), fleet.take("one"), fleet.take("two")] == [
        onnx, openvino, onnx, openvino,
    ]  # fmt: skip
    assert fleet.take("three") == onnx, "none is left to begin, and of it there is more"
    assert [fleet.take("three"), fleet.take("three"), fleet.take("three")] == [onnx, openvino, ""]


def test_one_cell_is_everybodys(fleet: Fleet) -> None:
    (cell,) = {cell_of(fleet.sent("predict", "onnx")) for _ in range(3)}
    assert [fleet.take(name) for name in fleet.there] == [cell] * 3


def test_what_others_wait_for_goes_first(fleet: Fleet) -> None:
    cell = cell_of(fleet.sent("predict", "onnx"))
    fleet.sent("predict", "onnx")
    assert fleet.take("one") == cell
    fleet.sent("export", "openvino", "platform=linux")
    assert fleet.take("one") == "export", "though it holds a guest"
    assert fleet.take("one") == cell, "which is still there afterwards"


def test_nobody_is_given_what_it_has_not_the_tags_for(fleet: Fleet) -> None:
    fleet.there["one"] = frozenset({"target=cuda"})
    cell = cell_of(fleet.sent("predict", "onnx"))
    assert fleet.take("one") == ""
    assert fleet.take("two") == cell


def test_who_has_failed_tries_again_only_where_nobody_else_can(fleet: Fleet) -> None:
    sent = fleet.sent("predict", "onnx")
    sent.failed = ["one", "two"]
    assert fleet.take("one") == "", "the third can"
    del fleet.there["three"]
    assert fleet.take("one") == cell_of(sent)
    assert len(fleet.queue) == 0
    fleet.queue.put_back(sent)
    assert len(fleet.queue) == 1
    assert fleet.take("two") == cell_of(sent)


def test_what_was_given_back_goes_before_the_rest_of_its_cell(fleet: Fleet) -> None:
    first, second = fleet.sent("predict", "onnx"), fleet.sent("predict", "onnx")
    assert fleet.queue.take("one", fleet.there) is first
    fleet.queue.put_back(first)
    assert fleet.queue.take("two", fleet.there) is first
    assert fleet.queue.take("two", fleet.there) is second
