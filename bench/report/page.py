"""Puts the report together: one HTML file that holds everything it needs and may load nothing."""

from __future__ import annotations

import base64
import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from bench.decide.deploy.candidates import fields, joint
from bench.decide.deploy.recommend import limits, recommend
from bench.decide.timings import Own, own, timings
from bench.files import replacing
from bench.places import REPORTS
from bench.reasons import UsageError
from bench.report import checked, durations, figures, highlights, marks, meanings, outcomes, photo, tables
from bench.report.checked import Checked
from bench.report.marks import Mark
from bench.report.recommendation import StepTable, answer, step_table, steps, words
from bench.store import reading as run
from bench.store.facts import IDENTITY, SECONDS
from bench.store.reading import Point, Run, StoredCell
from bench.words.locale import Language, Locale, texts
from bench.words.messages import messages
from bench.words.numbers import MISSING, gigabytes, interval, number, precision_name

# The images folder is a path on the machine that measured; a report is made to be handed on.  Notes on the data stand
# in its summary.
_HIDDEN = {"run": frozenset({"images_dir", "option_names", "house", "data_notes"})}
# The time it took has a table of its own, and hashes are for a check to compare.
_LEFT_OUT = frozenset({SECONDS, IDENTITY})
_SCRIPT, _STYLE = "script", "style"


class Inline(str):
    """Text of an inline script or style element, with the hash that lets the page's policy run it."""

    __slots__ = ()

    @property
    def source(self) -> str:
        """The Content-Security-Policy source expression of this text."""
        return f"'sha256-{base64.b64encode(hashlib.sha256(self.encode()).digest()).decode()}'"

    def __html__(self) -> str:
        """The text as it is: it was checked when it was read."""
        return str(self)


@dataclass(frozen=True)
class Section:
    """The figures and highlights of cells that may be compared with each other."""

    title: str
    highlights: tuple[highlights.Highlight, ...]
    scatter: figures.Drawing | None
    distributions: figures.Drawing | None
    undrawn: tuple[str, ...]


@dataclass(frozen=True)
class Overall:
    """The choice among several models or sizes at one place: in words, step by step, and drawn."""

    title: str
    answer: tuple[str, ...]
    table: StepTable | None
    scatter: figures.Drawing | None


def build(
    run_dir: Path, out: Path, *, image: Path | None = None, min_score: float = 0.25, language: Language = "en"
) -> Path:
    """Write the report of the run in `run_dir` to the file `out` and return its path.

    `image` is the picture to draw detections on (None: chosen from the run); `min_score` the confidence from which
    they are drawn.  The file is replaced as a whole: a failure leaves the old one.
    Raises bench.reasons.StoreError for a run that cannot be read, bench.reasons.UsageError for an `image` that is not
    one of the run's, a vendored file that was changed, or an `out` that cannot be written.
    """
    check = checked.read(run_dir, language)
    html = render(run.load(run_dir), image=image, min_score=min_score, check=check, language=language)
    _write(out, html)
    return out


