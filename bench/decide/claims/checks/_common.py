"""What checks share: choosing rows, grouping them by place, and turning estimates into findings in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.decide.claims.estimates import over_runs, row_name
from bench.decide.claims.statements import Claim, Parameters, Scope
from bench.decide.claims.tables import Tables
from bench.decide.claims.verdicts import Estimate, Finding, Side, Verdict, chance, judge
from bench.grid.matrix import REFERENCE_OPTION, REFERENCE_PRECISION
from bench.reasons import Reason, Status
from bench.words.text import Text

UNSUPPORTED = (Reason.TARGET_UNSUPPORTED.value, Reason.PRECISION_UNSUPPORTED.value, Reason.BATCH_UNSUPPORTED.value)


@dataclass(frozen=True, order=True)
class Place:
    """Where a figure holds: a machine and a point of the grid, without the run."""

    machine: str
    model: str
    option: str
    precision: str
    target: str
    imgsz: int
    batch: int
    threads: int

    @classmethod
    def of(cls, row: Any) -> Place:
        """The place of a row of cells."""
        return cls(
            row.machine,
            row.model,
            row.option,
            row.precision,
            row.target,
            int(row.imgsz),
            int(row.batch),
            int(row.threads),
        )

    def __str__(self) -> str:
        """Without words of any language: yolo11n · onnx-fp32 · cpu · 640 px · b1 · t1."""
        what = "-".join(part for part in (self.option, self.precision) if part)
        threads = f"t{self.threads}" if self.threads else ""  # published tables do not say
        parts = (self.model, what, self.target, f"{self.imgsz} px", f"b{self.batch}", threads)
        return " · ".join(part for part in parts if part)


def subjects(claim: Claim, scope: Scope) -> tuple[str, ...]:
    """Options a claim is about: those of the scope, else its own."""
    return scope.options or ((claim.option,) if claim.option else ())


def select(rows: Iterable[Any], scope: Scope, options: Iterable[str] = (), targets: Iterable[str] = ()) -> list[Any]:
    """Rows of cells within a scope; `options` and `targets` replace the scope's where given."""
    wanted: dict[str, tuple[Any, ...]] = {
        "option": tuple(options) or scope.options,
        "target": tuple(targets) or scope.targets,
        "precision": scope.precisions,
        "imgsz": scope.imgsz,
        "threads": scope.threads,
        "batch": scope.batch,
    }
    given = {column: values for column, values in wanted.items() if values}
    return [row for row in rows if all(getattr(row, column) in values for column, values in given.items())]


def same_point(row: Any, *, but: Sequence[str] = ()) -> tuple[Any, ...]:
    """Key of the rows of one run that may be compared: same model, size, batch, threads and target."""
    columns = ("run_id", "model", "imgsz", "batch", "threads", "target")
    return tuple(getattr(row, column) for column in columns if column not in but)


def baselines(tables: Tables, option: str, precision: str) -> Callable[[Any], Any | None]:
    """Finds the row of `option` at the same point as a given row.

    `precision` empty: that of the row.  PyTorch FP32 is found as the row's own reference, also on another target.
    """
    found = {(*same_point(row), row.precision): row for row in select(tables.cells, Scope(), [option])}
    by_id = {(row.run_id, row.cell_id): row for row in found.values()}

    def find(row: Any) -> Any | None:
        wanted = precision or row.precision
        if option == REFERENCE_OPTION and wanted == REFERENCE_PRECISION:
            return by_id.get((row.run_id, row.reference_id))
        return found.get((*same_point(row), wanted))

    return find


def by_place(pairs: Iterable[tuple[Place, Estimate | None]]) -> Iterator[tuple[Place, Estimate]]:
    """Estimates of one place from several runs taken together, places in order; what is None is left out."""
    groups: dict[Place, list[Estimate]] = {}
    for place, estimate in pairs:
        if estimate is not None:
            groups.setdefault(place, []).append(estimate)
    for place in sorted(groups):
        yield place, over_runs(groups[place])


def untimed(tables: Tables, place: Place, options: Iterable[str]) -> list[str]:
    """Options that were neither timed at a place nor found to be of no use there; `place.target` empty: anywhere.

    A statement about all options cannot be confirmed while one was not tried, one about some option not refuted.  A
    published table is taken for what it has.
    """
    if tables.origin == "published":
        return []
    point = (place.machine, place.model, place.imgsz, place.batch, place.threads)
    there = [
        row
        for row in tables.rows
        if (row.machine, row.model, row.imgsz, row.batch, row.threads) == point
        and place.target in ("", row.target)
        and (pd.notna(row.latency_ratio) or row.status == Status.FAILED.value or row.reason_code in UNSUPPORTED)
    ]
    return sorted(set(options) - {row.option for row in there})


