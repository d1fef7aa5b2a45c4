"""The state of this machine, printed."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.grid.request import CACHE_VARIABLE, Request
from bench.measure import checkup
from bench.measure.checkup import Checkup
from bench.words.locale import Locale
from bench.words.messages import messages


def examine(request: Request, console: Console, t: Locale) -> bool:
    """Print the state of this machine; returns whether a run can be made here.  Raises UsageError."""
    found, say = checkup.examine(request), messages(t.language)
    table = Table(title=t("doctor.title"), title_justify="left", show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for check in found.needed:
        good = f"[green]{t('doctor.ok')}[/]" if check.good else f"[red]{t('doctor.missing')}[/]"
        table.add_row(say(check.name), good, escape(say(check.text)))
    console.print(table)
    console.print(_targets(found, t))
    console.print(_environments(found, t))
    cache = t("doctor.cache", folder=request.cache, variable=CACHE_VARIABLE)
    console.print(escape(cache), soft_wrap=True)
    return found.ready


def _targets(found: Checkup, t: Locale) -> Table:
    table, say = (
        _table(t("doctor.targets"), t("doctor.target"), t("doctor.here"), t("doctor.seen")),
        messages(t.language),
    )
    for target in found.targets:
        here = f"[green]{t('doctor.yes')}[/]" if target.good else t("doctor.no")
        table.add_row(target.name, here, escape(say(target.text)))
    return table


def _environments(found: Checkup, t: Locale) -> Table:
    say = messages(t.language)
    table = _table(t("doctor.environments"), t("doctor.environment"), t("doctor.users"), t("doctor.state"))
    for environment in found.environments:
        users = t("separator").join(map(say, environment.users))
        table.add_row(environment.family, escape(users), escape(say(environment.text)))
    return table


def _table(title: str, *columns: str) -> Table:
    """A table whose words fold: a sentence of Chinese is one word to rich, and would be cut."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
