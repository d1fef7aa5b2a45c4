"""Renders the site: the same pages in each language, their shared assets, and a list of verdicts for machines."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bench.decide.claims.evaluate import counts
from bench.decide.claims.statements import GENERAL, Claim
from bench.decide.claims.verdicts import DECIDED, GROUPS, KINDS, NAMES, Finding, Kind, Verdict
from bench.history import drift, machines, reading
from bench.history.machines import Machine
from bench.places import MATRICES, REPORTS
from bench.reasons import UsageError
from bench.report import marks, outcomes
from bench.report.page import vendored
from bench.report.recommendation import words
from bench.site import evidence as sources
from bench.site import fleet, home, measurements, panel, wording
from bench.site.evidence import Evidence
from bench.site.home import Decided
from bench.site.trends import NEWEST, UNFOLDED, Trends, night_path, trend_path, versions_of
from bench.words import locale as locales
from bench.words.locale import LANGUAGES, Language, Locale
from bench.words.numbers import clean
from bench.words.spans import spans

NAVIGATION = (
    ("home", "index.html"),
    ("table", "guide.html"),
    ("general", "general.html"),
    ("measurements", "measurements.html"),
    ("trends", "trends.html"),
    ("fleet", "fleet.html"),
    ("recommend", "recommend.html"),
    ("published", "published.html"),
    ("method", "method.html"),
)
LISTING = "site.json"
"""The verdicts as JSON; it also tells a folder that holds a site from one that holds something else."""
ROWS_MOST = 40
"""Rows of evidence that are listed; a release count can rest on hundreds."""
# Everything is a file beside the pages, and nothing else may be loaded or run.
POLICY = Markup(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Page:
    """Where a page is in its language's folder, and how it reaches the rest of the site."""

    path: str
    language: str

    @property
    def base(self) -> str:
        """Way to its language's folder."""
        return "../" * self.path.count("/")

    @property
    def assets(self) -> str:
        """Way to the folder of assets."""
        return f"{self.base}../assets/"

    @property
    def other(self) -> str:
        """Way to the same page in the other language."""
        return f"{self.base}../{other_language(self.language)}/{self.path}"


def build(
    directories: Sequence[Path],
    out: Path,
    *,
    guide: Path | None = None,
    matrices: Path = MATRICES,
    history: Path | None = None,
) -> Path:
    """Write the site of the runs in `directories` into the folder `out` and return its first page.

    `guide` is the document itself, against which the statements are held; `history` is the folder of a history, whose
    trends, nights and machines get pages of their own.  The folder is replaced as a whole; one that holds something
    else than a site is left alone.  Equal tables give equal files.
    Raises bench.reasons.UsageError for wrong data or a folder that cannot be written, bench.reasons.StoreError for
    tables that cannot be read.
    """
    _check_replaceable(out)
    past = () if history is None else _past(history.resolve(), matrices)
    files = render(sources.load(directories, matrices, guide), *past)
    _replace(out, files)
    return out / "index.html"


def _past(history: Path, matrices: Path) -> tuple[Trends, tuple[Machine, ...]]:
    with reading.opened(history) as base:
        found = drift.look(base, matrices)
        return Trends(found), machines.load(base, found, matrices)


def render(evidence: Evidence, trends: Trends | None = None, past: Sequence[Machine] = ()) -> dict[str, str]:
    """Every file of the site by its path; `trends` and machines are those of a history."""
    texts = locales.load(REPORTS / "locale" / "site")
    styles, scripts = vendored("style"), vendored("script")
    files = {f"assets/{name}": text for name, text in (styles | scripts).items()}
    for name in ("report.css", "report.js", "site.css"):
        files[f"assets/{name}"] = (REPORTS / "templates" / name).read_text("utf-8")
    for licence in sorted((REPORTS / "vendor").glob("*.LICENSE.txt")):
        files[f"assets/{licence.name}"] = licence.read_text("utf-8")
    files |= {"assets/recommend.css": panel.style(), "assets/recommend.js": panel.script()}
    files |= {"assets/home.js": (REPORTS / "templates" / "home.js").read_text("utf-8")}
    look = {"styles": [*styles, "report.css", "site.css"], "scripts": [*scripts, "report.js"]}
    decided = home.decide(evidence.runs)
    for language in LANGUAGES:
        for path, html in _language(evidence, texts[language], look, decided, trends, past):
            files[f"{language}/{path}"] = html
    environment = _environment()
    gate = environment.get_template("site/gate.html.j2")
    files["index.html"] = gate.render(policy=POLICY, styles=look["styles"], locales=[texts[name] for name in LANGUAGES])
    files[LISTING] = _listing(evidence)
    return files