def render(
    data: Run, *, image: Path | None, min_score: float, check: Checked | None = None, language: Language = "en"
) -> str:
    """The report's HTML in a language, with the check that the run was held to.  Equal runs give equal text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(REPORTS / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = {cell.option: cell.option_name for cell in data.cells}
    t, terminal = texts("report", language), outcomes.words(language)
    environment.filters |= {"option": lambda one: names.get(one, one), "precision": precision_name, "num": number}
    environment.filters |= {"status": lambda one: terminal(f"status.{one}")}
    environment.globals |= {"interval": interval, "zip": zip, "said": messages(language), **_sayings(data, t)}
    scripts, styles = _inline(_SCRIPT), _inline(_STYLE)
    look = marks.marks(cell.option for cell in data.cells)
    keys, attested = outcomes.attestation(data, t)
    errors = own(data, timings(data.samples))
    told = meanings.meanings(language)
    return environment.get_template("report.html.j2").render(
        run=data,
        check=check,
        policy=_policy(scripts, styles),
        scripts=scripts,
        styles=styles,
        look=look,
        shapes=marks.symbols(),
        counts=tables.overview(data),
        machine=_machine(data, t),
        subject=_subject(data, t),
        overall=_overall(data, look, errors, t),
        sections=_sections(data, look, errors, t),
        comparison=tables.comparison(data, errors, t, told),
        precisions={
            cell.name: text
            for cell in data.measured
            if (text := told.precisions.get((cell.option, cell.precision), ""))
        },
        missing=MISSING,
        references=tables.references(data, errors),
        latency=tables.latency_detail(data, t),
        object_sizes=tables.object_sizes(data, t),
        classes=tables.classes(data),
        photo=photo.build(data, image, min_score, t),
        min_score=min_score,
        problems=outcomes.problems(data, terminal),
        attestation_keys=keys,
        asked=outcomes.asked(data),
        attestation=attested,
        environment=[facts for facts in outcomes.environment(data, _HIDDEN) if facts[0] not in _LEFT_OUT],
        durations=durations.steps(data),
        slowest=durations.slowest(data),
    )


def _subject(data: Run, t: Locale) -> str:
    """What a run is of: `model n (1a2b3c4), data coco8`."""
    join = t("separator").join
    return join(t(f"lead.{what}", name=join(names)) for what, names in data.subjects)


def point_title(point: Point, t: Locale) -> str:
    """A point in words: `yolo11n, 640 px, batch 1, cpu, 2 threads`."""
    model, imgsz, batch, target, threads = point
    many = t.count("count.thread", threads)
    return t("point.title", model=model, imgsz=imgsz, batch=batch, target=target, threads=many)


def vendored(kind: str) -> dict[str, str]:
    """Text of the vendored files of that kind, script or style, by file name in the order of vendor.toml.

    Raises bench.reasons.UsageError when a file is missing or is not the one that vendor.toml names.
    """
    folder = REPORTS / "vendor"
    entries = tomllib.loads((folder / "vendor.toml").read_text("utf-8"))["file"]
    texts = {}
    for entry in entries:
        if entry["kind"] != kind:
            continue
        path = folder / entry["path"]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}. Restore it from version control.") from error
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise UsageError(
                f"{path} is not {entry['package']} {entry['version']} as vendor.toml records it: its sha256 differs. "
                "Restore it from version control, or copy the published file and update the entry."
            )
        texts[entry["path"]] = content.decode("utf-8")
    return texts


def _inline(kind: str) -> tuple[Inline, ...]:
    own = (REPORTS / "templates" / ("report.js" if kind == _SCRIPT else "report.css")).read_text("utf-8")
    return tuple(_checked(text, kind) for text in (*vendored(kind).values(), own))


def _checked(text: str, kind: str) -> Inline:
    # A browser hashes what is between the tags, with line ends normalised.
    text = "\n" + text.replace("\r\n", "\n").strip() + "\n"
    if f"</{kind}" in text.lower() or "<!--" in text:
        raise UsageError(f"a file in reports/ holds '</{kind}' or '<!--' and would break out of its <{kind}> element")
    return Inline(text)


def _policy(scripts: tuple[Inline, ...], styles: tuple[Inline, ...]) -> Markup:
    """Nothing may be loaded but data: images, and nothing may run but the texts in this file."""
    parts = {
        "default-src": "'none'",
        "script-src": " ".join(script.source for script in scripts),
        "style-src": " ".join(style.source for style in styles),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    # Made of constants and base64 only; escaping the quotes would be right too, and harder to read in the source.
    return Markup("; ".join(f"{name} {value}" for name, value in parts.items()))  # noqa: S704 - as above


def _sayings(data: Run, t: Locale) -> dict[str, Any]:
    """What the templates call for words of a language."""

    def rich(key: str, **values: Markup) -> Markup:
        """A text whose gaps are filled with markup."""
        return escape(t.strings[key]).format(**values)

    def sentences(*said: str) -> Markup:
        """Sentences after one another, text or markup; Chinese has no blank between them."""
        return escape("" if t.language == "zh" else " ").join(one for one in said if one)

    def labels(cells: Iterable[StoredCell]) -> str:
        """The names of cells."""
        return t("separator").join(data.labels[cell.cell_id] for cell in cells)

    return {"t": t, "rich": rich, "sentences": sentences, "labels": labels}


def _sections(data: Run, look: Mapping[str, Mark], errors: Own, t: Locale) -> tuple[Section, ...]:
    relative = tables.relative_latency(data)
    choices = {field.point: field for field in fields(data)}
    sections = []
    for index, (point, cells) in enumerate(data.points().items()):
        if all(cell.correctness_only for cell in cells):
            continue  # nothing to rank and nothing to draw
        missing = tuple(data.labels[cell.cell_id] for cell in cells if not len(relative.get(cell.cell_id, ())))
        short = run.label(cells)
        sections.append(
            Section(
                point_title(point, t),
                highlights.highlights(cells, choices.get(point), errors, t),
                figures.scatter(cells, short, look, f"s{index}", errors, t),
                figures.distributions(relative, cells, short, look, f"d{index}", t),
                missing,
            )
        )
    return tuple(sections)


def _overall(data: Run, look: Mapping[str, Mark], errors: Own, t: Locale) -> tuple[Overall, ...]:
    """Every place with several models or sizes."""
    locale, found = words(t.language), []
    for index, field in enumerate(joint(data)):
        told = recommend(field.candidates, limits(), field.pairs)
        _, _, batch, target, threads = field.point
        many = t.count("count.thread", threads)
        models, sizes = (t("separator").join(map(str, every)) for every in (field.models, field.sizes))
        title = t("point.title", model=models, imgsz=sizes, batch=batch, target=target, threads=many)
        front = [one.cell_id for one in steps(field, told)]
        drawing = figures.scatter(field.cells, run.label(field.cells), look, f"o{index}", errors, t, front=front)
        found.append(Overall(title, answer(field, told, locale), step_table(field, told, locale), drawing))
    return tuple(found)


def _machine(data: Run, t: Locale) -> tuple[str, ...]:
    """The machine in a few words: processor, logical CPUs, memory, accelerators, system."""
    cores = data.fact("cpu_cores_logical", scope="machine")
    memory = gigabytes(data.fact("memory_bytes", scope="machine"))
    parts = [
        data.fact("cpu", scope="machine"),
        t.count("count.cpu", int(cores)) if cores.isdigit() else "",
        t("machine.memory", gb=memory) if memory else "",
        data.fact("accelerators", scope="machine"),
        data.fact("system", scope="machine"),
        t("machine.virtual") if data.fact("virtual_machine", scope="machine") == "true" else "",
    ]
    return tuple(part for part in parts if part)


def _write(out: Path, html: str) -> None:
    try:
        with replacing(out) as sink:
            sink.write(html.encode("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot write the report to {out}: {error.strerror}. Choose another place.") from error
