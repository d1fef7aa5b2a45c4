"""The commands that hand a run on to other programs and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bench.cli.options import Lang, Run, find, short, takes, told_of, words
from bench.grid.request import Request
from bench.reasons import UsageError

app = typer.Typer()
export_app = typer.Typer(
    no_args_is_help=True, help="Hand a run on: as a badge, to MLflow, or to COCO's evaluation server."
)
app.add_typer(export_app, name="export")


@export_app.command("badge")
@takes("results")
def badge_command(
    request: Request,
    out: Annotated[Path, typer.Option(help="file to write: .svg, or .json for an endpoint badge of shields.io")],
    run: Run = None,
    of: Annotated[
        Literal["recommendation", "check"], typer.Option(help="what to deploy, or what the run's last check came to")
    ] = "recommendation",
    target: Annotated[str, typer.Option(metavar="NAME", help="hardware target to deploy to")] = "cpu",
    model: Annotated[str | None, typer.Option(metavar="NAME", help="file stem of the checkpoint, if several")] = None,
    imgsz: Annotated[int | None, typer.Option(metavar="N", help="side of the network input, if several")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="images per inference, if several")] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="threads, if several")] = None,
    lang: Lang = "auto",
) -> None:
    """Write a badge of a run; its words are English.

    The recommendation is that of `yolo11-bench recommend` without limits of your own.

    Example: yolo11-bench export badge --of check --out reports/gate.svg
    """
    from bench.decide.deploy import candidates, recommend
    from bench.files import replacing
    from bench.report import badge, checked
    from bench.store import reading

    form = {".svg": badge.as_svg, ".json": badge.as_json}.get(out.suffix)
    if form is None:
        raise UsageError(f"--out {out}: a badge is an .svg, or the .json of an endpoint badge")
    directory = find(run, request)
    if of == "check":
        found = checked.of(directory, badge.of_check)
        if found is None:
            remedy = f"yolo11-bench check {directory.name} --against NAME"
            raise UsageError(f"{directory.name} was never checked; check it first: {remedy}")
        made = found
    else:
        data = reading.load(directory)
        field = candidates.select(data, model=model, imgsz=imgsz, batch=batch, target=target, threads=threads)
        if field.several:
            raise UsageError("a badge is of one model and size: name them with --model and --imgsz")
        made = badge.of_recommendation(field, recommend.recommend(field.candidates, recommend.limits(), field.pairs))
    with told_of(out), replacing(out) as sink:
        sink.write(form(made).encode("utf-8"))
    typer.echo(words(lang)("badge", path=short(out), label=made.label, message=made.message))


@export_app.command("submission")
@takes("results")
def submission_command(
    request: Request,
    run: Annotated[str, typer.Argument(metavar="RUN", help="a run's folder or its name")],
    cell: Annotated[str, typer.Argument(metavar="CELL", help="an evaluated cell, or how only its name begins")],
    out: Annotated[
        Path | None, typer.Option(help="file to write (default: submission-CELL.json in the run's folder)")
    ] = None,
    lang: Lang = "auto",
) -> None:
    """Write what a cell detected as a COCO results file.

    For COCO's evaluation server, or any other evaluator of its format: ids as the official annotations have them, which
    the run's data file must have named (docs/coco.md). The file is worth the mAP that the run stores.

    Example: yolo11-bench export submission 20260101T120000-coco-1a2b onnx-fp32
    """
    from bench.files import replacing
    from bench.report import submission
    from bench.store import reading

    data = reading.load(find(run, request))
    chosen = submission.of_cell(data, cell)
    path = out or submission.place_for(data, chosen)
    with told_of(path), replacing(path) as sink:
        written = submission.write(data, chosen, sink)
    told = {"detections": written.detections, "cell": chosen.name, "images": written.images}
    typer.echo(words(lang)("submission", path=short(path), **told, map=f"{chosen.map50_95:.4f}"))


@export_app.command("mlflow")
@takes("results")
def mlflow_command(
    request: Request,
    run: Run = None,
    to: Annotated[
        str | None, typer.Option(metavar="URI", help="tracking server or folder (default: what MLflow is set to)")
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="experiment, made where there is none (default: the project's name)"),
    ] = None,
    lang: Lang = "auto",
) -> None:
    """Log a run to MLflow: a run with its facts and files, and below it one for each measured cell.

    One that was logged before is not logged again. Needs the extra `mlflow`.

    Example: yolo11-bench export mlflow --to http://localhost:5000
    """
    from bench.report import tracking
    from bench.store import reading

    logged = tracking.log(reading.load(find(run, request)), to, experiment or tracking.EXPERIMENT)
    typer.echo(words(lang)("mlflow", run=logged))