def other_language(language: str) -> str:
    """The language that a page's switch leads to."""
    return next(name for name in LANGUAGES if name != language)


def _language(
    evidence: Evidence,
    t: Locale,
    look: dict[str, list[str]],
    places: Sequence[Decided],
    trends: Trends | None,
    past: Sequence[Machine],
) -> Iterator[tuple[str, str]]:
    environment = _environment()
    language: Language = "zh" if t.language == "zh" else "en"
    alone = [(one.run, one.field) for one in places if not one.field.several]
    chooser = panel.build(alone, language, several=len(evidence.runs) > 1)
    there = {"recommend": bool(chooser), "trends": trends is not None, "fleet": bool(past)}
    navigation = [entry for entry in NAVIGATION if there.get(entry[0], True)]
    environment.globals |= {**_helpers(evidence, t), **look, "navigation": navigation}
    about_options, general = evidence.about_options, evidence.general
    summaries = measurements.summaries(evidence.tables, evidence.grid, t)

    def page(path: str, template: str, **values: Any) -> tuple[str, str]:
        return path, environment.get_template(f"site/{template}.html.j2").render(page=Page(path, t.language), **values)

    finds = [(one.claim, find) for one in evidence.judged for find in one.finds]
    yield page(
        "index.html",
        "home",
        answers=[home.answer(one, evidence.grid, t, words(language)) for one in places],
        published=home.printed(evidence.pages, evidence.grid),
        columns=home.COLUMNS,
        finds=finds,
        scripts=[*look["scripts"], "home.js"],
    )
    found = [one.verdict.verdict for one in about_options]
    totals = {
        "decided": sum(verdict in DECIDED for verdict in found),
        "partly": found.count(Verdict.PARTLY_SUPPORTED),
        "indicated": sum(KINDS[verdict] is Kind.PROXY for verdict in found),
        "coded": found.count(Verdict.UNTESTED_HERE),
    }
    yield page("guide.html", "guide", counts=_counts(about_options), totals=totals, finds=finds)
    options = list(evidence.facts.options)
    for index, option in enumerate(options):
        yield page(
            option_path(option),
            "option",
            option=option,
            statements=evidence.of_option(option),
            summaries=measurements.summaries(evidence.tables, evidence.grid, t, option),
            before=options[index - 1] if index else "",
            after=options[index + 1] if index + 1 < len(options) else "",
        )
    yield page("general.html", "general", sections=sources.by_section(general), counts=_counts(general))
    runs = measurements.runs(evidence.tables, evidence.run_ids)
    yield page("measurements.html", "measurements", summaries=summaries, runs=runs)
    if chooser:
        styles, scripts = ([*look[kind], f"recommend.{end}"] for kind, end in (("styles", "css"), ("scripts", "js")))
        yield page("recommend.html", "recommend", panel=chooser, styles=styles, scripts=scripts)
    for path, template, values in trends.pages(t) if trends else ():
        yield page(path, template, **values)
    if past:
        yield page("fleet.html", "fleet", **fleet.values(past, t))
    yield page("published.html", "published", lints=_by_rule(evidence), counts=_counts(evidence.published))
    yield page("method.html", "method", counts=_counts(evidence.judged))


