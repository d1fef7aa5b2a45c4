"""The state of this machine, printed."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.grid.request import CACHE_VARIABLE, Request
from bench.measure import checkup
from bench.measure.checkup import Checkup


def examine(request: Request, console: Console) -> bool:
    """Print the state of this machine; returns whether a run can be made here.  Raises UsageError."""
    found = checkup.examine(request)
    table = Table(title="This machine", title_justify="left", show_header=False)
    for check in found.needed:
        table.add_row(check.name, "[green]ok[/]" if check.good else "[red]missing[/]", escape(check.text))
    console.print(table)
    console.print(_targets(found))
    console.print(_environments(found))
    console.print(f"Cache: {request.cache} (change it with --cache or ${CACHE_VARIABLE})", soft_wrap=True)
    return found.ready


def _targets(found: Checkup) -> Table:
    table = Table(title="Targets", title_justify="left")
    for name in ("Target", "Here", "What was seen, or what it needs"):
        table.add_column(name)
    for target in found.targets:
        table.add_row(target.name, "[green]yes[/]" if target.good else "no", escape(target.text))
    return table


def _environments(found: Checkup) -> Table:
    table = Table(title="Environments (made on first use)", title_justify="left")
    for name in ("Environment", "Used by", "State"):
        table.add_column(name)
    for environment in found.environments:
        table.add_row(environment.family, ", ".join(environment.users), escape(environment.text))
    return table
