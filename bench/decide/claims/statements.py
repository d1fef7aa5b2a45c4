"""A statement of the guide as data: its words, its parts, our reading, and the checks that decide, indicate or tell.

What contradicts itself is refused here; what contradicts the grid or the guide is in `registry.py`, which reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, PositiveInt, model_validator

from bench.decide.claims.verdicts import Kind
from bench.grid.entries import Entry
from bench.words.text import Text, Words

GENERAL = "general"

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
    """What every check is given; a check's own model derives from it and adds its threshold and further keys.

    `strongest` is the most that such a check may be worth: counting releases measures nothing, whoever asks.
    """

    strongest: ClassVar[Kind] = Kind.MEASURED

    scope: Scope = Field(default_factory=Scope)


class Check(Entry):
    """One condition of a part of a claim, all of which must hold, or a fact that is told beside it."""

    check: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$", description="name under which bench/decide/claims/checks registers it"
    )
    kind: Kind = Field(description="measured: it decides; proxy: it indicates; fact: it is told")
    part: str = Field(default="", description="id of the part it is about; empty where there is one, and of a fact")
    necessary: bool = Field(default=False, description="of a proxy: what is said is false where this fails")
    find: Text | None = Field(default=None, description="of a fact: what the guide's page says first where it fails")
    because: Text = Field(description="why this check and this threshold, fixed before measuring")
    parameters: Mapping[str, Any] = Field(
        default_factory=dict, description="threshold, scope and whatever else the check's own model takes"
    )

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        """Keys that are not ours are the check's own."""
        if not isinstance(value, dict):
            return value
        ours = {"check", "kind", "part", "necessary", "find", "because"}
        return {key: item for key, item in value.items() if key in ours} | {
            "parameters": {key: item for key, item in value.items() if key not in ours}
        }

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Check:
        if self.kind is Kind.FACT and self.part:
            raise ValueError("part: a fact decides no part; leave it out, or give the check another kind")
        if self.kind is not Kind.PROXY and self.necessary:
            raise ValueError("necessary: is for a proxy; what is measured refutes by itself, and a fact never does")
        if self.kind is not Kind.FACT and self.find is not None:
            raise ValueError("find: is for a fact")
        return self

    @property
    def scope(self) -> Scope:
        """The cells the check looks at."""
        return Scope.model_validate(self.parameters.get("scope", {}))

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets that it looks at by name; empty: all there are."""
        own = self.parameters.get("targets", self.parameters.get("target", ()))
        return ((own,) if isinstance(own, str) else tuple(own)) or self.scope.targets


class Part(Entry):
    """What one part of a sentence says, and why nothing decides it, where nothing does."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    says: Text = Field(description="the part in words")
    names: tuple[Words, ...] = Field(default=(), description="things of document.toml that it names")
    not_measurable: Text | None = Field(default=None, description="why no check can decide it")
    untested: Text | None = Field(default=None, description="what it would take, where a check could and none does")

    @model_validator(mode="after")
    def _one_reason(self) -> Part:
        if self.not_measurable is not None and self.untested is not None:
            raise ValueError("needs not_measurable or untested, and not both")
        return self

    @property
    def why(self) -> Text | None:
        """Why nothing decides it."""
        return self.not_measurable or self.untested


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
    parts: tuple[Part, ...] = Field(default=(), description="all that the sentence says, where a check decides any")
    checks: tuple[Check, ...] = ()
    not_measurable: Text | None = Field(default=None, description="why no check can decide any of it")
    untested: Text | None = Field(default=None, description="what it would take, where a check could and none does")
    needs: Text | None = Field(default=None, description="machine that would decide it, where not every machine can")

    @model_validator(mode="after")
    def _decided_or_not(self) -> Claim:
        reasons = [reason for reason in (self.not_measurable, self.untested) if reason is not None]
        if len(reasons) + bool(self.deciding) != 1:
            raise ValueError("needs one of checks that are no facts, not_measurable and untested, and no other")
        return self

    @model_validator(mode="after")
    def _parts_are_all(self) -> Claim:
        if bool(self.parts) != bool(self.deciding):
            raise ValueError("parts: are needed where a check decides, and only there")
        ids = [part.id for part in self.parts]
        if len(set(ids)) < len(ids):
            raise ValueError(f"parts: an id stands there twice: {', '.join(ids)}")
        for check in self.deciding:
            if check.part not in (ids if len(ids) > 1 else ["", *ids]):
                raise ValueError(f"checks: {check.check}: part is {check.part!r}; there are: {', '.join(ids)}")
        for part in self.parts:
            if bool(self.checks_of(part)) == (part.why is not None):
                raise ValueError(
                    f"parts: {part.id}: needs a check that is no fact, or not_measurable, or untested, and no other"
                )
        return self

    @property
    def deciding(self) -> tuple[Check, ...]:
        """Its checks without facts."""
        return tuple(check for check in self.checks if check.kind is not Kind.FACT)

    def checks_of(self, part: Part) -> tuple[Check, ...]:
        """The checks about a part, facts left out."""
        return tuple(check for check in self.deciding if check.part in ("", part.id))


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
    things: dict[Words, tuple[str, ...]] = Field(
        default_factory=dict, description="words that name a thing -> targets that are that thing; none: it is not here"
    )
    passed_over: tuple[PassedOver, ...] = ()

    @model_validator(mode="after")
    def _columns_are_the_aspects(self) -> DocumentFacts:
        if self.columns[1:] != tuple(self.aspects.values()):
            raise ValueError(f"columns after the first must be the aspects: {', '.join(self.aspects.values())}")
        return self
