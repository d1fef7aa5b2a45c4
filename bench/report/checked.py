"""The check of a run as a section of its report: what is not the same, every comparison, and how often it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench.decide import rule
from bench.places import RECORDED
from bench.reasons import StoreError
from bench.report import check
from bench.report.operators import summary
from bench.report.selfcheck import Sheet, said, sheets
from bench.store import pairs, selfcheck
from bench.words.locale import Language, texts
from bench.words.messages import messages

Made = TypeVar("Made")

SELF_CHECKS = RECORDED.parent / "self-check"
"""Recorded self-checks, by kind of machine; only a checkout has them."""


@dataclass(frozen=True)
class Checked:
    """A check, ready to be shown: what was `found` not to be the same, and the error `rates` on such a machine.

    The rates may be those of an `older` rule of the gate.
    """

    headline: str
    regressed: bool
    found: Sheet | None
    everything: Sheet
    notes: tuple[str, ...]
    rates: tuple[Sheet, ...]
    older: bool


def read(run_dir: Path, language: Language) -> Checked | None:
    """The check that a run was last held to; None where there was none.  Raises StoreError for a broken file."""
    return of(run_dir, partial(_checked, language=language))


def of(run_dir: Path, make: Callable[[dict[str, Any]], Made]) -> Made | None:
    """What is made of the facts of the check that a run was last held to; None where there was none.

    Raises StoreError for a broken file.
    """
    path = run_dir / pairs.CHECK
    if not path.is_file():
        return None
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise StoreError(f"{path}: no facts of a check: {error!r}; check the run again, or delete the file") from error


def _checked(facts: dict[str, Any], language: Language) -> Checked:
    t, page, say = texts("terminal", language), texts("report", language), messages(language)
    loud, every, name = check.rows(facts, t), check.rows(facts, t, everything=True), check.naming(facts)
    operators = (f"{name(cell)}{t('colon')}{say(summary(told))}" for cell, told in facts["operators"].items())
    file = selfcheck.path_of(SELF_CHECKS, facts["machine"])
    tried = selfcheck.read(file)[1] if file.is_file() else None
    return Checked(
        headline=check.headline(facts, t),
        regressed=facts["regressed"],
        found=Sheet(page("check.found"), check.titles(t), tuple(loud), "") if loud else None,
        everything=Sheet(page("check.everything"), check.titles(t), tuple(every), ""),
        notes=(*operators, *map(say, facts["notes"])),
        rates=() if tried is None else tuple(said(sheet, say) for sheet in sheets(tried)),
        older=tried is not None and not rule.judged(tried),
    )
