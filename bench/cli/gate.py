"""The commands that say whether something has become worse."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bench.cli.options import (
    FAILED,
    OF_THE_CELL,
    Lang,
    Pages,
    Run,
    find,
    huge_pages,
    reporter,
    short,
    takes,
    told_of,
    words,
)
from bench.grid.request import Request
from bench.reasons import UsageError

if TYPE_CHECKING:
    from bench.measure.contestants import Contestants
    from bench.measure.pairs import Side
    from bench.progress import Reporter

app = typer.Typer()


@app.command("ab")
@takes(*OF_THE_CELL, "cache", "matrices", "results")
def ab_command(
    request: Request,
    candidate: Annotated[str, typer.Option(metavar="SIDE", help="what may have become slower; see above")],
    base: Annotated[str, typer.Option(metavar="SIDE", help="what it is held against")] = "current",
    minutes: Annotated[float, typer.Option(min=0.1, help="time for all pairs together")] = 5.0,
    pairs: Annotated[
        int | None, typer.Option(min=3, help="pairs of each stage, instead of what the noise asks")
    ] = None,
    inferences: Annotated[
        int | None, typer.Option(min=4, help="inferences of each side in a pair (default: as long as its start took)")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="slowdown allowed (default: matrices/tolerances.toml)")
    ] = None,
    pages: Pages = "auto",
    profile: Annotated[
        bool, typer.Option("--profile", help="list operators whatever comes out, not only of what is slower")
    ] = False,
    output: Annotated[Literal["text", "json"], typer.Option("--format", help="how to print it")] = "text",
    lang: Lang = "auto",
) -> None:
    """Time two sides of one cell against each other.

    Fresh guests of both sides alternate inference by inference, pair after pair, and a change is confirmed by pairs of
    its own. A side is `current`, packages such as onnxruntime==1.24.4 (commas between several), a checkpoint (.pt), the
    folder of an artifact, precision=NAME, a git revision or a folder of matrices: its locks, options, exporters and
    runtimes. Everything else is the same.

    Where the candidate is slower, the runtime's own profiler, if it has one, lists which operators grew.

    Exit code 1 only where the candidate is slower by more than the margin, seen and confirmed; 0 otherwise.

    Example: yolo11-bench ab --options onnx --precisions fp32 --base onnxruntime==1.25.1 --candidate onnxruntime==1.24.4
    """
    from rich.console import Console
    from rich.text import Text

    from bench.check.holding import shown
    from bench.measure import pairs as pairing
    from bench.measure.contest import Contests
    from bench.measure.contestants import Contestants, contest
    from bench.measure.facts import summary
    from bench.measure.quiet import machine_lock
    from bench.report import change
    from bench.report.operators import print_operators
    from bench.stats.change import Change
    from bench.store import pairs as stored
    from bench.words.messages import messages

    huge = huge_pages(pages)
    margins = _margins(request.matrices, margin)
    console, t = Console(stderr=output == "json"), words(lang)
    with reporter(console, lang) as progress:
        contestants = Contestants(request, progress, huge=huge)
        cell = contestants.cell
        sides = contestants.side(base), contestants.side(candidate)
        directory = stored.new_folder(request.results.parent / "ab", cell.id)
        one = contest(cell.id, contestants.outfit, cell, sides, margins, directory / "guests.log", inferences)
        with machine_lock(progress):
            Contests([one], 60 * minutes, shown(progress)).run(pairs)
    if one.problem is not None:
        raise one.problem
    named = dict(zip(pairing.SIDES, sides, strict=True))
    facts = summary(cell.id, named, one, huge=huge)
    facts["again"] = request.command(
        "ab",
        base=base,
        candidate=candidate,
        minutes=minutes,
        pairs=pairs,
        inferences=inferences,
        margin=margins[pairing.LATENCY],
        pages="huge" if huge else "ordinary",
        profile=profile,
    )
    facts["operators"] = None
    if profile or one.change() is Change.REGRESSED:
        facts["operators"] = _operators(contestants, named, directory, reporter(console, lang))
    stored.write(directory, {cell.id: {"screen": one.screened, "confirm": one.confirming}}, facts)
    if output == "json":
        typer.echo(json.dumps(facts, indent=1))
    else:
        change.print_outcome(facts, console, t)
        if facts["operators"] is not None:
            print_operators(facts["operators"], console, messages(t.language))
        for line in (t("pairs", path=short(directory)), t("ab.again", command=facts["again"])):
            console.print(Text(line), soft_wrap=True)
    if one.change() is Change.REGRESSED:
        raise typer.Exit(FAILED)


AGAINST = Annotated[
    str, typer.Option("--against", metavar="NAME", help="a baseline of this machine, or git:REVISION of this checkout")
]
BASELINES = Annotated[Path, typer.Option("--baselines", metavar="DIR", help="folder of baselines")]
IN_RESULTS = Path("results/baselines")


@app.command("check")
@takes(*OF_THE_CELL, "images", "cache", "matrices", "results")
def check_command(
    request: Request,
    against: AGAINST,
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="a run of the present state (default: measure what changed)")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="time for everything together")] = 15.0,
    pages: Pages = "auto",
    baselines: BASELINES = IN_RESULTS,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="append the result as Markdown, as for a step summary")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the result as JSON")] = None,
    everything: Annotated[bool, typer.Option("--all", help="print what is the same as well")] = False,
    lang: Lang = "auto",
) -> None:
    """Hold the present state against a baseline or a revision.

    Cells whose lock, artifact, adapter, options and device are the base's are left as they are. Of the others status,
    attested arithmetic, sizes, accuracy and times are compared, times by pairs of fresh guests of both states.

    Exit code 1 only on a regression: a cell that vanished, failed or ran something else, a size or score beyond its
    margin, a slowdown that was seen and confirmed. What stays undecided is named, and is no failure.

    Examples:

      yolo11-bench run && yolo11-bench baseline promote --name main --why "first one"

      yolo11-bench check --against main --minutes 15

      yolo11-bench check --against git:main
    """
    from rich.console import Console

    from bench.check import holding, plan
    from bench.report import check as report
    from bench.store import operators
    from bench.store import pairs as stored

    started = time.monotonic()
    console, t = Console(), words(lang)
    huge = huge_pages(pages)
    with reporter(console, lang) as progress:
        measured = None if run is None else find(run, request)
        wanted = plan.plan(request, against, baselines.resolve(), progress, measured)
    directory = stored.new_folder(request.results.parent / "checks", against.replace(":", "-").replace("/", "-"))
    found = holding.check(
        wanted, directory, minutes, huge=huge, started=started, progress=lambda: reporter(console, lang)
    )
    facts = holding.facts(found)
    stored.write(directory, found.pairs(), facts)
    if found.operators:
        operators.write(directory, {cell: profiles.sides for cell, profiles in found.operators.items()})
    checked = measured or found.candidate
    if checked is not None:  # its report shows the check
        stored.write_facts(checked / stored.CHECK, facts)
    if markdown is not None:
        with told_of(markdown), markdown.open("a", encoding="utf-8") as sink:
            sink.write(report.markdown(facts, t))
    if json_file is not None:
        stored.write_facts(json_file, facts)
    report.print_check(facts, console, t, everything=everything)
    console.print(t("check.directory", path=short(directory)), highlight=False, markup=False, soft_wrap=True)
    if found.regressed:
        raise typer.Exit(FAILED)


@app.command("plan")
@takes(*OF_THE_CELL, "images", "cache", "matrices", "results")
def plan_command(
    request: Request,
    against: AGAINST,
    minutes: Annotated[float, typer.Option(min=0.1, help="time for the pairs of all cells")] = 15.0,
    baselines: BASELINES = IN_RESULTS,
    lang: Lang = "auto",
) -> None:
    """Say what a check would measure, and the smallest slowdown that each cell could show.

    Nothing is measured: how much pairs vary is taken from the last check on this machine, or assumed where there is
    none.
    """
    from rich.console import Console
    from rich.table import Table

    from bench.check import plan

    console, t = Console(), words(lang)
    with reporter(console, lang) as progress:
        wanted = plan.plan(request, against, baselines.resolve(), progress)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("cell", "changed", "pairs", "visible"):
        table.add_column(t(f"plan.{title}"), overflow="fold")
    for one in plan.foresee(wanted, 60 * minutes, request.results.parent / "checks"):
        told = t("plan.assumed" if one.assumed else "plan.share", share=f"{100 * one.visible:.1f}")
        table.add_row(one.cell, t("separator").join(wanted.parts[one.cell]), str(one.pairs), told)
    console.print(table if table.row_count else t("plan.nothing"))
    counts = {"same": len(wanted.same), "vanished": len(wanted.vanished), "incomparable": len(wanted.incomparable)}
    console.print(t("plan.counts", **counts))


_LISTED = ("machine", "name", "run_id", "when", "who", "why")

baseline_app = typer.Typer(no_args_is_help=True, help="What later states of the bench are held against.")
app.add_typer(baseline_app, name="baseline")


@baseline_app.command("promote")
@takes("matrices", "results")
def promote(
    request: Request,
    name: Annotated[str, typer.Option(help="what it is called")],
    why: Annotated[str, typer.Option(help="why later runs are held against this one; kept with it")],
    run: Run = None,
    baselines: BASELINES = IN_RESULTS,
    lang: Lang = "auto",
) -> None:
    """Make a run the baseline of this machine.

    Its locks, exporters, runtimes, artifacts' and data's identities and tables are kept, not its times: a check runs
    the baseline again beside the candidate. One of the same name is replaced; who promoted what, when and why stays.
    """
    from bench.environments import houses
    from bench.grid import machine
    from bench.store import baselines as store

    house = houses.pack(request.matrices)
    made = store.promote(find(run, request), baselines.resolve(), machine.machine_id(), name, why, house)
    typer.echo(words(lang)("baseline.promoted", name=made.name, path=short(made.directory)))


@baseline_app.command("list")
def list_baselines(
    name: Annotated[str | None, typer.Argument(help="one of this machine, with its promotions")] = None,
    baselines: BASELINES = IN_RESULTS,
    lang: Lang = "auto",
) -> None:
    """Show the baselines there are, and who promoted them when and why."""
    from bench.grid import machine
    from bench.store import baselines as store

    root, t = baselines.resolve(), words(lang)
    if name is not None:
        told = store.history(store.load(root, machine.machine_id(), name))
    else:
        told = [dict(one.facts) for one in store.every(root)]
        if not told:
            remedy = 'yolo11-bench baseline promote RUN --name NAME --why "..."'
            raise UsageError(f"no baseline in {root}; make one: {remedy}")
    for one in told:
        here = t("baseline.here") if one["machine"] == machine.machine_id() else ""
        typer.echo(t("baseline.listed", **{key: one[key] for key in _LISTED}, here=here))


def _operators(
    contestants: Contestants, sides: Mapping[str, Side], directory: Path, progress: Reporter
) -> dict[str, Any]:
    """Facts of what both sides execute; the operators themselves go into the directory."""
    from bench.decide import operators as decided
    from bench.measure import operators as measured
    from bench.measure.contestants import conditions
    from bench.store import operators as stored

    cell = contestants.cell
    with progress, progress.timed(cell.id, "operators of both sides"):
        profiles = measured.profile(sides, conditions(contestants.outfit, cell, directory / "guests.log"))
    stored.write(directory, {cell.id: profiles.sides})
    return decided.facts(profiles.sides, profiles.why)


def _margins(matrices: Path, latency: float | None) -> dict[str, float]:
    """Margins of what pairs say, that of latency as given.  Raises UsageError for a file that is wrong."""
    from bench.grid import tolerances

    found = tolerances.load(matrices)
    margins = {name: found[name].margin for name in tolerances.TIMED}
    return margins if latency is None else margins | {"latency": latency}
