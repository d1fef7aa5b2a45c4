"""The command by which the gate proves itself."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from bench.cli.options import (
    FAILED,
    INTERRUPTED,
    OF_THE_CELL,
    Lang,
    Pages,
    huge_pages,
    reporter,
    short,
    takes,
    words,
)
from bench.grid.request import Request

app = typer.Typer()


@app.command("self-check")
@takes(*OF_THE_CELL, "cache", "matrices", "results")
def self_check(
    request: Request,
    minutes: Annotated[float, typer.Option(min=0, help="time for all pairs together; 0 takes none")] = 45.0,
    busy: Annotated[bool, typer.Option("--busy", help="once more with the other CPUs kept busy")] = False,
    draws: Annotated[
        int | None,
        typer.Option(min=0, help="draws of planted drops of mAP (default: matrices/selfcheck.toml); 0: none"),
    ] = None,
    pages: Pages = "auto",
    show: Annotated[bool, typer.Option("--show", help="print what was found before, and measure nothing")] = False,
    lang: Lang = "auto",
) -> None:
    """Try the gate on itself.

    Pairs of cells against themselves, against slowdowns that were planted into them, and of versions whose difference
    is known, all interleaved; the gate's nights are then drawn from these pairs. It says how often the gate is wrong,
    and what it finds: slowdowns, drops of mAP, growth. Tried are the sweep's FP32 cells; --precisions names others.

    Pairs are added to those of earlier self-checks of the same kind of machine. Ctrl-C keeps what was taken. With
    --minutes 0 those of before are judged anew, where the gate's rule or its limits have changed since.

    Exit code 1 where a planted slowdown is not what was planted, or a known regression is not found.

    Example: yolo11-bench self-check --minutes 45 --busy
    """
    from rich.console import Console

    from bench.check.selfcheck import SelfCheck
    from bench.report import selfcheck as report
    from bench.words.messages import messages

    console, t = Console(), words(lang)
    say, progressing = messages(t.language), partial(reporter, console, lang)
    asked = SelfCheck(request, huge=huge_pages(pages))
    try:
        if not show:
            with progressing() as progress:
                told = asked.take(minutes, progress, beside=busy) if minutes else []
            for line in told:
                console.print(t("self.untried", what=say(line)), highlight=False, markup=False)
            wanted = asked.plan.accuracy.draws if draws is None else draws
            if wanted:
                asked.predict(wanted, progressing)
            if asked.outdated:
                asked.judge(progressing)
    except KeyboardInterrupt:
        console.print(t("self.stopped", path=short(asked.path)), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    report.print_sheets([report.said(sheet, say) for sheet in report.sheets(asked.facts)], console)
    console.print(t("pairs", path=short(asked.path)), highlight=False, markup=False, soft_wrap=True)
    if asked.outdated:
        anew = request.command("self-check", minutes=0, draws=0)
        note = t("self.outdated", why=say(asked.outdated), command=anew)
        console.print(note, style="yellow", highlight=False, markup=False, soft_wrap=True)
    faults = asked.faults()
    for fault in faults:
        console.print(say(fault), style="red", highlight=False, markup=False)
    if faults:
        raise typer.Exit(FAILED)
