"""The commands of `python -m bench` that hold a guide's statements against results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from bench import launch
from bench.cli_options import FAILED, Cache, Data, Matrices, Results, Run, Runs, find, find_all, short
from bench.matrix import ROOT

app = typer.Typer()

Guide = Annotated[Path | None, typer.Option(help="the guide, to see whether it still says what is judged")]


@app.command("claims")
def claims_command(
    runs: Runs = None,
    results: Results = None,
    matrices: Matrices = None,
    document: Guide = None,
    lang: Annotated[Literal["en", "zh"], typer.Option(help="language of the table")] = "en",
) -> None:
    """Judge every statement of the guide by one or several runs; the verdicts are stored in the last one."""
    from bench.claims import judge, terminal  # only this command needs them

    directories = find_all(runs, results)
    folder = launch.Request({"matrices": matrices}).matrices
    judged = judge.judge(directories, folder, document)
    judge.store(judged, directories[-1])
    console = Console()
    terminal.print_verdicts([*judged.judged, *judged.published], lang, console)
    terminal.print_lints(judged.lints, lang, console)
    console.print(f"Verdicts {escape(short(directories[-1] / 'claims.parquet'))}", highlight=False, soft_wrap=True)


def _limit(help_text: str) -> Any:
    return typer.Option(metavar="NUMBER", help=help_text)


@app.command("recommend")
def recommend_command(
    run: Run = None,
    target: Annotated[str, typer.Option(metavar="NAME", help="hardware target to deploy to")] = "cpu",
    max_latency_ratio: Annotated[
        float | None,
        _limit(
            "time per image over that of PyTorch FP32, at most: 0.5 asks for twice as fast, 1 for no slower "
            "(the inverse of the column latency_ratio)"
        ),
    ] = None,
    min_map: Annotated[float | None, _limit("mAP50-95 on the run's images, at least; 0 to 1")] = None,
    max_map_loss: Annotated[
        float | None, _limit("loss of mAP50-95 against PyTorch FP32, at most; 0.01 is one point")
    ] = None,
    max_size: Annotated[float | None, _limit("artifact, at most MB of 10^6 bytes")] = None,
    max_rss: Annotated[float | None, _limit("peak memory of the running process, at most MB")] = None,
    max_env: Annotated[float | None, _limit("installed packages, at most MB")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="file stem of the checkpoint, if several")] = None,
    imgsz: Annotated[int | None, typer.Option(metavar="N", help="side of the network input, if several")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="images per inference, if several")] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="threads, if several")] = None,
    in_guide: Annotated[
        bool, typer.Option("--in-guide/--all", help="only options that the guide names, or every measured one")
    ] = False,
    output: Annotated[Literal["table", "json"], typer.Option("--format", help="how to print it")] = "table",
    lang: Annotated[Literal["en", "zh"], typer.Option(help="language of the words")] = "en",
    results: Results = None,
) -> None:
    """Say which measured option to deploy under your limits, and why not each other one.

    A limit is met when the worse end of the 95 % interval meets it. Exit code 0: at least one option surely meets
    every limit; 1: none does, and the text says which limit leaves out most; 2: nothing was timed at that scope.

    Example: python -m bench recommend --max-latency-ratio 0.6 --max-map-loss 0.01 --max-size 8
    """
    from bench import candidates, recommend  # only this command needs them
    from bench.report import run as runs
    from bench.site import recommendation

    wanted = recommend.limits(
        time=max_latency_ratio, map=min_map, loss=max_map_loss, size=max_size, memory=max_rss, packages=max_env
    )
    data = runs.load(find(run, results))
    field = candidates.select(data, model=model, imgsz=imgsz, batch=batch, target=target, threads=threads)
    field = candidates.only_in_guide(field) if in_guide else field
    found = recommend.recommend(field.candidates, wanted)
    locale = recommendation.words(lang)
    if output == "json":
        typer.echo(recommendation.as_json(data.run_id, field, found, locale), nl=False)
    else:
        recommendation.print_recommendation(field, found, locale, Console())
    if not found.of(recommend.Standing.MEETS):
        raise typer.Exit(FAILED)


@app.command("annotate")
def annotate_command(
    document: Annotated[Path, typer.Option(help="the guide, on whose lines the verdicts are put")],
    run: Run = None,
    results: Results = None,
    matrices: Matrices = None,
    output: Annotated[
        Literal["sarif", "markdown"], typer.Option("--format", help="for editors and forges, or for readers")
    ] = "sarif",
    out: Annotated[Path | None, typer.Option(help="file to write (default: standard output)")] = None,
    lang: Annotated[Literal["en", "zh"], typer.Option(help="language of the notes")] = "zh",
) -> None:
    """Put the verdicts stored with a run (`python -m bench claims`) on the guide's own lines.

    A statement whose words have changed is said to be stale, whatever was judged.
    """
    from bench.claims import annotations, marked, sarif  # only this command needs them

    folder = launch.Request({"matrices": matrices}).matrices
    annotated = annotations.annotate(find(run, results), document, folder, lang)
    text = sarif.render(annotated) if output == "sarif" else marked.render(annotated)
    if out is None:
        sys.stdout.buffer.write(text.encode("utf-8"))
        return
    annotations.write(out, text)
    Console().print(f"Notes    {escape(short(out))}", highlight=False, soft_wrap=True)


@app.command("site")
def site_command(
    runs: Runs = None,
    results: Results = None,
    matrices: Matrices = None,
    document: Guide = None,
    out: Annotated[Path, typer.Option(help="folder of the site; a site that is there is replaced")] = ROOT
    / "reports"
    / "site",
) -> None:
    """Write the guide's table with a verdict and its evidence in every cell, as static pages in Chinese and English."""
    from bench import site  # only this command needs it

    directories = find_all(runs, results)
    folder = launch.Request({"matrices": matrices}).matrices
    page = site.build(directories, out, guide=document, matrices=folder)
    Console().print(f"Site     {escape(short(page))}", highlight=False, soft_wrap=True)


@app.command("probe")
def probe_command(
    run: Run = None,
    only: Annotated[str | None, typer.Option(metavar="LIST", help="probes, comma separated (default: all)")] = None,
    data: Data = None,
    results: Results = None,
    cache: Cache = None,
    matrices: Matrices = None,
    refresh_packages: Annotated[
        bool, typer.Option(help="first ask the package indexes again and replace the committed snapshot")
    ] = False,
) -> None:
    """Observe what no benchmark cell shows: devices, formats, network, Python; stored with a run."""
    from bench.probes import command as probes  # only this command needs it

    request = launch.Request({"only": only, "data": data, "results": results, "cache": cache, "matrices": matrices})
    console = Console()
    if refresh_packages:
        for name, files in probes.refresh(request).items():
            console.print(f"{escape(name)}: {files} files", highlight=False)
    directory = find(run, results)
    complete = probes.run(request, directory, console)
    console.print(f"Results  {escape(short(directory))}", highlight=False, soft_wrap=True)
    if not complete:
        raise typer.Exit(FAILED)
