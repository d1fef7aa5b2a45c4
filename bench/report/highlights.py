"""What a run lets one say: the few sentences at the top of the report, each with its interval and its scope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.decide.deploy.candidates import Field
from bench.decide.deploy.recommend import QUANTITIES, Standing, limits, recommend
from bench.decide.timings import Own
from bench.report.recommendation import summary, words
from bench.store.reading import StoredCell
from bench.words.locale import Locale
from bench.words.numbers import MISSING, interval, megabytes, number, size, times

TOLERANCE, SLACK = QUANTITIES["loss"].usual or 0.0, QUANTITIES["loss"].slack
"""Loss of mAP50-95 that a recommendation allows, and how many times that its interval may reach."""


@dataclass(frozen=True)
class Highlight:
    """One card: what was asked, which option answers it, the figure that says so, and what limits it."""

    question: str
    answer: str
    figure: str
    evidence: str
    caveat: str


def highlights(cells: Sequence[StoredCell], field: Field | None, own: Own, t: Locale) -> tuple[Highlight, ...]:
    """What to deploy, the smallest artifact and the lightest environment among `cells`, in the words of the report.

    `cells` are the measured cells of one scope; those whose results were only checked are not ranked.  `field` is that
    scope as one may choose from it, `own` holds the cells' own errors.  A question that the run cannot answer is left
    out.
    """
    cells = [cell for cell in cells if not cell.correctness_only]
    deploy = None if field is None else _deploy(cells, field, own, t)
    found = (deploy, _smallest(cells, own, t), _lightest(cells, t))
    return tuple(one for one in found if one is not None)


def pareto(points: Sequence[tuple[float, float]]) -> frozenset[int]:
    """Indices of the points that no other point equals or beats in both coordinates while beating it in one."""
    return frozenset(
        index
        for index, (x, y) in enumerate(points)
        if not any(a >= x and b >= y and (a > x or b > y) for a, b in points)
    )


def _deploy(cells: Sequence[StoredCell], field: Field, own: Own, t: Locale) -> Highlight | None:
    """The answer of `bench.decide.deploy` under the usual limits, which site and command line give too."""
    found = recommend(field.candidates, limits(), field.pairs)
    meets = found.of(Standing.MEETS)
    question = t("highlight.deploy", loss=TOLERANCE)
    if not meets:
        told = summary(found, words(t.language), {one.cell_id: one.name for one in field.candidates})
        return Highlight(question, t("highlight.nothing"), MISSING, t.sentences(told), "")
    by_id = {cell.cell_id: cell for cell in cells}
    best = by_id[meets[0].candidate.cell_id]
    others = [by_id[one.candidate.cell_id] for one in found.choices if one.standing is not Standing.MEETS]
    barred = [_barred(cell, own, t) for cell in others if (cell.latency_ratio or 0) > (best.latency_ratio or 0)]
    if best.is_reference:
        evidence = t("highlight.no_faster", loss=TOLERANCE)
        return Highlight(question, best.name, times(best.latency_ratio), evidence, t.sentences(barred))
    speed = interval(*own.ends(best), 2)
    apart = "own_interval" if best.reference_id in own.cells else "interval"
    known = t(f"highlight.{apart}", interval=speed) if speed else t("highlight.no_interval")
    if best.latency_launches:
        known = t("highlight.over", known=known, launches=t.count("count.launch", int(best.latency_launches)))
    evidence = t("highlight.speed", times=times(best.latency_ratio), known=known, delta=_delta(best, t))
    caveats = []
    if best.latency_ratio_low is not None and best.latency_ratio_low <= 1:
        caveats.append(t("highlight.not_apart"))
    ties = [by_id[name].name for name in meets[0].ties]
    if ties:
        caveats.append(t("highlight.tie" if len(ties) == 1 else "highlight.ties", options=t.listing(ties)))
    return Highlight(question, best.name, times(best.latency_ratio), evidence, t.sentences(caveats + barred))


def _barred(cell: StoredCell, own: Own, t: Locale) -> str:
    speed = f"{times(cell.latency_ratio)} {interval(*own.ends(cell), 2)}".strip()
    if cell.map_delta is None:
        return t("highlight.uncompared", option=cell.name, speed=speed)
    if cell.map_delta_low is None and cell.map_delta >= -TOLERANCE:
        return t("highlight.unknown_reach", option=cell.name, speed=speed, delta=_delta(cell, t))
    if cell.map_delta >= -TOLERANCE:
        reach = number(SLACK * TOLERANCE, 2)
        return t("highlight.reaches", option=cell.name, speed=speed, reach=reach, delta=_delta(cell, t))
    return t("highlight.loses", option=cell.name, speed=speed, delta=_delta(cell, t))


def _smallest(cells: Sequence[StoredCell], own: Own, t: Locale) -> Highlight | None:
    sized = [(cell, cell.size_bytes) for cell in cells if cell.size_bytes is not None]
    if len(sized) < 2:
        return None
    smallest = min(n for _, n in sized)
    best = [cell for cell, n in sized if n == smallest]
    reference = next((n for cell, n in sized if cell.is_reference), None)
    known = {"bytes": number(smallest, 0), "delta": _delta(best[0], t)}
    if best[0].is_reference:
        evidence = t("highlight.bytes", bytes=known["bytes"])
    elif reference:
        evidence = t("highlight.bytes_share", **known, share=number(smallest / reference, 2), size=size(reference))
    else:
        evidence = t("highlight.bytes_delta", **known)
    speed = interval(*own.ends(best[0]), 2)
    caveat = t("highlight.its_speed", times=times(best[0].latency_ratio), interval=speed) if speed else ""
    names = t.listing([cell.name for cell in best])
    return Highlight(t("highlight.smallest"), names, size(smallest), evidence, caveat)


def _lightest(cells: Sequence[StoredCell], t: Locale) -> Highlight | None:
    installed: dict[str, float] = {}
    for cell in cells:
        if cell.env_bytes is not None:
            installed[cell.option] = min(cell.env_bytes, installed.get(cell.option, cell.env_bytes))
    if len(installed) < 2:
        return None
    lightest = min(installed.values())
    best = [option for option, n in installed.items() if n == lightest]
    evidence = t("highlight.packages")
    if "pytorch" in installed and "pytorch" not in best:
        share = number(lightest / installed["pytorch"], 2)
        evidence = t("highlight.packages_share", share=share, size=size(installed["pytorch"]))
    peaks = [cell.peak_rss_bytes for cell in cells if cell.option in best and cell.peak_rss_bytes is not None]
    caveat = t("highlight.peak", mb=_span(peaks, t)) if peaks else ""
    names = t.listing([_named(cells, option) for option in best])
    return Highlight(t("highlight.lightest"), names, size(lightest), evidence, caveat)


def _named(cells: Sequence[StoredCell], option: str) -> str:
    return next(cell.option_name for cell in cells if cell.option == option)


def _span(values: Sequence[float], t: Locale) -> str:
    low, high = (number(megabytes(value), 0) for value in (min(values), max(values)))
    return low if low == high else t("highlight.span", low=low, high=high)


def _delta(cell: StoredCell, t: Locale) -> str:
    if cell.map_delta is None:
        return t("highlight.no_delta")
    bounds = interval(cell.map_delta_low, cell.map_delta_high, 4, sign=True)
    delta = number(cell.map_delta, 4, sign=True)
    return f"{delta} {bounds}" if bounds else t("highlight.bare_delta", delta=delta)
