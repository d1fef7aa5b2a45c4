"""From folders of runs to stored verdicts: the claims, the document, the runs and the published tables together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import matrix
from bench.claims import document, evaluate, gate, published, registry, tables
from bench.claims.evaluate import Judged
from bench.claims.lints import Lint, lint


def judge(directories: Sequence[Path], matrices: Path, guide: Path | None = None) -> list[Judged]:
    """Judge every claim by the runs in `directories`, store claims.parquet in the last one, and return the verdicts.

    `guide` is the document itself: what it no longer says is stale, and its hash is stored instead of the one of the
    document that the claims were taken from.  Raises UsageError for wrong data, store.StoreError for tables that
    cannot be read or written.
    """
    grid = matrix.load(matrices)
    facts = registry.load_document_facts(matrices / "claims")
    claims = registry.load_claims(matrices / "claims", gate.models(), grid)
    sha256, stale = facts.sha256, set[str]()
    if guide is not None:
        read = document.read(guide, facts)
        sha256, stale = read.sha256, document.stale(read, claims)
    judged = evaluate.evaluate(claims, tables.load(directories, grid), stale)
    judged += evaluate.evaluate_published(claims, published.load(grid))
    evaluate.write(directories[-1], judged, sha256)
    return judged


def lints(matrices: Path) -> list[Lint]:
    """What the lints find in the published tables of a matrices folder.  Raises UsageError for wrong data."""
    return lint(published.load(matrix.load(matrices)).grid)
