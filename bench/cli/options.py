"""What several commands share: the options of a run, the run they mean, their exit codes."""

from __future__ import annotations

import functools
import inspect
import os
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bench.grid.request import OPTIONS, Request, parameter
from bench.places import MATRICES
from bench.reasons import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from bench.progress import Reporter
    from bench.words.locale import Locale

FAILED, USAGE, INTERRUPTED = 1, 2, 130

Run = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="a run's folder or its name (default: the newest run)")
]
Runs = Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="folders or names of runs")]
Pages = Annotated[
    Literal["auto", "huge", "ordinary"], typer.Option(help="memory of every guest; auto: huge where the kernel can")
]
Lang = Annotated[
    Literal["auto", "en", "zh"], typer.Option(help="language of the words; auto: Chinese where your locale is")
]
OF_THE_CELL = ("sweep", "model", "data", "options", "precisions", "targets", "imgsz", "batch", "threads")


def takes(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a run of these names; its first parameter receives them as a `Request`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(command, include_extras=True)
        _, *own = inspect.signature(command).parameters.values()
        kept = [one.replace(annotation=hints[one.name]) for one in own]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        ours = [inspect.Parameter(parameter(name), kind, default=None, annotation=_annotation(name)) for name in names]

        @functools.wraps(command)
        def wrapped(**given: Any) -> None:
            command(Request({name: _once(name, given.pop(parameter(name))) for name in names}), **given)

        signature = inspect.Signature([*kept, *ours])
        wrapped.__signature__ = signature  # type: ignore[attr-defined]  # what typer reads
        wrapped.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
        return wrapped

    return decorate


def _annotation(name: str) -> Any:
    option, complete = OPTIONS[name], _COMPLETIONS.get(name)
    # As often as it is given, so that no value is lost unsaid: see `_once`.
    return Annotated[
        list[str] | None, typer.Option(f"--{name}", metavar=option.metavar, help=option.help, autocompletion=complete)
    ]


def _once(name: str, values: list[str] | None) -> str | None:
    """The value of an option of a run: the last, as everywhere, which lets a command be added to.

    Raises UsageError where a list is given more than once: all of it is meant, and nobody would miss what was lost.
    """
    if not values:
        return None
    if len(values) > 1 and OPTIONS[name].metavar == "LIST":
        raise UsageError(
            f"--{name} is given {len(values)} times; give it once, with commas between its values: "
            f"--{name} {','.join(values)}"
        )
    return values[-1]


def _stems(folder: str) -> Callable[[str], list[str]]:
    """Completes the names of files in a folder of the matrix; of a list, what stands after its last comma."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        names = sorted(path.stem for path in (MATRICES / folder).glob("*.toml"))
        return [f"{before}{comma}{name}" for name in names if name.startswith(last)]

    return complete


_COMPLETIONS = {"sweep": _stems("sweeps"), "options": _stems("options")}


def find_all(runs: list[str] | None, request: Request) -> list[Path]:
    """Folders of the runs meant, of the newest where none is named.  Raises UsageError as `find` does."""
    return [find(run, request) for run in runs] if runs else [find(None, request)]


def find(run: str | None, request: Request) -> Path:
    """Folder of the run meant; see `bench.store.finding.find`."""
    from bench.store import finding  # pandas behind it takes longer to import than `--help` may take

    return finding.find(run, request.results)


def short(path: Path) -> str:
    """A path as a person in the current folder would write it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Raise UsageError where a file that the user named cannot be written."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def language(wanted: Literal["auto", "en", "zh"]) -> Literal["en", "zh"]:
    """The language that `Lang` asks for."""
    from bench.words.locale import preferred  # imports pydantic, as above

    return preferred() if wanted == "auto" else wanted


def words(wanted: Literal["auto", "en", "zh"]) -> Locale:
    """What the commands say in the language that `Lang` asks for."""
    from bench.words.locale import texts

    return texts("terminal", language(wanted))


def reporter(console: Console, wanted: Literal["auto", "en", "zh"]) -> Reporter:
    """Progress on a console, in the language that `Lang` asks for."""
    from bench.progress import Reporter
    from bench.words.messages import messages

    return Reporter(console, say=messages(language(wanted)))


def huge_pages(wanted: str) -> bool:
    """Whether `Pages` asks for huge pages.  Raises UsageError where it does and this kernel has none."""
    from bench.measure.pairs import huge_pages_possible  # imports numpy, as above

    if wanted == "huge" and not huge_pages_possible():
        raise UsageError("--pages huge: this kernel gives no transparent huge pages; use --pages ordinary")
    return wanted == "huge" or (wanted == "auto" and huge_pages_possible())
