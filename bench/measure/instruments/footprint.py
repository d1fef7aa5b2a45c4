"""The artifact loads in its own environment: installed size, memory, import and load time, the first inference."""

from __future__ import annotations

from bench.measure.instruments.instrument import CellInstrument, Subject
from bench.tasks.task import require_outputs


class Footprint(CellInstrument):
    """Loads the artifact into a fresh guest; what needs a loaded artifact comes after it."""

    name = "footprint"
    needs = ("export",)
    of_machine = True
    fills = (
        "cpus", "env_bytes", "import_ms", "load_ms", "first_inference_ms", "rss_after_load_bytes", "peak_rss_bytes",
        "gpu_bytes",
    )  # fmt: skip

    def measure(self, subject: Subject) -> None:
        """Load, infer once, and store times and memory of the guest's process."""
        workshop, cell, guest = subject.workshop, subject.cell, subject.guest
        assert subject.running is not None, "it runs in a guest"
        deadlines = workshop.deadlines(cell)
        with workshop.progress.timed(cell.id, "load"):
            loaded = guest.load(workshop.load_spec(cell, subject.artifact), timeout=deadlines.load)
            workshop.note_emulated(cell, loaded.emulated)
            after_load = guest.stats().peak_rss_bytes
            first = guest.outputs(workshop.input([0] * cell.batch, cell.imgsz), timeout=deadlines.infer)
        require_outputs(workshop.task, first)
        subject.running.first = first
        env_bytes = subject.running.env.bytes
        workshop.store.update(cell, env_bytes=env_bytes, cpus=",".join(map(str, workshop.cpus(cell))))
        workshop.note_process(
            cell,
            import_ms=loaded.import_ms,
            load_ms=loaded.load_ms,
            first_inference_ms=guest.first_inference_ms,
            rss_after_load_bytes=after_load,
            peak_rss_bytes=guest.stats().peak_rss_bytes,
        )
