"""The artifact of a cell can be made: its size, its hash, how long it took and what calibrated it."""

from __future__ import annotations

from bench.guest.seal import NETWORK, WRITES
from bench.measure.instruments.instrument import CellInstrument, Subject


class Export(CellInstrument):
    """Records what the exporter wrote."""

    name = "export"
    in_guest = False
    fills = (
        "size_bytes", "artifact_key", "artifact_sha256", "export_seconds", "export_network", "export_writes",
        "calibration", "reproduce",
    )  # fmt: skip

    def measure(self, subject: Subject) -> None:
        """Store the facts of the artifact, which was made before this is called."""
        workshop, cell, artifact = subject.workshop, subject.cell, subject.artifact
        calibration = artifact.manifest.get("calibration") or {}
        confined = artifact.manifest.get("confined", {})  # of an artifact in the cache from before, nothing is known
        shared = f", {workshop.evaluated_too} of them evaluated too" if workshop.evaluated_too else ""
        workshop.store.update(
            cell,
            size_bytes=artifact.size_bytes,
            artifact_key=artifact.key,
            artifact_sha256=artifact.sha256,
            export_seconds=artifact.manifest["seconds"],
            export_network=confined.get(NETWORK),
            export_writes=confined.get(WRITES),
            calibration=f"{calibration['split']}, {calibration['images']} images{shared}" if calibration else "",
            reproduce=workshop.reproduce(cell),
        )
