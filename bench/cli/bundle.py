"""The command that packs a run for a machine without internet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import OF_THE_CELL, Lang, reporter, short, takes, words
from bench.grid.request import Request, listed

app = typer.Typer()


@app.command("bundle")
@takes(*OF_THE_CELL, "images", "cache", "matrices")
def bundle_command(
    request: Request,
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder to make, for the parts")] = Path("bundle"),
    python: Annotated[str, typer.Option(metavar="VERSION", help="Python of the other machine")] = "3.11",
    platform: Annotated[
        str, typer.Option(metavar="TAG", help="newest platform of wheels that it takes, such as macosx_14_0_arm64")
    ] = "manylinux_2_28_x86_64",
    leave: Annotated[
        str, typer.Option(metavar="LIST", help="packages that it has itself, comma separated: torch,triton,nvidia-*")
    ] = "",
    part_mb: Annotated[int, typer.Option("--part-mb", min=1, help="largest part, in MB of 10^6 bytes")] = 60,
    lang: Lang = "auto",
) -> None:
    """Pack a run for a machine without internet.

    Code, packages, model, images and exported artifacts, in parts of a size, with the program that runs them there.
    Nothing is fetched there, and nothing exported.

    Example: yolo11-bench bundle --sweep gpu --python 3.12 --leave "torch,torchvision,triton,nvidia-*"
    """
    from rich.console import Console
    from rich.markup import escape

    from bench.environments.foreign import Elsewhere
    from bench.guest.offline import PROGRAM
    from bench.measure import bundle

    console, t = Console(), words(lang)
    machine = Elsewhere(python, platform)
    left = listed(leave)
    with reporter(console, lang) as progress:
        parts = bundle.pack(request, machine, left, out, part_mb * 10**6, progress)
    for part in parts:
        size = part.stat().st_size / 1e6
        console.print(escape(f"{size:8.1f} MB  {short(part.resolve())}"), highlight=False, soft_wrap=True)
    there = t("bundle.copy", folder=short(out.resolve()), command=f"python{python} {out.name}/{PROGRAM}")
    console.print(escape(there), highlight=False, soft_wrap=True)
