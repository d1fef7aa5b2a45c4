"""The commands that hold a guide's statements against results, and that say what to deploy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from bench.cli.options import FAILED, Lang, Run, Runs, find, find_all, language, reporter, short, takes, words
from bench.grid.request import Request

SITE = Path("reports", "site")

app = typer.Typer()

Guide = Annotated[Path | None, typer.Option(help="the guide, to see whether it still says what is judged")]


@app.command("claims")
@takes("results", "matrices")
def claims_command(
    request: Request,
    runs: Runs = None,
    document: Guide = None,
    lang: Lang = "auto",
) -> None:
    """Judge the guide's statements by runs.

    Every statement gets a verdict with its evidence; the verdicts are stored in the last run.
    """
    from bench.decide.claims import judge
    from bench.report import verdicts

    directories = find_all(runs, request)
    judged = judge.judge(directories, request.matrices, document)
    judge.store(judged, directories[-1])
    console = Console()
    spoken = language(lang)
    verdicts.print_verdicts([*judged.judged, *judged.published], spoken, console)
    verdicts.print_lints(judged.lints, spoken, console)
    told = words(lang)("verdicts", path=short(directories[-1] / "claims.parquet"))
    console.print(escape(told), highlight=False, soft_wrap=True)


def _limit(help_text: str) -> Any:
    return typer.Option(metavar="NUMBER", help=help_text)


@app.command("recommend")
@takes("results")
def recommend_command(
    request: Request,
    run: Run = None,
    target: Annotated[str, typer.Option(metavar="NAME", help="hardware target to deploy to")] = "cpu",
    max_latency_ratio: Annotated[
        float | None,
        _limit(
            "time per image over that of PyTorch FP32, at most: 0.5 asks for twice as fast, 1 for no slower "
            "(the inverse of the column latency_ratio)"
        ),
    ] = None,
    max_latency_ms: Annotated[
        float | None, _limit("milliseconds per image, at most; they are those of the run's own machine and hour")
    ] = None,
    min_fps: Annotated[float | None, _limit("images a second one after another, at least")] = None,
    min_map: Annotated[float | None, _limit("mAP50-95 on the run's images, at least; 0 to 1")] = None,
    max_map_loss: Annotated[
        float | None, _limit("loss of mAP50-95 against PyTorch FP32, at most; 0.01, one point, where none is given")
    ] = None,
    max_size: Annotated[float | None, _limit("artifact, at most MB of 10^6 bytes")] = None,
    max_memory: Annotated[float | None, _limit("peak memory of the running process, at most MB")] = None,
    max_env: Annotated[float | None, _limit("installed packages, at most MB")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="one of several models (default: all)")] = None,
    imgsz: Annotated[int | None, typer.Option(metavar="N", help="one of several sizes (default: all)")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="images per inference, if several")] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="threads, if several")] = None,
    in_guide: Annotated[
        bool, typer.Option("--in-guide/--all", help="only options that the guide names, or every measured one")
    ] = False,
    output: Annotated[Literal["table", "json"], typer.Option("--format", help="how to print it")] = "table",
    lang: Lang = "auto",
) -> None:
    """Say what to deploy under your limits.

    And why not each other option that was measured.

    The fastest that meets every limit; of those that tie with it in time, the most accurate, then the smallest. Where
    the run has several models or sizes, the fastest for each accuracy: choose by the time you can spend.

    A limit is met when the worse end of the 95 % interval meets it; that of the loss may reach twice its limit.

    Exit code 0: at least one option surely meets every limit; 1: none does, and the text says which limit leaves out
    most; 2: nothing was timed at that scope.

    Example: yolo11-bench recommend --max-latency-ratio 0.6 --max-map-loss 0.01 --max-size 8
    """
    from bench.decide.deploy import candidates, recommend
    from bench.report import recommendation
    from bench.store import reading

    wanted = recommend.limits(
        time=max_latency_ratio,
        latency=max_latency_ms,
        throughput=min_fps,
        map=min_map,
        loss=max_map_loss,
        size=max_size,
        memory=max_memory,
        packages=max_env,
    )
    data = reading.load(find(run, request))
    field = candidates.select(data, model=model, imgsz=imgsz, batch=batch, target=target, threads=threads)
    field = candidates.only_in_guide(field) if in_guide else field
    found = recommend.recommend(field.candidates, wanted, field.pairs)
    locale = recommendation.words(language(lang))
    if output == "json":
        typer.echo(recommendation.as_json(data.run_id, field, found, locale), nl=False)
    else:
        recommendation.print_recommendation(field, found, locale, Console())
    if not found.of(recommend.Standing.MEETS):
        raise typer.Exit(FAILED)


@app.command("annotate")
@takes("results", "matrices")
def annotate_command(
    request: Request,
    document: Annotated[Path, typer.Option(help="the guide, on whose lines the verdicts are put")],
    run: Run = None,
    output: Annotated[
        Literal["sarif", "markdown"], typer.Option("--format", help="for editors and forges, or for readers")
    ] = "sarif",
    out: Annotated[Path | None, typer.Option(help="file to write (default: standard output)")] = None,
    lang: Annotated[Literal["en", "zh"], typer.Option(help="language of the notes")] = "zh",
) -> None:
    """Put verdicts on the guide's own lines.

    They are those stored with a run by `yolo11-bench claims`.

    A statement whose words have changed is said to be stale, whatever was judged.
    """
    from bench.report.annotated import marked, notes, sarif

    annotated = notes.annotate(find(run, request), document, request.matrices, lang)
    text = sarif.render(annotated) if output == "sarif" else marked.render(annotated)
    if out is None:
        sys.stdout.buffer.write(text.encode("utf-8"))
        return
    notes.write(out, text)
    Console().print(escape(words(lang)("notes", path=short(out))), highlight=False, soft_wrap=True)


@app.command("site")
@takes("results", "matrices")
def site_command(
    request: Request,
    runs: Runs = None,
    document: Guide = None,
    out: Annotated[Path, typer.Option(help="folder of the site; a site that is there is replaced")] = SITE,
    history: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder of a history, whose trends and nights get pages too")
    ] = None,
    lang: Lang = "auto",
) -> None:
    """Write the comparison site.

    The guide's table with a verdict and its evidence in every cell, as static pages in Chinese and English. With a
    history also what moved in it, cell by cell, and a page for each night.
    """
    from bench import site

    page = site.build(find_all(runs, request), out, guide=document, matrices=request.matrices, history=history)
    Console().print(escape(words(lang)("site", path=short(page))), highlight=False, soft_wrap=True)


@app.command("probe")
@takes("data", "results", "cache", "matrices")
def probe_command(
    request: Request,
    run: Run = None,
    only: Annotated[str | None, typer.Option(metavar="LIST", help="probes, comma separated (default: all)")] = None,
    refresh_packages: Annotated[
        bool, typer.Option(help="first ask the package indexes again and replace the committed snapshot")
    ] = False,
    lang: Lang = "auto",
) -> None:
    """Observe what no benchmark cell shows.

    Devices, interchange of formats, network, Python; stored with a run.
    """
    from bench.probes import command as probes

    console, t = Console(), words(lang)
    if refresh_packages:
        for name, files in probes.refresh(request).items():
            console.print(t("probe.files", package=name, n=files), highlight=False, markup=False)
    directory = find(run, request)
    complete = probes.run(request, directory, reporter(console, lang), console, t, only)
    console.print(t("results", path=short(directory)), highlight=False, markup=False, soft_wrap=True)
    if not complete:
        raise typer.Exit(FAILED)