def held(
    tables: Tables,
    pairs: Iterable[tuple[Place, Estimate | None]],
    threshold: float | None,
    side: Side,
    unit: str,
    words: Callable[[Place, str], Text],
) -> list[Finding]:
    """A finding per place; `words` makes its text from the place and the figure as text."""
    return [
        finding(tables, place, estimate, threshold, side, unit, words(place, shown(estimate, unit)))
        for place, estimate in by_place(pairs)
    ]


# How far an exact figure may be from what it could as well have been on another day, by unit: a release that slips by a
# month, one more or less as the year is cut, the next version of a package or of a page.
_NEAR = {"days": 30.0, "releases": 1.0}
_NEAR_FACTOR = {"x": 1.05, "px": 1.05}


def near(estimate: Estimate, unit: str) -> Estimate:
    """An exact figure as wide as it could as well have been, so that nothing is decided close to a threshold."""
    if not estimate.exact:
        return estimate
    margin, factor = _NEAR.get(unit, 0.0), _NEAR_FACTOR.get(unit, 1.0)
    return replace(estimate, low=estimate.value / factor - margin, high=estimate.value * factor + margin)


def finding(
    tables: Tables,
    place: Place | str,
    estimate: Estimate,
    threshold: float | None,
    side: Side,
    unit: str,
    text: Text,
    verdict: tuple[Verdict, float | None] | None = None,
    machine: str = "",
) -> Finding:
    """The finding of an estimate held against a threshold; `text` says it in words.

    `verdict` and its chance replace the interval rule's where a check decides from more than one interval; `machine` is
    that of a place which does not name it.  Without a threshold it is a fact.
    """
    if threshold is None:
        found, by_chance = Verdict.FACT, None
    else:
        found, by_chance = verdict or (judge(near(estimate, unit), threshold, side), chance(estimate, threshold))
        if found is Verdict.INCONCLUSIVE and estimate.exact and verdict is None:
            text = Text(en=f"{text.en} Too near the threshold.", zh=f"{text.zh}（离阈值太近，不作判定。）")
    if tables.origin == "published":
        text = Text(en=f"{text.en} Published, no interval given.", zh=f"{text.zh}（公开数据，未给出区间。）")
    elif estimate.low is None:
        text = Text(en=f"{text.en} Too few repeats for an interval.", zh=f"{text.zh}（重复次数太少，无法给出区间。）")
    published = tables.origin == "published" and estimate.low == estimate.high
    return Finding(
        found,
        text,
        scope=str(place),
        machine=place.machine if isinstance(place, Place) else machine,
        value=estimate.value,
        low=None if published else estimate.low,
        high=None if published else estimate.high,
        threshold=threshold,
        unit=unit,
        rows=estimate.rows,
        date=estimate.date,
        chance=by_chance,
    )


def shown(estimate: Estimate, unit: str) -> str:
    """A figure as text, with its interval where it has one that is not a point: 1.94 [1.91, 1.96]."""
    text = number(estimate.value, unit)
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return text
    return f"{text} [{number(estimate.low, unit)}, {number(estimate.high, unit)}]"


def number(value: float, unit: str) -> str:
    """A number as its unit is read: ratios to three digits, mAP to four decimals, counts whole."""
    if unit == "mAP":
        return f"{value:+.4f}"
    if unit in ("days", "releases", "runtimes", "systems", "rank"):
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".") if value else "0"


