"""The instruments there are, in the order in which a cell is taken through them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.measure.instruments.accuracy import Accuracy
from bench.measure.instruments.attestation import Attestation
from bench.measure.instruments.export import Export
from bench.measure.instruments.footprint import Footprint
from bench.measure.instruments.instrument import CellInstrument, Instrument, RunInstrument
from bench.measure.instruments.latency import Latency
from bench.measure.instruments.parity import Parity

INSTRUMENTS: Mapping[str, Instrument] = {
    instrument.name: instrument
    for instrument in (Export(), Footprint(), Parity(), Accuracy(), Attestation(), Latency())
}


def of_cells(wanted: Iterable[str]) -> list[CellInstrument]:
    """The instruments that measure cell by cell, of those wanted and those they need; in order."""
    needed: set[str] = set()
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += INSTRUMENTS[name].needs
    return [one for one in INSTRUMENTS.values() if one.name in needed and isinstance(one, CellInstrument)]


def of_runs() -> list[RunInstrument]:
    """The instruments that measure all cells together; in order."""
    return [one for one in INSTRUMENTS.values() if isinstance(one, RunInstrument)]
