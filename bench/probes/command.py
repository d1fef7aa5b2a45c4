"""The command `python -m bench probe`: what it makes, and what it prints."""

from __future__ import annotations

from pathlib import Path

from rich.cells import set_cell_size
from rich.console import Console
from rich.markup import escape

from bench.grid import entries, matrix
from bench.grid.request import Request
from bench.probes import packages, runner
from bench.probes.context import Context, Settings
from bench.probes.observation import Outcome
from bench.progress import Reporter
from bench.words.locale import Locale
from bench.words.messages import messages

_STYLES = {Outcome.YES.value: "green", Outcome.NO.value: "red", Outcome.UNAVAILABLE.value: "dim"}
_OUTCOME = 11
"""Cells for the words of an outcome."""


def run(
    request: Request, directory: Path, progress: Reporter, console: Console, t: Locale, only: str | None = None
) -> bool:
    """Probe a run and print what was seen.  Whether every probe that was asked for saw something.

    Raises UsageError and store.StoreError.
    """
    data, say = request.text("data"), messages(t.language)
    with progress:
        context = Context(
            directory, matrix.load(request.matrices), request.cache, progress, Path(data) if data else None
        )
        seen, problems = runner.probe(context, Request({"only": only}).names("only") or ())
    for row in seen.itertuples():
        outcome = str(row.outcome)
        name = " / ".join(part for part in (str(row.probe), str(row.option), str(row.subject)) if part)
        told = set_cell_size(t(f"probe.{outcome}"), _OUTCOME)
        line = f"[{_STYLES[outcome]}]{told}[/] [bold]{escape(name)}[/]  {escape(say(str(row.text)))}"
        console.print(line, highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(escape(say(problem)), highlight=False)
    answered = set(seen[seen.outcome != Outcome.UNAVAILABLE.value].probe)
    return answered == set(seen.probe)


def refresh(request: Request) -> dict[str, int]:
    """Look all packages up again and replace the snapshot; files found by package.  Raises UsageError."""
    matrices = request.own_matrices
    path = matrices / "probes.toml"
    return packages.refresh(matrices, entries.parse(Settings, entries.read(path), path).packages)
