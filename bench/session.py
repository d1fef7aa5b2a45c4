"""One run: the cells, what they need, and each stage's outcome.

The pytest suites ask `Session.outcome(cell, stage)`; the first question about a cell starts its guest once and takes
it through all wanted stages.  Latency is the exception: the first question about any cell times all of them, in
interleaved rounds (bench/campaign.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import coco, machine, vision
from bench.artifacts import Artifact, Artifacts, ExportRequest
from bench.campaign import Campaign
from bench.characterise import Characterisation
from bench.dataset import Dataset, read_image
from bench.emulation import EmulatedEnvironments
from bench.envs import Env, Environments
from bench.jsenvs import JsEnvironments
from bench.matrix import REFERENCE_PRECISION, ROOT, Cell, Deadlines, Matrix
from bench.model import Checkpoint
from bench.progress import Reporter
from bench.reasons import CellProblem, Reason, Status
from bench.runstore import RunStore
from bench.stages import Reference, Settings, Stage
from bench.worker import Worker

EXPORTERS = ROOT / "bench" / "exporters"
_UNTIMED = CellProblem(
    Reason.INTERRUPTED,
    "The run was stopped before the latency of this cell was measured; the rest was.",
    Status.MEASURED,
)


class Session:
    """State of a run.  Not thread-safe: cells are measured one after another on purpose."""

    def __init__(
        self,
        settings: Settings,
        matrix: Matrix,
        cells: Sequence[Cell],
        checkpoint: Checkpoint,
        dataset: Dataset,
        environments: Environments,
        progress: Reporter,
    ) -> None:
        """Open the run's store with a row per cell and record the machine.

        Raises store.StoreError when the results folder cannot be written.
        """
        self.settings = settings
        self.matrix = matrix
        self.cells = list(cells)
        self.checkpoint = checkpoint
        self.dataset = dataset
        self.environments = environments
        self.progress = progress
        self.artifacts = Artifacts(settings.cache, environments)
        self.javascript = JsEnvironments(matrix.directory, settings.cache)
        emulators = {target.emulator for target in matrix.targets.values() if target.emulator}
        self._emulators = {name: EmulatedEnvironments(matrix.directory, settings.cache, name) for name in emulators}
        self.directory = settings.results / settings.run_id
        references = {cell.cell_id: matrix.reference_of(cell).cell_id for cell in cells}
        self.store = RunStore(self.directory, settings.run_id, cells, references)
        self.references: dict[str, Reference] = {}
        self.wanted: dict[str, set[Stage]] = {cell.cell_id: set() for cell in cells}
        self._outcomes: dict[str, dict[Stage, CellProblem | None]] = {}
        self._presence = {name: machine.detect(target) for name, target in matrix.targets.items()}
        self._artifacts: dict[str, Artifact] = {}
        self._emulated: dict[str, str] = {}
        self.evaluated_too = 0
        self._record_machine()
        ground_truth = coco.ground_truth_table(dataset)
        self.store.write("ground_truth", ground_truth)
        self.ground_truth = ground_truth.to_pandas()

    # -- what the suites ask ---------------------------------------------------------------------------------------

    def want(self, cell: Cell, stage: Stage) -> None:
        """Say beforehand that a stage of a cell will be asked for; its reference must then be able to answer."""
        self.wanted[cell.cell_id].add(stage)
        if stage in (Stage.PARITY, Stage.ACCURACY, Stage.LATENCY):
            self.wanted[self.matrix.reference_of(cell).cell_id].add(stage)

    def outcome(self, cell: Cell, stage: Stage) -> None:
        """Measure a stage of a cell, unless that is done already.  Raises CellProblem when there is no result."""
        self.characterise(cell)
        if stage is Stage.LATENCY and stage not in self._outcomes[cell.cell_id]:
            self._time_all()
        problem = self._outcomes[cell.cell_id][stage]
        if problem is not None:
            raise problem

    def characterise(self, cell: Cell) -> None:
        """Take a cell through all wanted stages but latency, once; problems are kept as its outcomes."""
        if cell.cell_id in self._outcomes:
            return
        outcomes: dict[Stage, CellProblem | None] = {}
        self._outcomes[cell.cell_id] = outcomes
        stages = [stage for stage in Stage if stage in self.wanted[cell.cell_id] and stage is not Stage.LATENCY]
        self.store.begin(cell)
        started = time.monotonic()
        try:
            self._require_target(cell)
            for stage in Characterisation(self, cell).run(stages):
                outcomes[stage] = None
                self.progress.advance()
            wanted, untimed = Stage.LATENCY in self.wanted[cell.cell_id], self.why_untimed(cell)
            if wanted and untimed:
                self.store.update(cell, latency_stop=untimed)
            self.store.conclude(cell, _UNTIMED if wanted and not untimed else None)
        except CellProblem as problem:
            # What comes after a failure cannot be reached; it is shown with the same cause.
            for stage in Stage:
                if stage not in outcomes:
                    outcomes[stage] = problem
                    self.progress.advance(stage in self.wanted[cell.cell_id])
            self.store.conclude(cell, problem)
        finally:
            self.store.add_seconds(cell, time.monotonic() - started)

    def problem(self, cell: Cell) -> CellProblem | None:
        """The first problem of a cell that was characterised, or None."""
        return next((problem for problem in self._outcomes[cell.cell_id].values() if problem is not None), None)

    # -- what characterisation and the latency campaign need -------------------------------------------------------

    def note_emulated(self, cell: Cell, emulated: str) -> None:
        """Keep what a runtime says stands in for the cell's device; empty where the device itself is at work."""
        self._emulated[cell.cell_id] = emulated

    def why_untimed(self, cell: Cell) -> str:
        """Why no latency is taken of a cell that runs, or nothing.  Known once its artifact was loaded."""
        target, emulated = self.matrix.targets[cell.target], self._emulated.get(cell.cell_id, "")
        if not target.timed:
            return f"{target.name}: results are checked here, no latency is taken."
        if emulated:
            return f"{emulated} stands in for the device: results are checked here, no latency is taken."
        return ""

    def images(self, cell: Cell) -> Dataset:
        """The images a cell is evaluated on: all, or a few where it is not timed and its target sets a limit."""
        limit = self.matrix.targets[cell.target].images
        return self.dataset.subset(limit) if limit is not None and self.why_untimed(cell) else self.dataset

    def deadlines(self, cell: Cell) -> Deadlines:
        """The sweep's deadlines with the patience that the cell's target asks for."""
        deadlines, patience = self.settings.sweep.deadlines, self.matrix.targets[cell.target].patience
        changed = {"load": deadlines.load * patience, "infer": deadlines.infer * patience}
        return deadlines.model_copy(update=changed)

    def _require_target(self, cell: Cell) -> None:
        """Raise CellProblem when this machine or the option cannot run the cell.

        It is skipped, or exported only where the option's artifact can be made without its target.
        """
        presence = self._presence[cell.target]
        if not presence.found:
            if not cell.option.export.without_target:
                raise CellProblem(Reason.TARGET_ABSENT, presence.text, Status.SKIPPED)
            for _ in Characterisation(self, cell).run([Stage.EXPORT]):
                pass
            text = f"Exported, its size is measured; it was not run. {presence.text}"
            raise CellProblem(Reason.TARGET_ABSENT, text, Status.EXPORTED)
        limit = cell.option.batch_max
        if limit is not None and cell.batch > limit:
            text = f"{cell.option.name} takes at most {limit} image{'s' * (limit > 1)} per inference."
            raise CellProblem(Reason.BATCH_UNSUPPORTED, text, Status.SKIPPED)
        available = len(machine.available_cpus())
        if cell.threads > available:
            text = f"{cell.threads} threads need as many CPUs; this process may use {available}."
            raise CellProblem(Reason.TARGET_UNSUPPORTED, text, Status.SKIPPED)

    def artifact(self, cell: Cell) -> Artifact:
        """The exported artifact of a cell, from the cache or made now.  Raises CellProblem."""
        if cell.cell_id in self._artifacts:
            return self._artifacts[cell.cell_id]
        export = cell.option.export
        precision = cell.spec.artifact or cell.precision
        calibrate = cell.option.precisions[precision].calibrate
        images = self.dataset.calibration_images(self.settings.sweep.calibration_images) if calibrate else ()
        self._note_evaluated_too(images)
        request = ExportRequest(
            weights=self.checkpoint.path,
            option=export.exporter,  # not the option's id: options that run the same artifact share it
            precision=precision,
            imgsz=cell.imgsz,
            batch=cell.batch,
            exporter=EXPORTERS / f"{export.exporter}.py",
            environment=export.environment,
            calibration=tuple(images),
        )
        deadline = self.settings.sweep.deadlines.export
        with self.progress.timed(cell.id, "export"):
            for exporter, family in export.chain:
                stage = replace(
                    request,
                    option=exporter,
                    precision=REFERENCE_PRECISION,
                    exporter=EXPORTERS / f"{exporter}.py",
                    environment=family,
                    calibration=(),
                )
                request = replace(request, source=self.artifacts.ensure(stage, timeout=deadline))
            artifact = self.artifacts.ensure(request, timeout=deadline)
        for warning in artifact.warnings:
            self.progress.message(warning)
        self._artifacts[cell.cell_id] = artifact
        return artifact

    def environment(self, family: str, target: str = "") -> Env:
        """A family's environment, built now if it is not there yet, and recorded with the run.  Raises CellProblem.

        Where the target is an emulated machine, it is that machine's.
        """
        emulator = self.matrix.targets[target].emulator if target else ""
        environments = self._emulators[emulator] if emulator else self.environments
        name = f"{family}-{emulator}" if emulator else family
        with self.progress.timed("", f"environment {name}", "environment"):
            env = environments.ensure(family)
        self.store.add_environment(f"env:{name}", env.facts())
        if emulator:
            self.store.add_environment(f"emulator:{emulator}", self._emulators[emulator].system.facts)
        return env

    def guest(self, cell: Cell, env: Env, name: str) -> Worker:
        """A worker for a cell, not started yet; its stderr goes to the run's logs."""
        return Worker(
            env.python,
            ROOT / "bench" / "runtimes" / f"{cell.runtime}.py",
            variables=self.environments.variables(),
            threads=cell.threads,
            cpus=self.cpus(cell),
            log_path=self.directory / "logs" / f"{cell.cell_id.replace('/', '-')}-{name}.log",
        )

    def cpus(self, cell: Cell) -> list[int]:
        """CPUs a cell's guest is pinned to: the last ones, since the first also serves interrupts."""
        return machine.available_cpus()[-cell.threads :]

    def load_spec(self, cell: Cell, artifact: Artifact) -> dict[str, Any]:
        """What a runtime adapter's `load` is given.  Raises CellProblem where its JavaScript cannot be had."""
        family = cell.option.javascript
        if family is not None:
            packages = self.javascript.ensure(family)
            facts = {"lock_sha256": packages.lock_sha256, "bytes": packages.bytes, "packages": packages.packages()}
            self.store.add_environment(f"js:{family}", facts)
        spec = load_spec(cell, artifact, packages.directory if family is not None else None)
        return spec | {"target": self.matrix.targets[cell.target].emulates or cell.target}

    def input(self, indices: Sequence[int], imgsz: int) -> npt.NDArray[np.float32]:
        """Network input of shape (len(indices), 3, imgsz, imgsz), RGB 0..1, of images by position in the dataset."""
        images = (vision.letterbox(read_image(self.dataset.images[index].path), imgsz)[0] for index in indices)
        return np.concatenate(list(images))

    def reference(self, cell: Cell) -> Reference:
        """Outputs and records of the cell's PyTorch FP32 reference, measured now if they are not there yet.

        Raises CellProblem(REFERENCE_FAILED) when the reference has none.
        """
        reference = self.matrix.reference_of(cell)
        self.characterise(reference)
        problem = self.problem(reference)
        if problem is not None:
            raise CellProblem(Reason.REFERENCE_FAILED, f"The reference {reference.id} has no result: {problem}")
        return self.references[reference.cell_id]

    def expected(self, cell: Cell) -> dict[str, Any]:
        """What a cell's runtime must attest, in the keys of an attestation."""
        target = self.matrix.targets[cell.target]
        # An emulated processor is not the one whose features these are; it has what the target asks for.
        lacks = not target.emulator and target.lacks(cell.compute, machine.cpu_flags())
        expected = {
            "device": target.device,
            "compute": cell.spec.compute if lacks else cell.compute,
            "threads": cell.threads,
            "input_shape": [cell.batch, 3, cell.imgsz, cell.imgsz],
        }
        if not target.threaded:
            del expected["threads"]
        return expected

    def reproduce(self, cell: Cell) -> str:
        """The command that measures a cell again."""
        parts = [
            f"nox -s bench -- --sweep {self.settings.sweep_name}",
            self.settings.reproduce,
            f"--options {cell.option.id} --precisions {cell.precision} --targets {cell.target}",
            f"--imgsz {cell.imgsz} --batch {cell.batch} --threads {cell.threads}",
        ]
        return " ".join(part for part in parts if part)

    # -- end -------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Write what only makes sense at the end: rows of cells nobody asked about, and how long it took."""
        for cell in self.cells:
            if not self.wanted[cell.cell_id]:
                text = "Left out by the selection on the command line."
                self.store.conclude(cell, CellProblem(Reason.NOT_SELECTED, text, Status.SKIPPED))
        self.store.arrange_detections()
        self.store.add_environment("time", {step: round(value, 1) for step, value in self.progress.spent.items()})

    # -- private ---------------------------------------------------------------------------------------------------

    def _note_evaluated_too(self, images: Sequence[Path]) -> None:
        """Say, once, that images which calibrate are evaluated too: accuracy after calibration is then flattered."""
        shared = self.dataset.evaluated_too(images)
        if shared and not self.evaluated_too:
            self.evaluated_too = shared
            self.store.add_environment("run", {"evaluated_too": shared})
            self.progress.message(
                f"{shared} of the {len(images)} images that calibrate INT8 are evaluated too, because train and val of "
                f"{self.dataset.name} share them: what INT8 loses may look smaller than it is."
            )

    def _time_all(self) -> None:
        cells = [cell for cell in self.cells if Stage.LATENCY in self.wanted[cell.cell_id]]
        for cell in cells:
            self.characterise(cell)
        ready = [cell for cell in cells if self.problem(cell) is None and not self.why_untimed(cell)]
        for cell in cells:
            if cell not in ready:
                self._outcomes[cell.cell_id].setdefault(Stage.LATENCY, None)
        problems = Campaign(self, ready).run()
        for cell in ready:
            problem = problems.get(cell.cell_id)
            self._outcomes[cell.cell_id][Stage.LATENCY] = problem
            self.store.conclude(cell, problem)
            self.progress.advance()

    def _record_machine(self) -> None:
        settings = self.settings
        self.store.add_environment(
            "run",
            {
                "sweep": settings.sweep_name,
                "sweep_settings": settings.sweep.model_dump_json(),
                "model": self.checkpoint.name,
                "model_sha256": self.checkpoint.sha256,
                "model_classes": list(self.dataset.names.values()),
                "data": self.dataset.name,
                "data_sha256": self.dataset.sha256,
                "images": len(self.dataset.images),
                "commit": machine.git_commit(ROOT),
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "outside_guide": sorted({cell.option.id for cell in self.cells if not cell.option.in_guide}),
            },
        )
        self.store.add_environment("machine", machine.fingerprint())
        self.store.add_environment("core", machine.core_versions())
        found = {name: presence.text for name, presence in self._presence.items()}
        self.store.add_environment("targets", found)


def load_spec(cell: Cell, artifact: Artifact, javascript: Path | None) -> dict[str, Any]:
    """What a runtime adapter's `load` is given; `javascript` is the folder of the packages that its page serves."""
    return {
        "javascript_dir": str(javascript or ""),
        "artifact_dir": str(artifact.directory),
        "manifest": artifact.manifest,
        "target": cell.target,
        "threads": cell.threads,
        "precision": cell.precision,
        "imgsz": cell.imgsz,
        "batch": cell.batch,
        "options": dict(cell.spec.runtime_options),
    }
