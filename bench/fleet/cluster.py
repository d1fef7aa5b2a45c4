"""The cluster that a run is given: workers of this machine, or those of a scheduler; and a worker for one.

Dask is the extra `fleet` of the package: nothing here is imported without `--cluster`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.fleet import tags
from bench.grid.request import CACHE_VARIABLE, Request
from bench.measure.elsewhere import Elsewhere
from bench.progress import Reporter
from bench.reasons import UsageError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 10.0
"""How long a scheduler, and then its first worker, is waited for."""
LOST_S = 60.0
"""How long a worker looks for a scheduler before it ends."""
LOCAL = re.compile(r"local:([1-9]\d*)")
_REMOTE = re.compile(r"(tcp|tls|ws|wss|ucx)://\S+")


@contextmanager
def opened(request: Request, progress: Reporter) -> Iterator[Elsewhere]:
    """The workers of the cluster that a request names, for as long as the body runs.

    Raises UsageError for an address of no cluster, without Dask, and where nobody answers or has the same bench.
    """
    address = request.text("cluster") or ""
    local = LOCAL.fullmatch(address)
    if local is None and not _REMOTE.fullmatch(address):
        raise UsageError(
            f"--cluster {address}: give local:N, N workers on this machine, or a scheduler's tcp://HOST:PORT"
        )
    _require_dask()
    from bench.fleet.crew import connected
    from bench.fleet.dispatch import Fleet

    asked = request.names("time-on") or []
    _hush()
    with _local(int(local[1]), request) if local else _remote(address) as client:
        _require_workers(client, address)
        _require_tags(client, address, asked)
        progress.message(f"Workers at {address}: {len(connected(client))}. Exports, parity and accuracy go there.")
        fleet = Fleet(client, asked)
        try:
            yield fleet
        finally:
            fleet.end()


def work(address: str, cache: Path, name: str | None, given: Sequence[str] = ()) -> None:
    """Be a worker of a scheduler until it ends or Ctrl-C; `given` are tags beside those of what is found here.

    Raises UsageError for tags that cannot be given, without Dask, or where the scheduler cannot be reached.
    """
    if not _REMOTE.fullmatch(address):
        raise UsageError(f"{address} is no scheduler's address: give tcp://HOST:PORT, as `dask scheduler` prints it")
    _require_dask()
    resources = tags.offered(given)
    from distributed import Nanny

    async def stay() -> None:
        async with Nanny(
            address,
            nthreads=1,
            name=name,
            resources=resources,
            death_timeout=LOST_S,
            **_process(cache),
        ) as nanny:
            await nanny.finished()

    try:
        asyncio.run(stay())
    except (OSError, ValueError, RuntimeError) as error:  # a Nanny that did not start raises the last
        raise UsageError(f"cannot work for {address}: {error}; `dask scheduler` starts one") from error


def _process(cache: Path) -> dict[str, Any]:
    """How Dask is to start a worker's process: with all that jobs need imported before the first one comes.

    Its own profiler, which looks a hundred times a second at what a job does, is left out.
    """
    return {
        "preload": ["bench.fleet.jobs"],
        "env": {CACHE_VARIABLE: str(cache)},
        "config": {"distributed.worker.profile.enabled": False},
    }


def _hush() -> None:
    """Have Dask say nothing of its own in a run: a lost scheduler is one line of ours, not a traceback of its."""
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _require_dask() -> None:
    try:
        import distributed  # noqa: F401 - whether it is here
    except ModuleNotFoundError as error:
        raise UsageError(
            "--cluster needs Dask, which is not installed here: pip install 'yolo11-deployment-bench[fleet]', or in a "
            "checkout pip install -r matrices/envs/fleet.txt; without --cluster everything is done in one process"
        ) from error


@contextmanager
def _local(number: int, request: Request) -> Iterator[Client]:
    """A client of that many workers, each a process of this machine."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",  # of this machine alone, and any port: two runs may go on at once
            resources=tags.offered((), request.matrices),
            **_process(request.cache),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def _remote(address: str) -> Iterator[Client]:
    """A client of a scheduler.  Raises UsageError where it does not answer."""
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--cluster {address}: no scheduler answers there ({error}); start one with `dask scheduler`, or use "
            "--cluster local:2 for two workers on this machine"
        ) from error
    with client:
        yield client


def _require_workers(client: Client, address: str) -> None:
    """Raise UsageError where there is no worker, or one whose bench is not this one."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
    except TimeoutError as error:
        raise UsageError(
            f"--cluster {address}: no worker is connected to it; start one with `yolo11-bench worker {address}`"
        ) from error
    try:
        found = client.run(tags.harness)
        packages = client.run(tags.versions)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"--cluster {address}: a worker has no such bench ({error}); start workers with `yolo11-bench worker "
            f"{address}`, in an environment with the same bench"
        ) from error
    for worker, harness in found.items():
        if harness != tags.harness():
            raise UsageError(tags.other_harness(worker))
    own = tags.versions()
    for worker, there in packages.items():
        _require_same(f"the worker at {worker}", own, there)
    told = client.get_versions()["scheduler"] or {}
    of_dask = {name: version for name, version in own.items() if name in ("dask", "distributed", "msgpack")}
    _require_same(f"the scheduler at {address}", of_dask, told.get("packages", {}))


def _require_same(who: str, own: Mapping[str, str], there: Mapping[str, str | None]) -> None:
    """Raise UsageError where versions are others than this run's."""
    other = [f"{name} {there.get(name) or 'missing'} (here {version})" for name, version in own.items()
             if there.get(name) != version]  # fmt: skip
    if other:
        raise UsageError(
            f"{who} has other versions than this run: {', '.join(other)}; install the same there, and start it again"
        )


def _require_tags(client: Client, address: str, asked: Sequence[str]) -> None:
    """Raise UsageError for a tag that no worker has."""
    from bench.fleet.crew import connected

    there = connected(client)
    for tag in asked:
        if not any(tag in resources for resources in there.values()):
            known = "; ".join(dict.fromkeys(tags.shown(resources) for resources in there.values()))
            raise UsageError(
                f"--time-on {tag}: no worker at {address} has that tag; theirs are: {known}. Start one on that machine "
                f"with `yolo11-bench worker SCHEDULER --tags {tag}`"
            )
