"""The command `python -m bench probe`: what it makes, and what it prints."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.grid import entries, matrix
from bench.grid.request import Request
from bench.probes import packages, runner
from bench.probes.context import Context, Settings
from bench.probes.observation import Outcome
from bench.progress import Reporter

_STYLES = {Outcome.YES.value: "green", Outcome.NO.value: "red", Outcome.UNAVAILABLE.value: "dim"}


def run(request: Request, directory: Path, console: Console, only: str | None = None) -> bool:
    """Probe a run and print what was seen.  Whether every probe that was asked for saw something.

    Raises UsageError and store.StoreError.
    """
    data = request.text("data")
    with Reporter(console) as progress:
        context = Context(
            directory, matrix.load(request.matrices), request.cache, progress, Path(data) if data else None
        )
        seen, problems = runner.probe(context, Request({"only": only}).names("only") or ())
    for row in seen.itertuples():
        outcome = str(row.outcome)
        name = " / ".join(part for part in (str(row.probe), str(row.option), str(row.subject)) if part)
        line = f"[{_STYLES[outcome]}]{outcome:11}[/] [bold]{escape(name)}[/]  {escape(str(row.text))}"
        console.print(line, highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(escape(problem), highlight=False)
    answered = set(seen[seen.outcome != Outcome.UNAVAILABLE.value].probe)
    return answered == set(seen.probe)


def refresh(request: Request) -> dict[str, int]:
    """Look all packages up again and replace the snapshot; files found by package.  Raises UsageError."""
    matrices = request.own_matrices
    path = matrices / "probes.toml"
    return packages.refresh(matrices, entries.parse(Settings, entries.read(path), path).packages)
