"""What a run lets one say: the few sentences at the top of the report, each with its interval and its scope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.decide.deploy.candidates import Field
from bench.decide.deploy.recommend import QUANTITIES, Standing, limits, recommend
from bench.decide.timings import Own
from bench.report.recommendation import summary, words
from bench.store.reading import StoredCell
from bench.words.numbers import MISSING, count, interval, listing, megabytes, number, size, times

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


def highlights(cells: Sequence[StoredCell], field: Field | None, own: Own) -> tuple[Highlight, ...]:
    """What to deploy, the smallest artifact and the lightest environment among `cells`.

    `cells` are the measured cells of one scope; those whose results were only checked are not ranked.  `field` is that
    scope as one may choose from it, `own` holds the cells' own errors.  A question that the run cannot answer is left
    out.
    """
    cells = [cell for cell in cells if not cell.correctness_only]
    deploy = None if field is None else _deploy(cells, field, own)
    found = (deploy, _smallest(cells, own), _lightest(cells))
    return tuple(one for one in found if one is not None)


def pareto(points: Sequence[tuple[float, float]]) -> frozenset[int]:
    """Indices of the points that no other point equals or beats in both coordinates while beating it in one."""
    return frozenset(
        index
        for index, (x, y) in enumerate(points)
        if not any(a >= x and b >= y and (a > x or b > y) for a, b in points)
    )


def _deploy(cells: Sequence[StoredCell], field: Field, own: Own) -> Highlight | None:
    """The answer of `bench.decide.deploy` under the usual limits, which site and command line give too."""
    found = recommend(field.candidates, limits(), field.pairs)
    meets = found.of(Standing.MEETS)
    question = f"What to deploy, with at most {TOLERANCE} mAP50-95 lost"
    if not meets:
        told = summary(found, words("en"), {one.cell_id: one.name for one in field.candidates})
        return Highlight(question, "Nothing is sure", MISSING, " ".join(told), "")
    by_id = {cell.cell_id: cell for cell in cells}
    best = by_id[meets[0].candidate.cell_id]
    others = [by_id[one.candidate.cell_id] for one in found.choices if one.standing is not Standing.MEETS]
    barred = [_barred(cell, own) for cell in others if (cell.latency_ratio or 0) > (best.latency_ratio or 0)]
    if best.is_reference:
        evidence = f"No other option is faster and shown to lose at most {TOLERANCE} mAP50-95."
        return Highlight(question, best.name, times(best.latency_ratio), evidence, " ".join(barred))
    speed = interval(*own.ends(best), 2)
    evidence = f"{times(best.latency_ratio)} the speed of PyTorch FP32, "
    apart = "own " if best.reference_id in own.cells else ""
    evidence += f"{apart}95 % interval {speed}" if speed else "without an interval"
    evidence += f" over {count(int(best.latency_launches), 'launch', 'launches')}" if best.latency_launches else ""
    evidence += f"; mAP50-95 changes by {_delta(best)}."
    caveats = []
    if best.latency_ratio_low is not None and best.latency_ratio_low <= 1:
        caveats.append("Compared directly, it is not told apart from PyTorch FP32.")
    ties = [by_id[name].name for name in meets[0].ties]
    if ties:
        caveats.append(
            f"{listing(ties)} {'is' if len(ties) == 1 else 'are'} not told apart from it, compared round by round; of "
            "these it loses least accuracy."
        )
    return Highlight(question, best.name, times(best.latency_ratio), evidence, " ".join(caveats + barred))


def _barred(cell: StoredCell, own: Own) -> str:
    speed = f"{times(cell.latency_ratio)} {interval(*own.ends(cell), 2)}".strip()
    if cell.map_delta is None:
        return f"{cell.name} is faster ({speed}), but its accuracy was not compared."
    if cell.map_delta_low is None and cell.map_delta >= -TOLERANCE:
        return f"{cell.name} is faster ({speed}), but how far its loss may reach is not known: {_delta(cell)}."
    if cell.map_delta >= -TOLERANCE:
        reach = number(SLACK * TOLERANCE, 2)
        return f"{cell.name} is faster ({speed}), but the interval of its loss reaches past {reach}: {_delta(cell)}."
    return f"{cell.name} is faster ({speed}), but loses more: {_delta(cell)}."


def _smallest(cells: Sequence[StoredCell], own: Own) -> Highlight | None:
    sized = [(cell, cell.size_bytes) for cell in cells if cell.size_bytes is not None]
    if len(sized) < 2:
        return None
    smallest = min(n for _, n in sized)
    best = [cell for cell, n in sized if n == smallest]
    reference = next((n for cell, n in sized if cell.is_reference), None)
    evidence = f"All files of the artifact, {number(smallest, 0)} bytes"
    if reference and not best[0].is_reference:
        evidence += f": {number(smallest / reference, 2)} of PyTorch's checkpoint ({size(reference)})"
    evidence += f"; mAP50-95 changes by {_delta(best[0])}." if not best[0].is_reference else "."
    speed = interval(*own.ends(best[0]), 2)
    caveat = f"Its speed is {times(best[0].latency_ratio)} PyTorch FP32's, {speed}." if speed else ""
    names = listing([cell.name for cell in best])
    return Highlight("Smallest artifact", names, size(smallest), evidence, caveat)


def _lightest(cells: Sequence[StoredCell]) -> Highlight | None:
    installed: dict[str, float] = {}
    for cell in cells:
        if cell.env_bytes is not None:
            installed[cell.option] = min(cell.env_bytes, installed.get(cell.option, cell.env_bytes))
    if len(installed) < 2:
        return None
    lightest = min(installed.values())
    best = [option for option, n in installed.items() if n == lightest]
    evidence = "Installed packages that running the artifact needs"
    if "pytorch" in installed and "pytorch" not in best:
        share = lightest / installed["pytorch"]
        evidence += f": {number(share, 2)} of PyTorch's environment ({size(installed['pytorch'])})"
    peaks = [cell.peak_rss_bytes for cell in cells if cell.option in best and cell.peak_rss_bytes is not None]
    caveat = f"Peak memory while running: {_span(peaks)}\N{NO-BREAK SPACE}MB." if peaks else ""
    names = listing([_named(cells, option) for option in best])
    return Highlight("Lightest environment", names, size(lightest), f"{evidence}.", caveat)


def _named(cells: Sequence[StoredCell], option: str) -> str:
    return next(cell.option_name for cell in cells if cell.option == option)


def _span(values: Sequence[float]) -> str:
    low, high = (number(megabytes(value), 0) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _delta(cell: StoredCell) -> str:
    if cell.map_delta is None:
        return "an amount that was not compared"
    bounds = interval(cell.map_delta_low, cell.map_delta_high, 4, sign=True)
    return f"{number(cell.map_delta, 4, sign=True)} {bounds or '(no interval)'}"