def missing(
    tables: Tables,
    claim: Claim,
    answered: Iterable[Finding],
    options: Sequence[str],
    targets: Sequence[str] = (),
    *,
    timed: bool = False,
    needed: bool = False,
    each: bool = False,
    beside: str = "",
) -> list[Finding]:
    """Findings for what no row answers: each of `targets` that is not among the findings' rows, or all.

    `each`: every one of several options that the guide has must answer, and not by a stand-in alone where others did;
    one that does not keeps the whole from being supported.
    A target that none of the machines has (`timed`: on which nothing can be timed; `beside`: together with that other
    target) is untested here; so is one that the options' own runtimes did not find, everything about an option that has
    no other target, or about one of its targets that is `needed`; and so is what no run tried.  What was tried and gave
    no figure is inconclusive.
    """
    answered = list(answered)
    there = {target for target in (tables.timeable if timed else tables.present) if _having(tables, target, beside)}
    present = there - _not_found(tables, options)
    used = {row for one in answered for row in one.rows}
    answering = [row for row in select(tables.rows, Scope(), options) if row_name(row) in used]
    covered = {tables.words.emulates.get(row.target, row.target) for row in answering}
    spoke = {row.option for row in answering}
    real = {row.option for row in answering if row.target not in tables.words.stand_ins}
    silent = [name for name in options if name in tables.words.options and name not in (real or spoke)]
    findings = []
    if each and answered and len(options) > 1:
        for option in silent:
            own = set(tables.words.options[option]) - tables.words.stand_ins
            found = there - _not_found(tables, [option])
            absent = bool(own) and not own & found
            one = _open(tables, claim, [option], sorted(own - found) if absent else [], absent)
            findings.append(replace(one, scope=option, needed=True))
    if not targets:
        if answered:
            return findings
        own = {target for option in options for target in tables.words.options.get(option, ())}
        absent = needed or bool(own and not own & present)
        return [_open(tables, claim, options, sorted(own - present) if absent else [], absent)]
    return findings + [
        _open(tables, claim, options, [target], target not in present, beside)
        for target in targets
        if target not in covered
    ]


def _not_found(tables: Tables, options: Sequence[str]) -> frozenset[str]:
    """Targets on which every cell of the options says that there is no such device."""
    codes: dict[str, set[str]] = {}
    for row in select(tables.rows, Scope(), options):
        codes.setdefault(row.target, set()).add(row.reason_code)
    return frozenset(target for target, seen in codes.items() if seen == {Reason.TARGET_ABSENT.value})


def _having(tables: Tables, target: str, beside: str = "") -> frozenset[str]:
    """Machines that have a target, and another one beside it where that is asked for."""
    there = tables.having.get(target, frozenset())
    return there & tables.having.get(beside, frozenset()) if beside else there


def _open(
    tables: Tables, claim: Claim, options: Sequence[str], targets: Sequence[str], absent: bool, beside: str = ""
) -> Finding:
    scope = " · ".join(targets)
    rows = select(tables.rows, Scope(), options, targets)
    if not rows or absent:
        tried = {(row.target, row.machine) for row in rows}
        places = [(one, machine) for one in targets for machine in sorted(_having(tables, one, beside))]
        untried = [place for place in places if place not in tried]
        if untried or not absent:
            return Finding(Verdict.UNTESTED_HERE, _untried(tables, options, untried), scope=scope)
    if absent:
        named = [tables.target_name(target) for target in targets]
        needs = claim.needs or Text(
            en=f"It needs: {', '.join(name.en for name in named)}.",
            zh=f"需要：{'、'.join(name.zh for name in named)}。",
        )
        text = Text(
            en=f"None of the machines of these runs can decide it. {needs.en.rstrip('.')}.",
            zh=f"这些运行所用的机器都无法判定。{needs.zh.rstrip('。')}。",
        )
        return Finding(Verdict.UNTESTED_HERE, text, scope=scope)
    names = ", ".join(tables.name(option) for option in options) or "-"
    codes = sorted({f"{row.status}: {row.reason_code}" for row in rows if row.status != Status.MEASURED.value})
    text = Text(
        en=f"No measured row of {names} answers it" + (f" ({'; '.join(codes)})." if codes else "."),
        zh=f"没有 {names} 的测量结果可以回答" + (f"（{'；'.join(codes)}）。" if codes else "。"),
    )
    return Finding(Verdict.INCONCLUSIVE, text, scope=scope)


def _untried(tables: Tables, options: Sequence[str], places: Sequence[tuple[str, str]]) -> Text:
    """What no run tried, on which machines it could be, and how.  `places` are targets with a machine that has them."""
    names = ", ".join(tables.name(option) for option in options) or "-"
    targets = list(dict.fromkeys(target for target, _ in places))
    command = " ".join(["yolo11-bench run", *(["--options", ",".join(options)] if options else [])])
    if not places:
        return Text(
            en=f"None of these runs tried {names}: `{command}`.", zh=f"这些运行都没有试过 {names}：`{command}`。"
        )
    command += f" --targets {','.join(targets)}"
    machines = "; ".join(dict.fromkeys(machine for _, machine in places))
    named = [tables.target_name(target) for target in targets]
    return Text(
        en=f"None of these runs tried {names} on {', '.join(name.en for name in named)} of {machines}: "
        f"`{command}` there.",
        zh=f"这些运行都没有在 {machines} 的 {'、'.join(name.zh for name in named)} 上试过 {names}："
        f"可在那里执行 `{command}`。",
    )


class Bounded(Parameters):
    """Parameters of a check that holds a figure against a threshold; of a fact there is none."""

    threshold: float | None = None
