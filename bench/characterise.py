"""Everything measured about one cell in one guest process, apart from its latency."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench import coco, vision
from bench.artifacts import Artifact
from bench.dataset import read_image
from bench.matrix import Cell
from bench.reasons import CellProblem, Reason, Status
from bench.resampling import bootstrap_delta
from bench.stages import Reference, Stage
from bench.worker import Worker

if TYPE_CHECKING:
    from bench.session import Session

Outputs = npt.NDArray[np.float32]


class Characterisation:
    """Takes one cell through its stages in a single guest process."""

    def __init__(self, session: Session, cell: Cell) -> None:
        """Nothing is started before `run`."""
        self._session = session
        self._cell = cell

    def run(self, stages: Sequence[Stage]) -> Iterator[Stage]:
        """Do the given stages in order, yielding each once its columns are stored.

        Raises CellProblem at the first that has no result.
        """
        session, cell = self._session, self._cell
        artifact = self._export()
        if Stage.EXPORT in stages:
            yield Stage.EXPORT
        inside = [stage for stage in stages if stage is not Stage.EXPORT]
        if not inside:
            return
        env = session.environment(cell.environment, cell.target)
        packages = env.freeze()
        steps = {Stage.PARITY: self._parity, Stage.ACCURACY: self._accuracy, Stage.ATTESTATION: self._attest}
        with session.guest(cell, env, "measure") as guest:
            self._load(guest, artifact, env.bytes)
            for stage in inside:
                if stage in steps:
                    with session.progress.timed(cell.id, stage.value):
                        steps[stage](guest)
                if stage is not Stage.FOOTPRINT:
                    self._note_process(peak_rss_bytes=guest.stats().peak_rss_bytes)
                env.require_unchanged(packages)
                yield stage

    def _export(self) -> Artifact:
        session, cell = self._session, self._cell
        artifact = session.artifact(cell)
        calibration = artifact.manifest.get("calibration") or {}
        shared = f", {session.evaluated_too} of them evaluated too" if session.evaluated_too else ""
        session.store.update(
            cell,
            size_bytes=artifact.size_bytes,
            artifact_key=artifact.key,
            artifact_sha256=artifact.sha256,
            export_seconds=artifact.manifest["seconds"],
            calibration=f"{calibration['split']}, {calibration['images']} images{shared}" if calibration else "",
            reproduce=session.reproduce(cell),
        )
        return artifact

    def _load(self, guest: Worker, artifact: Artifact, env_bytes: int | None) -> None:
        session, cell = self._session, self._cell
        with session.progress.timed(cell.id, "load"):
            loaded = guest.load(session.load_spec(cell, artifact), timeout=session.deadlines(cell).load)
            session.note_emulated(cell, loaded.emulated)
            after_load = guest.stats().peak_rss_bytes
            self._infer(guest, session.input([0] * cell.batch, cell.imgsz))
        session.store.update(cell, env_bytes=env_bytes, cpus=",".join(map(str, session.cpus(cell))))
        self._note_process(
            import_ms=loaded.import_ms,
            load_ms=loaded.load_ms,
            first_inference_ms=guest.first_inference_ms,
            rss_after_load_bytes=after_load,
            peak_rss_bytes=guest.stats().peak_rss_bytes,
        )

    def _note_process(self, **values: float | None) -> None:
        """Store times and memory of the guest's process, unless they are those of an emulator."""
        if not self._session.matrix.targets[self._cell.target].emulator:
            self._session.store.update(self._cell, **values)

    def _infer(self, guest: Worker, inputs: Outputs) -> Outputs:
        return guest.infer(inputs, timeout=self._session.deadlines(self._cell).infer)

    def _parity(self, guest: Worker) -> None:
        """Compare raw outputs with PyTorch FP32's on the same inputs; boxes in pixels, scores 0..1."""
        session, cell = self._session, self._cell
        count = min(session.settings.sweep.parity.images, len(session.dataset.images))
        chosen = np.linspace(0, len(session.dataset.images) - 1, count).astype(int)
        outputs = [self._infer(guest, session.input([index] * cell.batch, cell.imgsz)) for index in chosen]
        reference = self._reference()
        if cell.is_reference:
            reference.outputs = outputs
        difference = [np.abs(mine - theirs) for mine, theirs in zip(outputs, reference.outputs, strict=True)]
        boxes = np.concatenate([entry[:, :4].ravel() for entry in difference])
        scores = np.concatenate([entry[:, 4:].ravel() for entry in difference])
        session.store.update(
            cell,
            parity_images=count,
            parity_box_max=float(boxes.max()),
            parity_box_mean=float(boxes.mean()),
            parity_box_p999=float(np.quantile(boxes, 0.999)),
            parity_score_max=float(scores.max()),
            parity_score_mean=float(scores.mean()),
            parity_score_p999=float(np.quantile(scores, 0.999)),
        )

    def _accuracy(self, guest: Worker) -> None:
        """COCO mAP over the validation set, and its difference from PyTorch FP32 on the same images.

        The images are all there are, but a few where the target is slow and only its results are checked.
        """
        session, cell = self._session, self._cell
        data = session.images(cell)
        ids = [image.id for image in data.images]
        detections = dict(self._detect(guest))
        accuracy = coco.evaluate(data, detections)
        if accuracy.map50_95 is None:
            text = f"None of the {len(detections)} evaluated images has an object, so there is no mAP."
            raise CellProblem(Reason.NO_OBJECTS, text)
        table = coco.detection_table(cell.cell_id, detections, accuracy)
        session.store.add_detections(table)
        frame = table.to_pandas()
        reference = self._reference()
        if cell.is_reference:
            reference.detections = frame
        theirs, truth = (table[table.image_id.isin(ids)] for table in (reference.detections, session.ground_truth))
        delta = bootstrap_delta(frame, theirs, truth)
        session.store.update(
            cell,
            map50_95=accuracy.map50_95,
            map50=accuracy.map50,
            map75=accuracy.map75,
            map_small=accuracy.small,
            map_medium=accuracy.medium,
            map_large=accuracy.large,
            map_per_class=list(accuracy.per_class.items()),
            map_delta=delta.value,
            map_delta_low=delta.low,
            map_delta_high=delta.high,
            images=len(data.images),
            evaluator=accuracy.evaluator,
        )
        expected = accuracy.map50_95 - delta.value
        if accuracy.map50_95 < session.settings.sweep.accuracy.keep * expected:
            raise CellProblem(
                Reason.ACCURACY_COLLAPSED,
                f"mAP50-95 is {accuracy.map50_95:.3f}; PyTorch FP32 has {expected:.3f} on the same images, "
                f"and the sweep asks for at least {session.settings.sweep.accuracy.keep:.0%} of it.",
            )

    def _detect(self, guest: Worker) -> Iterator[tuple[int, vision.Detections]]:
        """Detections of every image, by image id; the next batch is read while the guest computes."""
        session, cell = self._session, self._cell
        images = session.images(cell).images
        batches = [range(start, min(start + cell.batch, len(images))) for start in range(0, len(images), cell.batch)]

        def read(batch: range) -> tuple[Outputs, list[vision.Letterbox]]:
            # The last batch is filled up with its own last image: a static batch takes no smaller one.
            filled = [*batch, *[batch[-1]] * (cell.batch - len(batch))]
            pairs = [vision.letterbox(read_image(images[index].path), cell.imgsz) for index in filled]
            return np.concatenate([pixels for pixels, _ in pairs]), [box for _, box in pairs]

        with ThreadPoolExecutor(1) as reader:
            upcoming = reader.submit(read, batches[0])
            for number, batch in enumerate(batches):
                inputs, boxes = upcoming.result()
                if number + 1 < len(batches):
                    upcoming = reader.submit(read, batches[number + 1])
                session.progress.phase(cell.id, f"accuracy {batch[-1] + 1}/{len(images)}")
                outputs = self._infer(guest, inputs)
                for position, index in enumerate(batch):
                    yield images[index].id, vision.decode(outputs[position], boxes[position])

    def _attest(self, guest: Worker) -> None:
        """Ask the runtime what it ran and compare that with what was asked."""
        session, cell = self._session, self._cell
        timeout = 5 * session.deadlines(cell).infer  # a runtime may need some inferences to say it
        attested = guest.stats(attest=True, timeout=timeout).attested
        check_attestation(session, cell, attested)

    def _reference(self) -> Reference:
        session, cell = self._session, self._cell
        if cell.is_reference:
            return session.references.setdefault(cell.cell_id, Reference())
        return session.reference(cell)


def check_attestation(session: Session, cell: Cell, attested: dict[str, Any]) -> None:
    """Store what a runtime says it ran.  Raises CellProblem (invalid) when that is not what was asked."""
    expected = session.expected(cell)
    session.store.update(
        cell,
        attested=json.dumps(attested, sort_keys=True),
        expected=json.dumps(expected, sort_keys=True),
        compute=str(attested.get("compute", "")),
    )
    wrong = [key for key, value in expected.items() if attested.get(key) != value]
    if wrong:
        pairs = "; ".join(f"{key}: asked {expected[key]}, ran {attested.get(key)}" for key in wrong)
        raise CellProblem(
            Reason.ATTESTATION_MISMATCH, f"{cell.option.name} ran something else: {pairs}.", Status.INVALID
        )
