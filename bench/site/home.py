"""The first page: for each place that was measured what to deploy there, the figures behind it, and how to get it.

Every answer is that of `bench.decide.deploy`, which the report and `yolo11-bench recommend` ask too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.decide.claims.published import Hardware, Page
from bench.decide.deploy.candidates import Field, fields, joint
from bench.decide.deploy.recommend import Candidate, Choice, Figure, Recommendation, Standing, limits, recommend
from bench.decide.timings import Own, own, timings
from bench.grid.matrix import Matrix
from bench.places import DEMO_CHECKPOINT
from bench.report import figures, recommendation
from bench.report.marks import Mark, marks
from bench.report.recommendation import StepTable, names_of, reasons, shown, step_table, steps
from bench.store import reading
from bench.store.reading import Run, StoredCell
from bench.words.locale import Locale
from bench.words.numbers import MISSING, interval, number, precision_name, significant, times

_FLAGS = {"fp32": (), "fp16": ("half=True",), "int8": ("int8=True",)}
"""What `yolo export` is told for a precision; of others it knows nothing."""


@dataclass(frozen=True)
class Decided:
    """A place that was measured, with what is recommended there under the usual limits; the same in every language."""

    key: str
    run: Run
    field: Field
    found: Recommendation
    drawing: str | None


@dataclass(frozen=True)
class Line:
    """A candidate in the table: where it stands, its figures as text, and why it is not the first."""

    name: str
    option: str
    meaning: str
    standing: str
    rank: int | None
    values: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Answer:
    """A place in words.  `place` and `model` are what a reader chooses by; `best` is None where nothing is sure.

    `steps` are there instead where the place is of several models or sizes.  `recommended` has the ids of the options
    that either names, `yardstick` is what the speeds of the drawing are relative to.
    """

    key: str
    place: str
    model: str
    best: str | None
    steps: StepTable | None
    recommended: tuple[str, ...]
    summary: tuple[str, ...]
    facts: tuple[tuple[str, str, str], ...]
    export: str
    again: str
    drawing: str | None
    yardstick: str
    lines: tuple[Line, ...]
    run_id: str


@dataclass(frozen=True)
class Printed:
    """A machine that nobody measured here, and what others have printed of it, fastest first."""

    key: str
    place: str
    model: str
    source: str
    lines: tuple[tuple[str, ...], ...]


COLUMNS = ("per_image", "per_second", "speed", "map", "delta", "size", "memory")


def decide(runs: Sequence[Run]) -> tuple[Decided, ...]:
    """Every place of the runs at which there is something to choose from; the ones with most candidates first.

    Several models or sizes are a place together too.  Those of the demo model come last.
    """
    look = marks(cell.option for run in runs for cell in run.cells)
    found = [
        Decided(key_of(run, field), run, field, told, _drawing(run, field, told, look, errors))
        for run in runs
        for errors in [own(run, timings(run.samples))]
        for field in (*fields(run), *joint(run))
        for told in [recommend(field.candidates, limits(), field.pairs)]
    ]
    # The demo model is the least that a reader wants to deploy.
    return tuple(sorted(found, key=lambda one: (_is_demo(one), -len(one.field.candidates), one.key)))


def answer(decided: Decided, matrix: Matrix, locale: Locale, words: Locale) -> Answer:
    """A place in the words of a language: `locale` has those of the site, `words` those of a recommendation."""
    field, found = decided.field, decided.found
    model, imgsz, batch, target, threads = field.point
    names, cells = names_of(field, words), {cell.cell_id: cell for cell in field.cells}
    meets = () if field.several else found.of(Standing.MEETS)
    best = meets[0].candidate if meets else None
    climbed = step_table(field, found, words)
    named = matrix.targets.get(target)
    models, sizes = (words("separator").join(map(str, every)) for every in (field.models, field.sizes))
    name = target if named is None else (named.name_zh if locale.language == "zh" else "") or named.name
    return Answer(
        key=decided.key,
        place=locale(
            "home.place",
            target=name,
            machine=field.machine or MISSING,
            threads=locale.count("home.threads", threads),
        ),
        model=locale("home.model_size", model=models, imgsz=sizes, batch=batch),
        best=None if best is None else names[best.cell_id],
        steps=climbed,
        recommended=climbed.options if climbed else () if best is None else (best.option,),
        summary=recommendation.answer(field, found, words),
        facts=() if best is None else _facts(best, cells[best.cell_id], locale),
        export="" if best is None else export_command(matrix, best, model, imgsz),
        again="" if best is None else best.reproduce,
        drawing=decided.drawing,
        yardstick=field.yardstick or figures.USUAL,
        lines=tuple(_line(one, cells[one.candidate.cell_id], found, words, names, matrix) for one in found.choices),
        run_id=decided.run.run_id,
    )


def printed(pages: Mapping[str, Page], matrix: Matrix) -> tuple[Printed, ...]:
    """The machines of published pages, a model each, in their order."""
    return tuple(
        Printed(
            _key(stem, hardware.name, model),
            hardware.name,
            f"{model}, {page.imgsz} px",
            f"{page.source}, {page.version}",
            _printed(hardware, model, matrix),
        )
        for stem, page in pages.items()
        for hardware in page.hardware
        for model in dict.fromkeys(row.model for row in hardware.rows)
        if sum(row.model == model for row in hardware.rows) > 1
    )


def export_command(matrix: Matrix, candidate: Candidate, model: str, imgsz: int) -> str:
    """Ultralytics' own command for the same format and precision; empty where it has none."""
    option = matrix.options.get(candidate.option)
    if option is None or not option.format:
        return ""
    precision = option.precisions.get(candidate.precision)
    stored = (precision.artifact if precision else "") or candidate.precision
    if stored not in _FLAGS:
        return ""
    return shlex.join(
        ["yolo", "export", f"model={model}.pt", f"format={option.format}", f"imgsz={imgsz}", *_FLAGS[stored]]
    )


