"""The statements of the guide: what `matrices/claims/*.toml` says, checked.

One file per option, in which each of its seven statements is quoted, read in plain words and given the checks that
decide it, or the reason why none can; `general.toml` holds those of the introductions and the FAQ; `document.toml`
says which document they come from.  A wrong file gives a `UsageError` that names file, claim and key.

The checks' own parameters are not known here: `load_claims` takes one model per check name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, model_validator

from bench.grid import entries, matrix
from bench.grid.entries import Entry
from bench.grid.matrix import Matrix
from bench.places import MATRICES
from bench.reasons import UsageError
from bench.words.text import Text, Words

CLAIMS = MATRICES / "claims"
GENERAL = "general"
_DOCUMENT = "document.toml"

Line = Annotated[int, Field(ge=1, description="line of the document, counted from 1")]


class Scope(Entry):
    """Which cells a check looks at; an empty list means all there are."""

    options: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    imgsz: tuple[PositiveInt, ...] = ()
    threads: tuple[PositiveInt, ...] = ()
    batch: tuple[PositiveInt, ...] = ()
    machines: tuple[str, ...] = Field(
        default=(), description="texts, one of which the name of the machine's processor must contain"
    )


class Parameters(Entry):
    """What every check is given; a check's own model derives from it and adds its threshold and further keys."""

    scope: Scope = Field(default_factory=Scope)


class Check(Entry):
    """One condition of a claim: all of a claim's conditions must hold."""

    check: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$", description="name under which bench/decide/claims/checks registers it"
    )
    because: Text = Field(description="why this check and this threshold, fixed before measuring")
    proxy: bool = Field(default=False, description="whether it stands in for what is said, so the verdict says so")
    parameters: Mapping[str, Any] = Field(
        default_factory=dict, description="threshold, scope and whatever else the check's own model takes"
    )

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        """Keys that are not ours are the check's own."""
        if not isinstance(value, dict):
            return value
        ours = {"check", "because", "proxy"}
        return {key: item for key, item in value.items() if key in ours} | {
            "parameters": {key: item for key, item in value.items() if key not in ours}
        }

    @property
    def scope(self) -> Scope:
        """The cells the check looks at."""
        return Scope.model_validate(self.parameters.get("scope", {}))


class TableCell(Entry):
    """The cell of the guide's comparison table that repeats a bullet."""

    line: Line
    quote: Words
    english: Words
    difference: Text | None = Field(default=None, description="where the cell says something else than the bullet")


class Claim(Entry):
    """One statement of the guide."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$", description="<option>.<aspect> or general.<slug>")
    option: str = Field(description="option it speaks of; empty where it speaks of several")
    aspect: str
    section: Words = Field(description="heading of the document it stands under")
    line: Line
    quote: Words = Field(description="exact text of the document, links included")
    english: Words
    reading: Text = Field(description="the smallest thing the words can honestly mean")
    supports: Text
    refutes: Text
    table: TableCell | None = None
    checks: tuple[Check, ...] = ()
    not_measurable: Text | None = Field(default=None, description="why no check can decide it")
    needs: Text | None = Field(default=None, description="machine that would decide it, where not every machine can")

    @model_validator(mode="after")
    def _decided_or_not(self) -> Claim:
        if bool(self.checks) == (self.not_measurable is not None):
            raise ValueError("needs either checks or not_measurable, and not both")
        return self

    @property
    def proxy(self) -> bool:
        """Whether any of its checks stands in for what is said."""
        return any(check.proxy for check in self.checks)


class PassedOver(Entry):
    """Sentences of the document that state nothing to check."""

    why: Text
    sections: tuple[Words, ...] = Field(default=(), description="headings of which every sentence is meant")
    begins: tuple[Words, ...] = Field(default=(), description="words with which such sentences begin, anywhere")

    @model_validator(mode="after")
    def _names_some(self) -> PassedOver:
        if not self.sections and not self.begins:
            raise ValueError("needs sections or begins")
        return self


class DocumentFacts(Entry):
    """Which document the quotes come from, and how it names options and aspects."""

    title: Words
    source: Words = Field(description="where its owners keep it: repository and path")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    lines: PositiveInt
    columns: tuple[Words, ...] = Field(description="header row of its comparison table")
    table_section: Words = Field(description="heading under which that table stands")
    options: dict[str, Words] = Field(description="option id -> its heading and row, in the document's order")
    aspects: dict[str, Words] = Field(description="aspect id -> its label and column, in the document's order")
    passed_over: tuple[PassedOver, ...] = ()

    @model_validator(mode="after")
    def _columns_are_the_aspects(self) -> DocumentFacts:
        if self.columns[1:] != tuple(self.aspects.values()):
            raise ValueError(f"columns after the first must be the aspects: {', '.join(self.aspects.values())}")
        return self


class _File(Entry):
    claim: tuple[dict[str, Any], ...] = Field(min_length=1)


def load_document_facts(directory: Path = CLAIMS) -> DocumentFacts:
    """What document.toml says.  Raises UsageError when it is absent or wrong."""
    path = directory / _DOCUMENT
    return entries.parse(DocumentFacts, entries.read(path), path)


def load_claims(
    directory: Path = CLAIMS,
    models: Mapping[str, type[Parameters]] | None = None,
    grid: Matrix | None = None,
) -> tuple[Claim, ...]:
    """All claims of a folder in the document's order: options first, then the general ones.

    `models` gives each check name the model of its parameters (None: names and parameters are not looked at, for
    uses that only read the texts); `grid` is the matrix whose names a scope may use (None: that of the folder above).
    Raises UsageError naming file, claim, key and what is allowed.
    """
    facts = load_document_facts(directory)
    grid = grid or matrix.load(directory.parent)
    claims: dict[str, Claim] = {}
    allowed = [*facts.options, GENERAL]
    for path in sorted(directory.glob("*.toml")):
        if path.name != _DOCUMENT and path.stem not in allowed:
            raise UsageError(f"{path}: the file must be named after an option of {_DOCUMENT}: {', '.join(allowed)}")
    for stem in allowed:
        path = directory / f"{stem}.toml"
        if not path.is_file():
            continue  # whether every statement is registered is the document's matter: see document.compare
        for claim in _claims_of(path, facts):
            if claim.id in claims:
                raise UsageError(f"{path}: {claim.id}: id is taken; each claim needs its own")
            _check_parameters(path, claim, models, grid)
            claims[claim.id] = claim
    if not claims:
        raise UsageError(f"{directory}: holds no claims; expected files such as {allowed[0]}.toml")
    return tuple(claims.values())


def parameters(check: Check, model: type[Parameters]) -> Parameters:
    """The check's parameters as its own model.  Raises UsageError; what `load_claims` read never does."""
    return entries.parse(model, dict(check.parameters), check.check)


