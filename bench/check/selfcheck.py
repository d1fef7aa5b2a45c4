"""The gate tried on itself: pairs are taken and stored, predictions are made, and what both say is judged."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench import engine
from bench.check.workers import workers
from bench.decide import drops, gate, rule, selfcheck
from bench.decide.drops import Predictions
from bench.decide.gate import Verdict
from bench.grid import machine, tolerances
from bench.grid import selfcheck as plans
from bench.grid.matrix import Cell
from bench.grid.request import Grid, Request, expand
from bench.grid.selfcheck import Plan
from bench.grid.tolerances import SCORE, TIMED, Tolerance
from bench.measure import trials
from bench.measure.outfit import Ingredients
from bench.measure.pairs import Turns
from bench.measure.prepare import ingredients
from bench.measure.quiet import machine_lock
from bench.measure.trials import Stand, Trial
from bench.progress import Reporter
from bench.reasons import Status, UsageError
from bench.store import read_table
from bench.store import selfcheck as stored
from bench.wall import checkpoint as checkpoints

USUAL = "fp32"
"""The precision whose cells are tried where none is asked for; nights are of all cells."""
_CHUNK = 10
"""Nights, of some milliseconds each."""


class SelfCheck:
    """What a request asks to be tried, and the file that keeps it."""

    def __init__(self, request: Request, *, huge: bool) -> None:
        """Nothing is measured yet.  Raises UsageError for a file in matrices that is wrong."""
        self.request = request
        self.plan: Plan = plans.load(request.matrices)
        self.allowed: Mapping[str, Tolerance] = tolerances.load(request.matrices)
        self.path = stored.path_of(request.results.parent / stored.FOLDER, machine.machine_id())
        self._huge = huge
        self._pairs: list[dict[str, Any]] = []
        self._facts: dict[str, Any] = {}
        if self.path.is_file():
            pairs, self._facts = stored.read(self.path)
            self._pairs = [{str(name): value for name, value in row.items()} for row in pairs.to_dict("records")]

    @property
    def facts(self) -> dict[str, Any]:
        """What is known so far.  Raises UsageError where nothing was ever taken on such a machine."""
        if not self._facts:
            raise UsageError(f"{self.path} is not there: run `yolo11-bench self-check` without --show first")
        return self._facts

    def take(self, minutes: float, progress: Reporter, *, beside: bool) -> list[str]:
        """Take pairs for so many minutes, and store each at once; returns what could not be tried, and why.

        `beside` tries with the other CPUs busy as well.  Raises UsageError where nothing can be tried or the stored
        pairs are of another model, KeyboardInterrupt where the user stops it.
        """
        whole = {name: value for name, value in self.request.given().items() if name != "precisions"}
        grid = expand(Request(whole))
        if len(grid.models) > 1:
            raise UsageError("the gate is tried on one model: give one --model, and others a self-check of their own")
        given = ingredients(self.request, grid, progress)
        self._require_same(given)
        log = self.path.with_suffix(".log")
        stand = Stand(self.request, grid, given, self.plan, huge=self._huge, log=log)
        cells = self._asked(stand.cells, grid)
        precisions = self.request.names("precisions") or [USUAL]
        told: list[str] = []
        kinds = [cell for cell in cells if cell.precision in precisions]
        every = [*stand.trials(kinds, told.append, beside=beside)]
        if not every:
            raise UsageError(
                "nothing of the selection can be timed on this machine's processor; see `yolo11-bench list`"
                + "".join(f"\n{line}" for line in told)
            )
        every += stand.versions([cell.option.id for cell in cells], told.append)
        self._describe(grid, given, cells)
        session, number = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), 0

        def keep(trial: Trial, pair: Turns, seconds: float) -> None:
            nonlocal number
            row = trials.row(trial, pair, seconds, session=session, number=number, huge=self._huge)
            self._pairs.append(row)
            self._write()
            number += 1
            progress.advance(math.ceil(seconds))

        progress.expect(math.ceil(60 * minutes))
        with machine_lock(progress):
            trials.run(
                every, 60 * minutes, on_pair=lambda one: progress.phase(one.name, f"pair {number + 1}"), keep=keep
            )
        return told + [f"{one.name}: {one.problem}" for one in every if one.problem is not None]

    def predict(self, draws: int, progress: Callable[[], Reporter]) -> None:
        """Plant drops into the predictions of a sweep made now, and growth into its artifacts; store what is found.

        Each step is shown by a `progress` of its own.  Raises UsageError and engine.BenchDefect as a run does,
        KeyboardInterrupt where the user stops it.
        """
        with tempfile.TemporaryDirectory() as folder:
            given = {"precisions": USUAL} | self.request.given()
            request = Request(given | {"results": folder, "run-id": "predictions"})
            swept = engine.sweep(request, progress(), "test_accuracy")
            if swept.interrupted:
                raise KeyboardInterrupt
            cells, truth = (read_table(swept.directory, name) for name in ("cells", "ground_truth"))
            measured = cells[cells.status == Status.MEASURED.value]
            best = measured.sort_values("map50_95", ascending=False).to_dict("records")[0]
            rows = read_table(swept.directory, "detections", {"cell_id": [best["cell_id"]]})
        plan, margin = self.plan.accuracy, self.allowed[SCORE].margin
        predictions = Predictions(rows.drop(columns="cell_id"), truth)
        with progress() as shown, shown.timed("", f"planting drops, {draws} draws"), workers() as spread:
            found = drops.judge(predictions, plan.drops, plan.images, draws, margin, spread)
        self._facts["accuracy"] = {
            "cell": str(best["cell_id"]),
            "map": float(best["map50_95"]),
            "images": int(best["images"]),
            "margin": margin,
            "drops": drops.as_json(found),
        }
        self._facts["size"] = self._sizes(measured)
        self._write()

    def judge(self, progress: Callable[[], Reporter]) -> None:
        """Draw nights from the pairs, and store what they say."""
        pairs, margins = pd.DataFrame(self._pairs), self._margins()
        with progress() as shown, shown.timed("", "nights of the gate"), workers(_CHUNK) as spread:
            found = selfcheck.judge(pairs, self.facts["cells"], margins, self.plan.night, spread)
        self._facts |= {"conditions": selfcheck.as_json(found), "judged": self._to_judge()}
        self._write()

    @property
    def outdated(self) -> str:
        """Why the stored findings are not those of now, in words; empty where they are."""
        judged, now = self.facts.get("judged"), self._to_judge()
        if judged == now:
            return ""
        if judged is None:
            return "the pairs that were taken are not judged yet"
        own = ("margins", "night")
        if any(judged.get(name) != now[name] for name in own):
            return f"these findings are of other {' and '.join(n for n in own if judged.get(n) != now[n])}"
        if judged.get("rule") != now["rule"]:
            return "these findings are of an older rule of the gate"
        return f"these findings are of {judged.get('pairs')} of the {now['pairs']} pairs that were taken"

    def faults(self) -> list[str]:
        """What speaks against the gate."""
        return selfcheck.faults(selfcheck.from_json(self.facts.get("conditions", [])))

    def _margins(self) -> dict[str, float]:
        return {name: self.allowed[name].margin for name in TIMED}

    def _to_judge(self) -> dict[str, Any]:
        """What a judgement depends on."""
        night = self.plan.night.model_dump()
        return {"pairs": len(self._pairs), "margins": self._margins(), "night": night, "rule": rule.fingerprint()}

    def _require_same(self, given: Ingredients) -> None:
        """Raise UsageError where the stored pairs are of another model."""
        own = checkpoints.told(given.checkpoints)["model_sha256"]
        before = self._facts.get("model_sha256", own)
        if before != own:
            raise UsageError(
                f"{self.path} holds pairs of the model {self._facts['model']} ({before[:12]}), not of this one; keep "
                "those of another model in a folder of their own, with --results"
            )

    def _asked(self, cells: Sequence[Cell], grid: Grid) -> list[Cell]:
        """Without PyTorch FP32 where other options were asked for and it only comes along."""
        named = self.request.names("options")
        return [cell for cell in cells if named is None or cell.option.id in grid.matrix.named(named)]

    def _describe(self, grid: Grid, given: Ingredients, cells: Sequence[Cell]) -> None:
        """Facts of the machine and of what is tried; the cells of a night are all that are timed."""
        self._facts |= {
            "machine": machine.fingerprint(grid.matrix.targets.values()),
            "commit": machine.commit(),
            "sweep": self.request.sweep_name,
            "imgsz": list(grid.sweep.imgsz),
            **checkpoints.told(given.checkpoints),
            "cells": list(dict.fromkeys([*self._facts.get("cells", ()), *(cell.id for cell in cells)])),
        }

    def _sizes(self, measured: pd.DataFrame) -> dict[str, Any]:
        """How many artifacts are found to have grown, once each has."""
        growth, margin = self.plan.size.growth, self.allowed["size_bytes"].margin
        sizes = measured.size_bytes.dropna()
        grown = [math.ceil(size * (1 + growth)) for size in sizes]
        found = sum(gate.of_size(new / size, margin) is Verdict.WORSE for new, size in zip(grown, sizes, strict=True))
        return {"growth": growth, "artifacts": len(sizes), "found": int(found)}

    def _write(self) -> None:
        stored.write(self.path, self._pairs, self._facts)
