"""The command that makes this machine a worker of a fleet."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.options import takes
from bench.grid.request import Request, listed

app = typer.Typer()


@app.command()
@takes("cache")
def worker(
    request: Request,
    scheduler: Annotated[str, typer.Argument(metavar="SCHEDULER", help="its address, tcp://HOST:PORT")],
    name: Annotated[str | None, typer.Option(help="what the worker is called (default: its address)")] = None,
    tags: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="tags to be asked for, machine=NAME among them (default: the host's name)"),
    ] = None,
) -> None:
    """Work for runs that are given this scheduler.

    Exports, and infers for parity and accuracy, until the scheduler ends or Ctrl-C; times are taken here for runs that
    ask for one of its tags. What runs need is sent, and kept in the cache. Needs the extra `fleet`.

    Example: yolo11-bench worker tcp://192.168.0.10:8786 --name board-1 --tags machine=epyc
    """
    from bench.fleet import cluster

    cluster.work(scheduler, request.cache, name, listed(tags or ""))
