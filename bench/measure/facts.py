"""What came of a contest, as facts for JSON and for the pages that show it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.measure.contest import Contest
from bench.measure.pairs import BASE, SIDES, Side, Turns
from bench.stats.change import Change, Decided

_WORDS = {
    Change.REGRESSED: "slower, seen and confirmed",
    Change.IMPROVED: "faster, seen and confirmed",
    Change.OK: "not slower by more than the margin",
    Change.UNDECIDED: "undecided",
}


def summary(cell_id: str, sides: Mapping[str, Side], contest: Contest, *, huge: bool) -> dict[str, Any]:
    """The facts of an A/B, ready for JSON.  Ratios are candidate over base: above 1 the candidate is slower."""
    everything = [*contest.screened, *contest.confirming]
    return {
        "cell": cell_id,
        "metric": contest.metric,
        "change": contest.change().value,
        "words": _WORDS[contest.change()],
        "pages": "huge" if huge else "ordinary",
        "seconds": round(contest.seconds, 1),
        **looks(contest),
        "beside": {
            name: {"change": contest.change(name).value, **looks(contest, name)}
            for name in contest.margins
            if name != contest.metric
        },
        "sides": {name: _side(sides[name], everything, name) for name in SIDES},
    }


def looks(contest: Contest, metric: str | None = None) -> dict[str, Any]:
    """Margin and both looks at a metric, the contest's own where none is named; None for a look that was not taken."""
    confirmed = contest.confirmation(metric)
    return {
        "margin": contest.margins[metric or contest.metric],
        "screen": _look(contest.screen(metric)),
        "confirm": None if confirmed is None else _look(confirmed),
    }


def _look(decided: Decided) -> dict[str, Any]:
    found = decided.found
    ratio = found.ratio()
    return {
        "change": decided.change.value,
        "pairs": found.repeats,
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "sd": found.deviation if found.repeats > 1 else None,
        "autocorrelation": found.autocorrelation,
        "alpha": decided.alpha,
        "visible": None if math.isnan(decided.visible) else decided.visible,
    }


def _side(side: Side, pairs: list[Turns], name: str) -> dict[str, Any]:
    times = np.concatenate([pair.base_ms if name == BASE else pair.candidate_ms for pair in pairs])
    attested = pairs[-1].launches[name].attested
    return {
        "label": side.label,
        "p50_ms": float(np.median(times)),
        "huge_mb": float(np.median([pair.launches[name].huge_bytes for pair in pairs])) / 1e6,
        "compute": attested.get("compute", ""),
        "version": attested.get("version", ""),
        "lock_sha256": side.env.lock_sha256,
        "artifact_sha256": side.spec["manifest"].get("sha256", ""),
    }
