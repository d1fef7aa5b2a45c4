"""A bisection in words and figures: its answer, a table of its looks, and the command that asks for each again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.decide.bisect import Outcome
from bench.grid.tolerances import EXACT, SCORE, TIMED
from bench.words.numbers import MISSING, count, interval, listing, number

_STYLES = {Outcome.MOVED: "bold", Outcome.UNDECIDED: "yellow", Outcome.UNTESTABLE: "yellow"}


def headline(facts: Mapping[str, Any]) -> str:
    """The answer in a sentence."""
    answer, metric = facts["answer"], facts["metric"]
    if answer["kind"] == "none":
        word = "is not known to differ" if answer["outcome"] == Outcome.UNDECIDED else "does not differ"
        way = "" if facts["direction"] == "either" else f" for the {facts['direction']}"
        return f"{metric} {word}{way} between {facts['good']} and {facts['bad']}"
    if answer["kind"] == "version":
        words = f"{metric} became {facts['direction']} between {answer['same']} and {answer['moved']}"
        return f"{words}, in one of the steps between them" if answer["passed"] else words
    moved = listing([_update(one) for one in answer["set"]])
    doubt = "; a part of these may be enough" if answer["doubtful"] else ""
    return f"{metric} became {facts['direction']} by {moved}{doubt}"


def advice(facts: Mapping[str, Any]) -> Iterator[str]:
    """What follows from the answer, and what it leaves open, a sentence each."""
    answer = facts["answer"]
    if answer["kind"] == "version":
        safe = "Safe is" if facts["direction"] == "worse" else "The last that is as before is"
        yield f"{safe} {answer['same']}: it was held against {facts['good']} and has not moved."
        if answer["passed"]:
            yield f"Not known: {listing(answer['passed'])}."
    if answer["kind"] == "packages":
        yield from _of_packages(answer)
    if facts["margin"]:
        half = number(facts["margin"], 4) if facts["metric"] == SCORE else f"{number(100 * facts['margin'], 2)} %"
        yield f"A state between the ends counts as moved beyond {half}."


def print_found(facts: Mapping[str, Any], console: Console) -> None:
    """Print the looks, the answer and the commands.  Nothing in it is markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = ("look", "state", _title(facts["metric"]), "95 % interval", "pairs", "verdict")
    for title in titles:
        table.add_column(Text(title), justify="right" if title in ("look", "pairs") else "left", overflow="fold")
    for place, step in enumerate(facts["steps"], 1):
        cells = (
            str(place),
            step["label"],
            *_figures(step, facts["metric"]),
            str(step["pairs"] or MISSING),
            step["outcome"],
        )
        table.add_row(*map(Text, cells), style=_STYLES.get(Outcome(step["outcome"]), ""))
    console.print(table)
    for place, step in enumerate(facts["steps"], 1):
        if step["why"]:
            console.print(Text(f"Look {place}: {step['why']}", style="dim"))
    console.print(Text(headline(facts), style="bold"), soft_wrap=True)
    for sentence in advice(facts):
        console.print(Text(sentence), soft_wrap=True)
    taken = f", {facts['pairs']} pairs of guests" if facts["metric"] in TIMED else ""
    console.print(Text(f"{len(facts['steps'])} looks{taken}, {number(facts['seconds'] / 60, 1)} minutes.", style="dim"))
    known = [str(place) for place, step in enumerate(facts["steps"], 1) if step["known"]]
    if known:
        console.print(Text(f"Known before: {count(len(known), 'look')} ({listing(known)}).", style="dim"))
    for place, step in enumerate(facts["steps"], 1):
        if step["again"]:
            console.print(Text(f"Look {place} again: {step['again']}", style="dim"), soft_wrap=True)


def _of_packages(answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["doubtful"]:
        names = listing([one["name"] for one in answer["doubtful"]])
        yield f"What is left without {names} could not be tested or decided, so it is not sure that each is needed."
    rest = answer["rest"]
    if rest is not None:
        count = answer["differing"] - len(answer["set"])
        yield {
            Outcome.SAME: f"Without that, the other {count} updates leave it as it was.",
            Outcome.MOVED: f"That is not all: the other {count} updates move it as well.",
            Outcome.UNDECIDED: f"Whether the other {count} updates leave it as it was is undecided.",
            Outcome.UNTESTABLE: f"The other {count} updates cannot be tested without that.",
        }[Outcome(rest)]
    if len(answer["set"]) == 1 and "none" not in (answer["set"][0]["before"], answer["set"][0]["after"]):
        (one,) = answer["set"]
        yield f"Its versions: --package {one['name']} --good {one['before']} --bad {one['after']}"


def _update(one: Mapping[str, str]) -> str:
    return f"{one['name']} from {one['before']} to {one['after']} in {one['family']}"


def _title(metric: str) -> str:
    return "less the good" if metric == SCORE else "over the good"


def _figures(step: Mapping[str, Any], metric: str) -> Sequence[str]:
    """Change and interval of a look as text."""
    change = step["change"]
    if change is None:
        return MISSING, MISSING
    value = number(change["value"], 4, sign=metric == SCORE)
    if metric in EXACT:
        return value, "exact"
    return value, interval(change["low"], change["high"], 4, sign=metric == SCORE) or MISSING
