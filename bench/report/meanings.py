"""What the names of precisions and targets mean, for pages that explain them where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.grid import matrix


@dataclass(frozen=True)
class Meanings:
    """Explanations in one language: of an option's precision by both ids, of a target by its id."""

    precisions: Mapping[tuple[str, str], str] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)


def meanings(language: str) -> Meanings:
    """What the project's matrices say; of names that they do not know nothing.

    Raises bench.reasons.UsageError for an option's or target's file that is wrong.
    """
    precisions = {
        (option.id, name): entry.told(language)
        for option in matrix.load_options()
        for name, entry in option.precisions.items()
    }
    targets = {
        name: (target.name_zh if language == "zh" else "") or target.name
        for name, target in matrix.load_targets().items()
    }
    return Meanings(precisions, targets)