def _claims_of(path: Path, facts: DocumentFacts) -> Iterator[Claim]:
    for number, value in enumerate(entries.parse(_File, entries.read(path), path).claim, 1):
        name = value.get("id")
        claim = entries.parse(Claim, value, path, prefix=name if isinstance(name, str) else f"claim {number}")
        problem = _misplaced(claim, path.stem, facts)
        if problem:
            raise UsageError(f"{path}: {claim.id}: {problem}")
        yield claim


def _misplaced(claim: Claim, stem: str, facts: DocumentFacts) -> str:
    """What contradicts the file the claim stands in, or nothing."""
    if stem == GENERAL:
        if claim.aspect != GENERAL:
            return f"aspect is {claim.aspect!r}; in {GENERAL}.toml it is {GENERAL!r}"
        if claim.option and claim.option not in facts.options:
            return f"option is {claim.option!r}; allowed: empty, {', '.join(facts.options)}"
        if not claim.id.startswith(f"{GENERAL}."):
            return f"id must begin with {GENERAL + '.'!r}"
        return ""
    if claim.option != stem:
        return f"option is {claim.option!r}; in {stem}.toml it is {stem!r}"
    if claim.aspect not in facts.aspects:
        return f"aspect is {claim.aspect!r}; allowed: {', '.join(facts.aspects)}"
    if claim.id != f"{stem}.{claim.aspect}":
        return f"id must be {stem + '.' + claim.aspect!r}"
    if claim.section != facts.options[stem]:
        return f"section is {claim.section!r}; the heading is {facts.options[stem]!r}"
    if claim.table is None:
        return f"needs a table: the cell of row {facts.options[stem]!r}, column {facts.aspects[claim.aspect]!r}"
    return ""


# Parameters of checks that name something of the matrix.
_NAMES = {"target": "targets", "baseline_target": "targets", "targets": "targets", "baseline": "options"}


def _check_parameters(path: Path, claim: Claim, models: Mapping[str, type[Parameters]] | None, grid: Matrix) -> None:
    for number, check in enumerate(claim.checks, 1):
        where = f"{claim.id}: checks.{number}"
        scope = entries.parse(Scope, check.parameters.get("scope", {}), path, prefix=f"{where}.scope")
        known = {
            "options": list(grid.options),
            "targets": list(grid.targets),
            "precisions": sorted({name for option in grid.options.values() for name in option.precisions}),
        }
        for key, names in known.items():
            unknown = [name for name in getattr(scope, key) if name not in names]
            if unknown:
                text = f"unknown {', '.join(unknown)}; allowed: {', '.join(names)}"
                raise UsageError(f"{path}: {where}.scope.{key}: {text}")
        for key, kind in _NAMES.items():
            value = check.parameters.get(key, [])
            unknown = [name for name in ([value] if isinstance(value, str) else value) if name not in known[kind]]
            if unknown:
                text = f"unknown {', '.join(unknown)}; allowed: {', '.join(known[kind])}"
                raise UsageError(f"{path}: {where}.{key}: {text}")
        if models is None:
            continue
        if check.check not in models:
            raise UsageError(f"{path}: {where}.check: no check {check.check!r}; there are: {', '.join(sorted(models))}")
        entries.parse(models[check.check], dict(check.parameters), path, prefix=where)
