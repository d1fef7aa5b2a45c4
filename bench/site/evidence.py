"""What the site shows: claims, verdicts of both origins, the tables behind them, and how to find a row again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from bench.decide.claims import published
from bench.decide.claims.evaluate import Judged
from bench.decide.claims.judge import Judgement, judge
from bench.decide.claims.published import Page
from bench.decide.claims.statements import GENERAL
from bench.store import reading as run
from bench.store.reading import Run


@dataclass(frozen=True)
class Evidence(Judgement):
    """Everything the pages are made of: the verdicts, the published pages and the runs."""

    pages: dict[str, Page]
    runs: tuple[Run, ...]

    @cached_property
    def by_claim(self) -> dict[str, Judged]:
        """Verdicts from measurements by claim id."""
        return {one.claim.id: one for one in self.judged}

    @cached_property
    def published_by_claim(self) -> dict[str, Judged]:
        """Verdicts from published tables by claim id; claims about which these say nothing are not there."""
        return {one.claim.id: one for one in self.published}

    @property
    def about_options(self) -> tuple[Judged, ...]:
        """Verdicts on the statements in the options' lists."""
        return tuple(one for one in self.judged if one.claim.aspect != GENERAL)

    @property
    def general(self) -> tuple[Judged, ...]:
        """Verdicts on the statements of introduction and FAQ."""
        return tuple(one for one in self.judged if one.claim.aspect == GENERAL)

    def of_option(self, option: str) -> tuple[Judged, ...]:
        """Verdicts on an option's statements in the document's order; what is not registered is left out."""
        ids = (f"{option}.{aspect}" for aspect in self.facts.aspects)
        return tuple(self.by_claim[claim] for claim in ids if claim in self.by_claim)

    def commands(self, rows: Iterable[str]) -> list[str]:
        """Commands that make the named rows again, each once, in the order of the rows."""
        return list(dict.fromkeys(command for row in rows if (command := self._command(row))))

    def judge_command(self) -> str:
        """The command that judges these runs again."""
        return shlex.join(["python", "-m", "bench", "claims", *self.run_ids])

    def site_command(self) -> str:
        """The command that makes this site again."""
        return shlex.join(["python", "-m", "bench", "site", *self.run_ids])

    @cached_property
    def run_ids(self) -> list[str]:
        """Names of the runs, in order."""
        return sorted({str(row.run_id) for row in self.tables.rows} | set(self.tables.environment.run_id))

    @cached_property
    def _reproduce(self) -> dict[str, str]:
        return {f"{row.run_id}/{row.cell_id}": str(row.reproduce or "") for row in self.tables.rows}

    def _command(self, row: str) -> str:
        if row in self._reproduce:
            return self._reproduce[row]
        for run_id in self.run_ids:
            # Names of rows: RUN/probes:PROBE/OPTION/SUBJECT and RUN/packages:PACKAGE==VERSION.
            kind, found, rest = row.removeprefix(f"{run_id}/").partition(":")
            if found and row.startswith(f"{run_id}/{kind}:"):
                probe = rest.partition("/")[0] if kind == "probes" else kind
                return shlex.join(["python", "-m", "bench", "probe", run_id, "--only", probe])
        return ""


def load(directories: Sequence[Path], matrices: Path, guide: Path | None = None) -> Evidence:
    """Judge every claim by the runs in `directories`, as `claims.judge.judge` does, and read what else is shown.

    Raises bench.reasons.UsageError for wrong data and bench.reasons.StoreError for tables that cannot be read.
    """
    judgement = judge(directories, matrices, guide)
    folders = sorted({path.resolve() for path in directories})
    return Evidence(
        **{field.name: getattr(judgement, field.name) for field in fields(judgement)},
        pages=published.load_pages(matrices / "published"),
        runs=tuple(sorted((run.load(path) for path in folders), key=lambda one: one.run_id)),
    )


def by_section(judged: Iterable[Judged]) -> list[tuple[str, list[Judged]]]:
    """Statements under the document's headings, in its order."""
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        groups.setdefault(one.claim.section, []).append(one)
    return list(groups.items())
