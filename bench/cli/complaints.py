"""How a foreseen problem is told: in the language of the command line that met it."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from bench.reasons import CellProblem, StoreError, UsageError

if TYPE_CHECKING:
    from bench.words.locale import Language


def told(error: UsageError | StoreError | CellProblem, language: Language) -> str:
    """A problem in words.  One of a cell that is told in English only comes with what its reason means."""
    from bench.report.outcomes import explanation
    from bench.words.locale import texts
    from bench.words.messages import messages

    say, t = messages(language), texts("terminal", language)
    if not isinstance(error, CellProblem):
        return say(str(error))
    text = say(error.text)
    if language != "en" and text == error.text:
        text = f"{explanation(error.reason.value, t)}\n{text}"
    return t("meaning", code=error.reason.value, text=text)


def show(error: UsageError | StoreError | CellProblem, arguments: Sequence[str]) -> None:
    """Print a problem on standard error."""
    from rich.console import Console
    from rich.text import Text

    from bench.words.locale import asked

    message = Text.assemble(("bench:", "bold red"), " ", told(error, asked(arguments)))
    Console(stderr=True).print(message, soft_wrap=True)


def show_unread(error: Any, arguments: Sequence[str]) -> None:
    """Print on standard error what the parser of the command line says of one that it cannot read."""
    from bench.words.locale import asked
    from bench.words.messages import messages

    said = io.StringIO()
    error.show(said)
    typer.echo(messages(asked(arguments))(said.getvalue()), file=sys.stderr, nl=False)
