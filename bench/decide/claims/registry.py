"""The statements of the guide: what `matrices/claims/*.toml` says, checked.

One file per option, in which each of its seven statements is quoted, read in plain words and given the checks that
decide it, or the reason why none can; `general.toml` holds those of the introductions and the FAQ; `document.toml`
says which document they come from.  A wrong file gives a `UsageError` that names file, claim and key.

The checks' own parameters are not known here: `load_claims` takes one model per check name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from bench.decide.claims.statements import GENERAL, Check, Claim, DocumentFacts, Parameters, Scope
from bench.decide.claims.verdicts import Kind
from bench.grid import entries, matrix
from bench.grid.entries import Entry
from bench.grid.matrix import Matrix
from bench.places import MATRICES
from bench.reasons import UsageError

CLAIMS = MATRICES / "claims"
_DOCUMENT = "document.toml"


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
    absent = sorted({name for targets in facts.things.values() for name in targets} - set(grid.targets))
    if absent:
        raise UsageError(
            f"{directory / _DOCUMENT}: things: unknown {', '.join(absent)}; allowed: {', '.join(grid.targets)}"
        )
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
            problem = _substituted(claim, facts, grid)
            if problem:
                raise UsageError(f"{path}: {claim.id}: {problem}")
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


def _substituted(claim: Claim, facts: DocumentFacts, grid: Matrix) -> str:
    """Where another thing is measured than the one that the sentence names, or nothing.

    What the sentence names, by the list of document.toml, some part of it must name; and what measures that part must
    look at the targets that are that thing.  A thing that is no target cannot be measured.
    """
    for part in claim.parts:
        unknown = [name for name in part.names if name not in facts.things]
        if unknown:
            return f"parts: {part.id}: names: unknown {', '.join(unknown)}; {_DOCUMENT} has: {', '.join(facts.things)}"
    named = {name for part in claim.parts for name in part.names}
    forgotten = [name for name in facts.things if claim.parts and name in claim.quote and name not in named]
    if forgotten:
        return f"parts: the words name {', '.join(forgotten)}; a part must have it among its names"
    for part in claim.parts:
        for check in claim.checks_of(part):
            problem = _elsewhere(claim, check, grid) if check.kind is Kind.MEASURED else ""
            for name in part.names if check.kind is Kind.MEASURED else ():
                targets = facts.things[name]
                others = [target for target in check.targets if target not in targets]
                if not targets:
                    problem = f"nothing here is {name}, which part {part.id!r} names; its kind is 'proxy' at most"
                elif others or not check.targets:
                    looked = ", ".join(others) or "every target"
                    problem = f"looks at {looked}; part {part.id!r} names {name}, which is {', '.join(targets)}"
            if problem:
                return f"checks: {check.check}: {problem}"
    return ""


def _elsewhere(claim: Claim, check: Check, grid: Matrix) -> str:
    """Where a check that measures looks at what only stands in for the thing, or leaves out the claim's own option."""
    imitations = [name for name in check.targets if grid.targets[name].stands_in_for]
    if imitations:
        return f"{', '.join(imitations)} only stands in for another target; its kind is 'proxy' at most"
    looked = check.scope.options or (claim.option,)
    if claim.option not in ("", *looked):
        return f"looks at {', '.join(looked)} and not at {claim.option}"
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
        problem = _beyond(check, models[check.check])
        if problem:
            raise UsageError(f"{path}: {where}.{problem}")


_STRENGTH = (Kind.FACT, Kind.PROXY, Kind.MEASURED)


def _beyond(check: Check, model: type[Parameters]) -> str:
    """What a check claims to be and is not, or nothing: more than its like can be, or held against no threshold."""
    if _STRENGTH.index(check.kind) > _STRENGTH.index(model.strongest):
        return f"kind: is {check.kind.value!r}; {check.check} is {model.strongest.value!r} at most"
    if "threshold" not in model.model_fields:
        return ""
    if check.kind is Kind.FACT and "threshold" in check.parameters:
        return "threshold: a fact is held against none"
    if (
        check.kind is not Kind.FACT
        and check.parameters.get("threshold", model.model_fields["threshold"].default) is None
    ):
        return "threshold: required, for a check that is no fact"
    return ""
