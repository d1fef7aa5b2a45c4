"""What a run lets one say: the few sentences at the top of the report, each with its interval and its scope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.decide.timings import Own
from bench.stats.contrast import Contrasts
from bench.store.reading import StoredCell
from bench.words.numbers import count, interval, listing, megabytes, number, size, times

TOLERANCE = 0.01
"""Largest loss of mAP50-95 that "within 1 % absolute" allows."""


@dataclass(frozen=True)
class Highlight:
    """One card: what was asked, which option answers it, the figure that says so, and what limits it."""

    question: str
    answer: str
    figure: str
    evidence: str
    caveat: str


def highlights(cells: Sequence[StoredCell], pairs: Contrasts, own: Own) -> tuple[Highlight, ...]:
    """Fastest within `TOLERANCE` of PyTorch FP32, smallest artifact and lightest environment among `cells`.

    `cells` are the measured cells of one scope; those whose results were only checked are not ranked.  `pairs` compares
    their times, `own` holds their own errors.  A question that the run cannot answer is left out.
    """
    cells = [cell for cell in cells if not cell.correctness_only]
    found = (_fastest(cells, pairs, own), _smallest(cells, own), _lightest(cells))
    return tuple(one for one in found if one is not None)


def pareto(points: Sequence[tuple[float, float]]) -> frozenset[int]:
    """Indices of the points that no other point equals or beats in both coordinates while beating it in one."""
    return frozenset(
        index
        for index, (x, y) in enumerate(points)
        if not any(a >= x and b >= y and (a > x or b > y) for a, b in points)
    )


def keeps_accuracy(cell: StoredCell) -> bool:
    """True when the loss of mAP50-95 is shown to be at most `TOLERANCE`.

    With an interval, its lower end decides; without one, the estimate does, and the wording says so.
    """
    bound = cell.map_delta if cell.map_delta_low is None else cell.map_delta_low
    return cell.is_reference or (bound is not None and bound >= -TOLERANCE)


def _fastest(cells: Sequence[StoredCell], pairs: Contrasts, own: Own) -> Highlight | None:
    question = "Fastest within 1 % absolute mAP of PyTorch FP32"
    timed = [(cell, cell.latency_ratio) for cell in cells if cell.latency_ratio is not None]
    kept = [(cell, ratio) for cell, ratio in timed if keeps_accuracy(cell)]
    if not kept or all(cell.is_reference for cell, _ in timed):
        return None
    best, ratio = max(kept, key=lambda pair: pair[1])
    barred = [_barred(cell, own) for cell, other in timed if other > ratio and not keeps_accuracy(cell)]
    if best.is_reference:
        evidence = "No other option is faster and shown to lose at most 0.01 mAP50-95."
        return Highlight(question, best.name, times(ratio), evidence, " ".join(barred))
    speed = interval(*own.ends(best), 2)
    evidence = f"{times(ratio)} the speed of PyTorch FP32, "
    apart = "own " if best.reference_id in own.cells else ""
    evidence += f"{apart}95 % interval {speed}" if speed else "without an interval"
    evidence += f" over {count(int(best.latency_launches), 'launch', 'launches')}" if best.latency_launches else ""
    evidence += f"; mAP50-95 changes by {_delta(best)}."
    rivals = [cell for cell, _ in kept if cell is not best and not cell.is_reference and _tied(cell, best, pairs)]
    caveats = []
    if best.latency_ratio_low is not None and best.latency_ratio_low <= 1:
        caveats.append("Compared directly, it is not told apart from PyTorch FP32.")
    if rivals:
        verb = "is" if len(rivals) == 1 else "are"
        caveats.append(
            f"{listing([cell.name for cell in rivals])} {verb} not told apart from it, compared round by round."
        )
    return Highlight(question, best.name, times(ratio), evidence, " ".join(caveats + barred))


def _barred(cell: StoredCell, own: Own) -> str:
    speed = f"{times(cell.latency_ratio)} {interval(*own.ends(cell), 2)}".strip()
    if cell.map_delta is None:
        return f"{cell.name} is faster ({speed}), but its accuracy was not compared."
    if cell.map_delta >= -TOLERANCE:
        return f"{cell.name} is faster ({speed}), but the interval of its loss reaches past 0.01: {_delta(cell)}."
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


def _tied(one: StoredCell, other: StoredCell, pairs: Contrasts) -> bool:
    """True when the two were compared and neither is surely faster."""
    names = one.cell_id, other.cell_id
    return pairs.between(*names) is not None and not {names, names[::-1]} & pairs.sure


def _delta(cell: StoredCell) -> str:
    if cell.map_delta is None:
        return "an amount that was not compared"
    bounds = interval(cell.map_delta_low, cell.map_delta_high, 4, sign=True)
    return f"{number(cell.map_delta, 4, sign=True)} {bounds or '(no interval)'}"