def _facts(best: Candidate, cell: StoredCell, locale: Locale) -> tuple[tuple[str, str, str], ...]:
    """Figures of the answer: what each is, its value, and its interval."""
    loss = best.figures["loss"]
    known = best.time.low is not None and not cell.is_own_reference
    speed = interval(cell.latency_ratio_low, cell.latency_ratio_high, 2) if known else ""
    return (
        (locale("home.time"), *_split(shown("latency", best.figures["latency"]))),
        (locale("home.per_second"), *_split(shown("throughput", best.figures["throughput"]))),
        (locale("home.speed"), _speed(cell), speed),
        (locale("home.delta"), *_delta(loss)),
        (locale("home.size"), shown("size", best.figures["size"]), ""),
        (locale("home.memory"), *_split(shown("memory", best.figures["memory"]))),
    )


def _line(
    choice: Choice, cell: StoredCell, found: Recommendation, words: Locale, names: Mapping[str, str], matrix: Matrix
) -> Line:
    one = choice.candidate
    option = matrix.options.get(one.option)
    precision = None if option is None else option.precisions.get(one.precision)
    meaning = "" if precision is None else precision.told(words.language)
    values = (
        shown("latency", one.figures["latency"]).partition("\N{NO-BREAK SPACE}")[0],
        _split(shown("throughput", one.figures["throughput"]))[0],
        _speed(cell),
        shown("map", one.figures["map"]).partition(" ")[0],
        " ".join(_delta(one.figures["loss"])).strip(),
        shown("size", one.figures["size"]),
        shown("memory", one.figures["memory"]).partition(" ")[0],
    )
    why = words("clauses").join(reasons(choice, found, words, names))
    return Line(names[one.cell_id], one.option, meaning, choice.standing.value, choice.rank, values, why)


def _speed(cell: StoredCell) -> str:
    """Of the cell, as the report has it: what comes of a rounded time may have another last figure."""
    return times(1.0 if cell.is_own_reference else cell.latency_ratio)


def _delta(loss: Figure | None) -> tuple[str, str]:
    """The change of mAP50-95, which is the loss the other way round, and its interval."""
    if loss is None:
        return MISSING, ""
    exact = loss.low == loss.high
    low, high = (None if end is None else -end for end in (loss.high, loss.low))
    return number(-loss.value, 4, sign=True), "" if exact else interval(low, high, 4, sign=True)


def _split(text: str) -> tuple[str, str]:
    value, _, rest = text.partition(" ")
    return value, rest


def _printed(hardware: Hardware, model: str, matrix: Matrix) -> tuple[tuple[str, ...], ...]:
    rows = sorted((row for row in hardware.rows if row.model == model), key=lambda row: row.ms)
    named = {row.option: matrix.options[row.option].name for row in rows if row.option in matrix.options}
    return tuple(
        (
            f"{named.get(row.option, row.option)} {precision_name(row.precision)}",
            significant(row.ms),
            significant(1000 / row.ms),
            number(row.map50_95, 4),
            significant(row.size_mb),
        )
        for row in rows
    )


def _is_demo(decided: Decided) -> bool:
    return decided.field.point[0] == DEMO_CHECKPOINT.stem


def _drawing(run: Run, field: Field, found: Recommendation, look: Mapping[str, Mark], errors: Own) -> str | None:
    labels, name = reading.label(field.cells), key_of(run, field)
    front = [one.cell_id for one in steps(field, found)] if field.several else None
    return figures.untitled(field.cells, labels, look, name, errors, front=front)


def key_of(run: Run, field: Field) -> str:
    """A place's name in addresses and ids."""
    return _key(run.run_id, *field.models, *map(str, field.sizes), *map(str, field.point[2:]))


def _key(*parts: str) -> str:
    """A name for the address bar and for ids of a page: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