def _helpers(evidence: Evidence, t: Locale) -> dict[str, Any]:
    """What the templates of one language call."""
    facts, terminal = evidence.facts, locales.texts("terminal", t.language)

    def option_name(option: str) -> str:
        return facts.options[option]

    def aspect_name(aspect: str) -> str:
        return t(f"aspect.{aspect}")

    def figure(finding: Finding) -> str:
        return wording.figure(t, finding)

    def amount(value: float, unit: str) -> str:
        return wording.amount(t, value, unit)

    return {
        "t": t,
        "pick": t.pick,
        "sentences": lambda *said: t.sentences(said),
        "name": lambda verdict: t.pick(NAMES[Verdict(verdict)]),
        "basis": lambda verdict: kind.value if (kind := KINDS[verdict]) else "open",
        "bases": [(kind.value if kind else "open", [one.value for one in group]) for kind, group in GROUPS.items()],
        "figure": figure,
        "amount": amount,
        "spans": spans,
        "parameters": wording.parameters,
        "deciding": wording.deciding,
        "ordered": wording.ordered,
        "option_name": option_name,
        "aspect_name": aspect_name,
        "option_path": option_path,
        "statement_path": statement_path,
        "trend_path": trend_path,
        "night_path": night_path,
        "versions_of": versions_of,
        "status_name": lambda status: terminal(f"status.{status}"),
        "explained": lambda code: outcomes.explanation(code, terminal),
        "NEWEST": NEWEST,
        "UNFOLDED": UNFOLDED,
        "look": marks.marks(cell.option for run in evidence.runs for cell in run.cells),
        "shapes": marks.symbols(),
        "evidence": evidence,
        "facts": facts,
        "columns": measurements.COLUMNS,
        "order": {verdict.value: place for place, verdict in enumerate(wording.ORDER)},
        "other": other_language(t.language),
        "policy": POLICY,
        "machines": measurements.machines(evidence.tables),
        "newest": measurements.newest(evidence.tables),
        "zip": zip,
        "ROWS_MOST": ROWS_MOST,
    }


def option_path(option: str) -> str:
    """An option's page in its language's folder."""
    return f"options/{option}.html"


def statement_path(claim: Claim) -> str:
    """Where a statement stands in its language's folder."""
    if claim.aspect == GENERAL:
        return f"general.html#{claim.id.partition('.')[2]}"
    return f"{option_path(claim.option)}#{claim.aspect}"


def _environment() -> jinja2.Environment:
    def finalize(value: Any) -> Any:
        # Once, for every string of every page: characters that draw nothing, or turn the text round, are made visible.
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(REPORTS / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _counts(judged: Iterable[Any]) -> dict[str, int]:
    return {verdict.value: number for verdict, number in counts(judged).items()}


def _by_rule(evidence: Evidence) -> list[tuple[str, list[Any]]]:
    groups: dict[str, list[Any]] = {}
    for lint in evidence.lints:
        groups.setdefault(lint.rule, []).append(lint)
    return list(groups.items())


def _listing(evidence: Evidence) -> str:
    content = {
        "document_sha256": evidence.document_sha256,
        "runs": evidence.run_ids,
        "verdicts": {one.claim.id: one.verdict.verdict.value for one in evidence.judged},
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _check_replaceable(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / LISTING).is_file():
        raise UsageError(f"--out {out}: holds something else than a site (no {LISTING}); name a new or an empty folder")


def _replace(out: Path, files: Mapping[str, str]) -> None:
    """Write the files beside `out` and put them in its place, so that a failure leaves the old site."""
    fresh: Path | None = None
    out = out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
        for name, text in files.items():
            path = fresh / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8", newline="\n")
        if out.exists():
            out.replace(fresh / "old")
        (fresh / "new").replace(out)
    except OSError as error:
        if fresh is not None and (fresh / "old").exists() and not out.exists():
            (fresh / "old").replace(out)
        raise UsageError(f"cannot write the site to {out}: {error.strerror}. Choose another place.") from error
    finally:
        if fresh is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(fresh)
