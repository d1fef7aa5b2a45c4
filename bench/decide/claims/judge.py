"""From folders of runs to verdicts: the claims, the document, the runs and the published tables together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.decide.claims import document, evaluate, gate, published, registry, tables
from bench.decide.claims.evaluate import Judged
from bench.decide.claims.lints import Lint, credible, lint
from bench.decide.claims.statements import DocumentFacts
from bench.decide.claims.tables import Tables
from bench.grid import matrix
from bench.grid.matrix import Matrix


@dataclass(frozen=True)
class Judgement:
    """Every verdict and what it was reached from.

    `judged` are verdicts from measurements, `published` those from tables that others have printed; `compared` is True
    when the document itself was at hand, and `document_sha256` is then its hash.
    """

    grid: Matrix
    facts: DocumentFacts
    document_sha256: str
    compared: bool
    tables: Tables
    judged: tuple[Judged, ...]
    published: tuple[Judged, ...]
    lints: tuple[Lint, ...]


def judge(directories: Sequence[Path], matrices: Path, guide: Path | None = None) -> Judgement:
    """Judge every claim by the runs in `directories` and by the published tables; nothing is written.

    `guide` is the document itself: what it no longer says is stale.  Raises UsageError for wrong data and
    store.StoreError for tables that cannot be read.
    """
    grid = matrix.load(matrices)
    facts = registry.load_document_facts(matrices / "claims")
    claims = registry.load_claims(matrices / "claims", gate.models(), grid)
    sha256, stale = facts.sha256, set[str]()
    if guide is not None:
        read = document.read(guide, facts)
        sha256, stale = read.sha256, document.stale(read, claims)
    measured, printed = tables.load(directories, grid), published.load(grid)
    doubts = lint(printed.grid)
    relied_on = replace(printed, grid=credible(printed.grid, doubts))
    return Judgement(
        grid=grid,
        facts=facts,
        document_sha256=sha256,
        compared=guide is not None,
        tables=measured,
        judged=tuple(evaluate.evaluate(claims, measured, stale)),
        published=tuple(evaluate.evaluate_published(claims, relied_on)),
        lints=tuple(doubts),
    )


def store(judgement: Judgement, directory: Path) -> None:
    """Write claims.parquet into a run's folder.  Raises store.StoreError when the disk refuses."""
    evaluate.write(directory, [*judgement.judged, *judgement.published], judgement.document_sha256)
