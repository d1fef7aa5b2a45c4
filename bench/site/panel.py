"""The panel "what to deploy" for a page: a fragment of HTML with its data, a script and a style sheet.

The page that takes it in supplies the colours of `report.css` and lets the script run; nothing is loaded.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from bench.decide.deploy.candidates import Field
from bench.decide.deploy.recommend import FRONT, NEAR, QUANTITIES, Candidate
from bench.places import REPORTS
from bench.report.recommendation import caveats, names_of, shown, times, why_passed, words
from bench.site.home import key_of
from bench.stats.contrast import Contrasts, ratio
from bench.store.reading import Run
from bench.words.locale import Language, Locale
from bench.words.names import Thing, apart
from bench.words.numbers import MISSING

TEMPLATES = REPORTS / "templates"
_STEPS = {
    "time": 0.01,
    "latency": 0.1,
    "throughput": 1,
    "map": 0.001,
    "loss": 0.001,
    "size": 0.1,
    "memory": 1,
    "packages": 1,
}
"""What one move of a slider changes."""


def build(known: Sequence[tuple[Run, Field]], language: Language, *, several: bool) -> Markup:
    """The panel's HTML over scopes of one model and size, with their runs; empty without any.

    `several` names the run of each.  Equal runs give equal text.
    """
    locale = words(language)
    models = apart(_model(field) for _, field in known)
    if not known:
        return Markup("")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    data = {
        "fields": [
            _field(run, field, locale, models[_model(field)], several=several)
            for run, field in known
        ],
        "quantities": [
            {
                "id": one.id, "side": one.side, "option": one.option, "most": one.most, "step": _STEPS[one.id],
                "usual": one.usual, "slack": one.slack,
            }
            for one in QUANTITIES.values()
        ],
        "front": FRONT,
        "near": NEAR,
        "missing": MISSING,
        "texts": dict(locale.strings),
    }  # fmt: skip
    # The template has escaped what is not of ours.
    return Markup(environment.get_template("recommend.html.j2").render(data=data, texts=locale))  # noqa: S704 - as above


def script() -> str:
    """The panel's script, to stand after the panel in the page."""
    return (TEMPLATES / "recommend.js").read_text("utf-8")


def style() -> str:
    """The panel's style sheet."""
    return (TEMPLATES / "recommend.css").read_text("utf-8")


def _model(field: Field) -> Thing:
    """The one model of a scope by its name and the hash of its file."""
    return field.cells[0].model, field.cells[0].model_sha256


def _field(run: Run, field: Field, locale: Locale, called: str, *, several: bool) -> dict[str, Any]:
    names = names_of(field, locale)
    model, imgsz, batch, target, threads = field.point
    arguments = {"target": target, "model": model, "imgsz": imgsz, "batch": batch, "threads": threads}
    options = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
    told = {**arguments, "model": called, "threads": locale.count("threads", threads)}
    place = locale("panel.place", machine=field.machine or MISSING, **told)
    parts = [place, run.run_id if several else ""]
    return {
        "key": key_of(run, field),
        "label": " ".join(part for part in parts if part),
        "command": shlex.join(["python", "-m", "bench", "recommend", run.run_id, *options]),
        "candidates": [_candidate(one, names[one.cell_id], field) for one in field.candidates],
        "passed": [{"name": one.name, "why": why_passed(one, locale)} for one in field.passed],
        "caveats": caveats(field, locale),
    }


def _candidate(candidate: Candidate, name: str, field: Field) -> dict[str, Any]:
    figures = {
        key: None
        if figure is None
        else {"value": figure.value, "low": figure.low, "high": figure.high, "shown": shown(key, figure)}
        for key, figure in candidate.figures.items()
    }
    against = {
        other.cell_id: _against(candidate, other, field.pairs) for other in field.candidates if other is not candidate
    }
    return {
        "id": candidate.cell_id,
        "name": name,
        "in_guide": candidate.in_guide,
        "figures": figures,
        "against": [against.get(other.cell_id) for other in field.candidates],
    }


def _against(one: Candidate, other: Candidate, pairs: Contrasts) -> list[Any] | None:
    """An entry of the scope's matrix; None where the two shared no round.

    1 where `one` is surely slower than `other`, -1 where surely faster, else 0; whether it is slower by the estimate;
    and its time over the other's as text, where it is surely slower.
    """
    found = pairs.between(one.cell_id, other.cell_id)
    if found is None:
        return None
    sure = ((other.cell_id, one.cell_id) in pairs.sure) - ((one.cell_id, other.cell_id) in pairs.sure)
    return [sure, int(found.value > 0), times(ratio(found)) if sure > 0 else ""]
