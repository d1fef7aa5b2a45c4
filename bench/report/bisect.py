"""A bisection in words and figures: its answer, a table of its looks, and the command that asks for each again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.decide.bisect import Outcome
from bench.grid.tolerances import EXACT, SCORE, TIMED
from bench.words.locale import Locale
from bench.words.messages import messages
from bench.words.numbers import MISSING, interval, number

_STYLES = {Outcome.MOVED: "bold", Outcome.UNDECIDED: "yellow", Outcome.UNTESTABLE: "yellow"}


def headline(facts: Mapping[str, Any], t: Locale) -> str:
    """The answer in a sentence."""
    answer, metric, way = facts["answer"], facts["metric"], facts["direction"]
    if answer["kind"] == "none":
        told = {"metric": metric, "good": facts["good"], "bad": facts["bad"]}
        undecided = answer["outcome"] == Outcome.UNDECIDED
        return t(f"bisect.unknown.{way}", **told) if undecided else t(f"bisect.none.{way}", **told)
    told = {"metric": metric, "direction": t(f"bisect.direction.{way}")}
    if answer["kind"] == "version":
        key = "bisect.between_some" if answer["passed"] else "bisect.between"
        return t(key, **told, same=answer["same"], moved=answer["moved"])
    moved = t.listing([t("bisect.update", **one) for one in answer["set"]])
    return t("bisect.by_some" if answer["doubtful"] else "bisect.by", **told, updates=moved)


def advice(facts: Mapping[str, Any], t: Locale) -> Iterator[str]:
    """What follows from the answer, and what it leaves open, a sentence each."""
    answer = facts["answer"]
    if answer["kind"] == "version":
        key = "bisect.safe" if facts["direction"] == "worse" else "bisect.before"
        yield t(key, same=answer["same"], good=facts["good"])
        if answer["passed"]:
            yield t("bisect.open", steps=t.listing(answer["passed"]))
    if answer["kind"] == "packages":
        yield from _of_packages(answer, t)
    if facts["margin"]:
        half = number(facts["margin"], 4) if facts["metric"] == SCORE else f"{number(100 * facts['margin'], 2)} %"
        yield t("bisect.margin", margin=half)


def print_found(facts: Mapping[str, Any], console: Console, t: Locale) -> None:
    """Print the looks, the answer and the commands.  Nothing in it is markup."""
    table, say = Table(box=None, pad_edge=False, header_style="bold"), messages(t.language)
    change = "less" if facts["metric"] == SCORE else "over"
    for title in ("look", "state", change, "interval", "pairs", "verdict"):
        justify: Literal["left", "right"] = "right" if title in ("look", "pairs") else "left"
        table.add_column(Text(t(f"bisect.column.{title}")), justify=justify, overflow="fold")
    for place, step in enumerate(facts["steps"], 1):
        cells = (
            str(place),
            step["label"],
            *_figures(step, facts["metric"], t),
            str(step["pairs"] or MISSING),
            t(f"bisect.outcome.{step['outcome']}"),
        )
        table.add_row(*map(Text, cells), style=_STYLES.get(Outcome(step["outcome"]), ""))
    console.print(table)
    for place, step in enumerate(facts["steps"], 1):
        if step["why"]:
            console.print(Text(t("bisect.why", place=place, why=say(step["why"])), style="dim"))
    console.print(Text(headline(facts, t), style="bold"), soft_wrap=True)
    for sentence in advice(facts, t):
        console.print(Text(sentence), soft_wrap=True)
    key = "bisect.taken_pairs" if facts["metric"] in TIMED else "bisect.taken"
    looks, minutes = len(facts["steps"]), number(facts["seconds"] / 60, 1)
    console.print(Text(t(key, looks=looks, pairs=facts["pairs"], minutes=minutes), style="dim"))
    known = [str(place) for place, step in enumerate(facts["steps"], 1) if step["known"]]
    if known:
        places = t.listing(known)
        console.print(Text(t("bisect.known", looks=t.count("bisect.looks", len(known)), places=places), style="dim"))
    for place, step in enumerate(facts["steps"], 1):
        if step["again"]:
            console.print(Text(t("bisect.again", place=place, command=step["again"]), style="dim"), soft_wrap=True)


def _of_packages(answer: Mapping[str, Any], t: Locale) -> Iterator[str]:
    if answer["doubtful"]:
        yield t("bisect.doubtful", names=t.listing([one["name"] for one in answer["doubtful"]]))
    if answer["rest"] is not None:
        yield t(f"bisect.rest.{answer['rest']}", n=answer["differing"] - len(answer["set"]))
    if len(answer["set"]) == 1 and "none" not in (answer["set"][0]["before"], answer["set"][0]["after"]):
        (one,) = answer["set"]
        yield t("bisect.versions", command=f"--package {one['name']} --good {one['before']} --bad {one['after']}")


def _figures(step: Mapping[str, Any], metric: str, t: Locale) -> Sequence[str]:
    """Change and interval of a look as text."""
    change = step["change"]
    if change is None:
        return MISSING, MISSING
    value = number(change["value"], 4, sign=metric == SCORE)
    if metric in EXACT:
        return value, t("bisect.exact")
    return value, interval(change["low"], change["high"], 4, sign=metric == SCORE) or MISSING
