"""The workers of a cluster, as those who do jobs: gives them out, sends what is lacking, notices who is lost.

Dask brings a job to the worker that it is for, and its answer back.  Who that is, is decided here, since Dask cannot
know it: a worker holds the guest of a cell, lacks a file, or has failed at what another may do.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError
from concurrent.futures import Future as Promise
from concurrent.futures import wait as wait_for
from functools import partial
from pathlib import Path

from distributed import Client, Future, KilledWorker

from bench.environments.locked import Environments
from bench.fleet import depot, jobs
from bench.fleet.depot import Delivery, Parcel
from bench.fleet.jobs import Answer, Job
from bench.fleet.queue import Queue, Sent, Tags
from bench.reasons import CellProblem, Reason, UsageError
from bench.wall import moving
from bench.wall.artifacts import Artifacts

ATTEMPTS = 3
"""Workers that try a job before what stopped it counts as its result."""
PATIENCE_S = 60.0
"""How long a job that no connected worker can do is waited for: as long as a machine takes to come back."""
DELIVERY_BYTES = 32_000_000
"""Content of files that is sent at once, so that neither side holds a whole data set."""
AHEAD = 2
"""Jobs that a worker is given at once: the one that it does, and the next, so that it need not wait for an answer."""
_LOOK_S = 1.0
_LATER_S = 1e10
"""Seconds since 1970 that are never reached: what they are divided by stays below one."""
_OF_THE_WORKER = {Reason.ENVIRONMENT_FAILED, Reason.ENVIRONMENT_CHANGED, Reason.CRASHED, Reason.OUT_OF_MEMORY,
                  Reason.TIMED_OUT}  # fmt: skip
"""What may be the fault of a machine rather than of the cell."""


def connected(client: Client) -> dict[str, Tags]:
    """The tags of every connected worker, by its address; of none where the scheduler does not answer."""
    try:
        # Not Client.scheduler_info, whose answer another thread of Dask may replace by one without workers.
        workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"].items()
    except OSError:
        return {}
    return {address: frozenset(worker["resources"]) for address, worker in workers}


class Crew:
    """Use from one thread; answers come to promises from others."""

    def __init__(self, client: Client, cache: Path, environments: Environments) -> None:
        """`client` is connected; `cache` is that of the run, whose artifacts are sent."""
        self.run = secrets.token_hex(8)
        """Tells this run from others of the same workers."""
        self._client = client
        self._address = client.scheduler.address
        self._artifacts = Artifacts(cache, environments)
        self._queue = Queue()
        self._out: set[Sent] = set()
        self._lock = threading.Lock()
        """Of the two above and of what is noted of a job: answers come in another thread."""
        self._began = time.time()
        self._able_at = time.monotonic()

    def able(self, tags: Sequence[str]) -> bool:
        """Whether a connected worker has all these tags."""
        return any(set(tags) <= there for there in self.workers())

    def workers(self) -> list[Tags]:
        """The tags of every connected worker."""
        return list(connected(self._client).values())

    def send(self, jobs: Sequence[Job], tags: Sequence[str]) -> list[Promise[Answer]]:
        """Have jobs done by workers with these tags; a promise is kept or holds why it cannot be.

        They wait until jobs are given out: whoever sends those of several cells does that once all have been sent.
        """
        sent = [Sent(job, frozenset(tags)) for job in jobs]
        with self._lock:
            for one in sent:
                self._queue.add(one)
        return [one.promise for one in sent]

    def give_out(self) -> None:
        """Give every worker what it is to do next, and what lost ones had to others."""
        there = connected(self._client)
        with self._lock:
            if there:
                self._take_back(there)
            for most in range(1, AHEAD + 1):
                for worker in there:
                    # The last jobs are for whoever is the first to be done.
                    if most > 1 and len(self._queue) < len(there):
                        return
                    if sum(sent.worker == worker for sent in self._out) < most:
                        sent = self._queue.take(worker, there)
                        if sent is not None:
                            self._submit(sent, worker)

    def wait(self, promises: Sequence[Promise[Answer]], tags: Sequence[str], on_done: Callable[[int], None]) -> None:
        """Wait for all of some promises, saying how many are kept.

        Raises UsageError where the scheduler is lost, or for `PATIENCE_S` no worker with the tags is connected.
        """
        pending = {promise for promise in promises if not promise.done()}
        self._able_at = time.monotonic()
        while pending:
            on_done(len(promises) - len(pending))
            self.give_out()
            _, pending = wait_for(pending, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            self._require_help(tags)
        on_done(len(promises))

    def release(self) -> None:
        """Take back what is not done, and have every worker end the guest that it holds for this run."""
        self._end(jobs.release)

    def stop(self) -> None:
        """The same, and end what they are timing: the run is over, or was stopped."""
        self._end(jobs.stop)

    def _end(self, how: Callable[[str], None]) -> None:
        if self._client.status != "running":
            return
        with self._lock:
            self._queue.clear()
            futures = [sent.future for sent in self._out]
            for sent in self._out:
                sent.future = None
            self._out.clear()
        self._client.cancel(futures, force=True)
        self._client.run(how, self.run, on_error="ignore")

    def _require_help(self, tags: Sequence[str]) -> None:
        if self._client.status != "running":
            raise UsageError(f"the scheduler at {self._address} is lost; start it, then run again")
        now = time.monotonic()
        if self.able(tags):
            self._able_at = now
        elif now - self._able_at > PATIENCE_S:
            raise UsageError(
                f"for {PATIENCE_S:.0f} s no worker with {' and '.join(tags)} has been connected to {self._address}; "
                "start one with `yolo11-bench worker`, then run again"
            )

    def _take_back(self, there: Mapping[str, Tags]) -> None:
        """Have others do what was given to workers that are no longer connected."""
        lost = [(sent, sent.future) for sent in self._out if sent.worker not in there]
        for sent, future in lost:
            self._settle(sent, _ended(", ".join([*sent.failed, sent.worker])))
            self._client.cancel([future], force=True)

    def _submit(self, sent: Sent, worker: str) -> None:
        """Give a job to a worker, and to no other: Dask would give it to one without the tags as well."""
        sent.worker = worker
        sent.future = self._client.submit(
            jobs.do,
            sent.job,
            key=f"{sent.job.work}-{sent.job.cell.id}-{secrets.token_hex(8)}",
            pure=False,
            resources=dict.fromkeys(sent.tags, 1),
            # Of several runs of the same workers the one that began first goes first, or guests would take turns.
            priority=sent.first - self._began / _LATER_S,
            workers=[worker],
        )
        self._out.add(sent)
        sent.future.add_done_callback(partial(self._done, sent))

    def _done(self, sent: Sent, future: Future) -> None:
        """Keep the promise, or send what was lacking; called by Dask in a thread of its own."""
        if sent.future is not future:  # taken back
            return
        answer, problem = None, None
        try:
            answer = self._answer(future)
        except BaseException as error:  # noqa: BLE001 - it is raised where the promise is waited for
            problem = error
        with self._lock:
            if sent.future is not future:
                return
            if problem is not None:
                self._out.discard(sent)
                sent.promise.set_exception(problem)
            elif answer is None:
                self._submit(sent, sent.worker)
            else:
                self._settle(sent, answer)
        self.give_out()

    def _answer(self, future: Future) -> Answer | None:
        """What became of a job, or None where it did not begin, and has by now what it lacked."""
        try:
            answer: Answer = future.result()
        except KilledWorker as error:
            return _ended(error)
        except CancelledError as error:
            raise UsageError(f"the scheduler at {self._address} is lost; start it, then run again") from error
        if answer.lacks:
            self._deliver(answer)
            return None
        return answer

    def _settle(self, sent: Sent, answer: Answer) -> None:
        """Keep the promise, or have another worker try."""
        self._out.discard(sent)
        sent.future = None
        problem = answer.problem
        if problem is not None and problem.reason in _OF_THE_WORKER and len(sent.failed) + 1 < ATTEMPTS:
            sent.failed.append(sent.worker)
            self._queue.put_back(sent)
        else:
            sent.promise.set_result(answer)

    def _deliver(self, answer: Answer) -> None:
        """Send a worker what it lacks; one that is gone by then gets nothing, and its job goes to another."""
        delivery: list[tuple[Parcel, bytes]] = []
        size = 0
        for parcel in answer.files:
            content = _content(parcel)
            delivery.append((parcel, content))
            size += len(content)
            if size > DELIVERY_BYTES:
                self._run(answer.worker, Delivery(tuple(delivery)))
                delivery, size = [], 0
        if delivery:
            self._run(answer.worker, Delivery(tuple(delivery)))
        for key in answer.artifacts:
            artifact = self._artifacts.find(key)
            if artifact is not None:
                self._run(answer.worker, Delivery(artifacts=((key, moving.packed(artifact)),)))

    def _run(self, worker: str, delivery: Delivery) -> None:
        if worker in connected(self._client):
            try:
                self._client.run(depot.receive, delivery, workers=[worker])
            except OSError:  # the worker is lost just now
                return


def _ended(cause: object) -> Answer:
    """What becomes of a job whose worker is lost."""
    text = f"the workers that were given this ended one after another: {cause}"
    return Answer("", "", problem=CellProblem(Reason.CRASHED, text))


def _content(parcel: Parcel) -> bytes:
    try:
        return parcel.path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {parcel.path}: {error.strerror}; restore it, then run again") from error
