"""The workers of a cluster, as those who do jobs: sends what they lack, tries elsewhere, notices when they are lost.

Dask gives a lost worker's jobs to another one by itself.  What is added here is what it cannot know: that a worker
lacks a file, and that a guest which failed on one machine may do on another.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError
from concurrent.futures import Future as Promise
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from distributed import Client, Future, KilledWorker

from bench.environments.locked import Environments
from bench.fleet import depot, jobs
from bench.fleet.depot import Delivery, Parcel
from bench.fleet.jobs import Answer, Job
from bench.reasons import CellProblem, Reason, UsageError
from bench.wall import moving
from bench.wall.artifacts import Artifacts

ATTEMPTS = 3
"""Workers that try a job before what stopped it counts as its result."""
PATIENCE_S = 60.0
"""How long a job that no connected worker can do is waited for: as long as a machine takes to come back."""
DELIVERY_BYTES = 32_000_000
"""Content of files that is sent at once, so that neither side holds a whole data set."""
_FIRST = {"export": 2, "look": 2, "infer": 1}
"""Work that goes before shards, by how much: others wait for it, and who goes through the cells does."""
_LOOK_S = 1.0
_OF_THE_WORKER = {Reason.ENVIRONMENT_FAILED, Reason.ENVIRONMENT_CHANGED, Reason.CRASHED, Reason.OUT_OF_MEMORY,
                  Reason.TIMED_OUT}  # fmt: skip
"""What may be the fault of a machine rather than of the cell."""


@dataclass
class _Sent:
    """A job on its way, what it asks of a worker, and which have failed at it."""

    job: Job
    tags: tuple[str, ...]
    promise: Promise[Answer] = field(default_factory=Promise)
    failed: list[str] = field(default_factory=list)


def connected(client: Client) -> dict[str, frozenset[str]]:
    """The tags of every connected worker, by its address."""
    workers = client.scheduler_info(n_workers=-1)["workers"].items()
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
        self._futures: set[Future] = set()
        self._able_at = time.monotonic()

    def able(self, tags: Sequence[str]) -> bool:
        """Whether a connected worker has all these tags."""
        return any(set(tags) <= there for there in self.workers())

    def workers(self) -> list[frozenset[str]]:
        """The tags of every connected worker."""
        return list(connected(self._client).values())

    def send(self, job: Job, tags: Sequence[str]) -> Promise[Answer]:
        """Have a job done by a worker with these tags; the promise is kept or holds why it cannot be."""
        sent = _Sent(job, tuple(tags))
        self._submit(sent)
        return sent.promise

    def wait(self, promises: Sequence[Promise[Answer]], tags: Sequence[str], on_done: Callable[[int], None]) -> None:
        """Wait for all of some promises, saying how many are kept.

        Raises UsageError where the scheduler is lost, or for `PATIENCE_S` no worker with the tags is connected.
        """
        pending = {promise for promise in promises if not promise.done()}
        self._able_at = time.monotonic()
        while pending:
            on_done(len(promises) - len(pending))
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
        self._client.cancel(list(self._futures), force=True)
        self._futures.clear()
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

    def _submit(self, sent: _Sent, near: str = "") -> None:
        """Give a job to Dask; `near` is a worker that has its files by now, others may take it as well."""
        fresh = [near] if near else None
        if sent.failed:
            fresh = [one for one in connected(self._client) if one not in sent.failed] or None
        future = self._client.submit(
            jobs.do,
            sent.job,
            key=f"{sent.job.work}-{sent.job.cell.id}-{secrets.token_hex(8)}",
            pure=False,
            resources=dict.fromkeys(sent.tags, 1),
            priority=_FIRST.get(sent.job.work, 0),
            workers=fresh,
            allow_other_workers=fresh is not None,
        )
        self._futures.add(future)
        future.add_done_callback(partial(self._done, sent))

    def _done(self, sent: _Sent, future: Future) -> None:
        """Keep the promise, or send what was lacking; called by Dask in a thread of its own."""
        try:
            self._futures.discard(future)
            answer = self._answer(sent, future)
            if answer is not None:
                sent.promise.set_result(answer)
        except BaseException as error:  # noqa: BLE001 - it is raised where the promise is waited for
            sent.promise.set_exception(error)

    def _answer(self, sent: _Sent, future: Future) -> Answer | None:
        """The answer to a job, or None where it is sent again."""
        try:
            answer: Answer = future.result()
        except KilledWorker as error:
            text = f"the workers that were given this ended one after another: {error}"
            return Answer("", "", problem=CellProblem(Reason.CRASHED, text))
        except CancelledError as error:
            raise UsageError(f"the scheduler at {self._address} is lost; start it, then run again") from error
        if answer.lacks:
            self._deliver(answer)
            self._submit(sent, near=answer.worker)
            return None
        problem = answer.problem
        if problem is not None and problem.reason in _OF_THE_WORKER and len(sent.failed) + 1 < ATTEMPTS:
            sent.failed.append(answer.worker)
            self._submit(sent)
            return None
        return answer

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


def _content(parcel: Parcel) -> bytes:
    try:
        return parcel.path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {parcel.path}: {error.strerror}; restore it, then run again") from error
