"""The command line in a process of its own that writes down what it measures: `spying.py FILE SHARE run ...`.

A line of FILE for every measurement of a cell by an instrument (`measure NAME CELL`), for every image that a cell is
evaluated on (`image ID CELL`, with - for /) and for every turn of a time window (`turn ROUND CELL`), as it begins;
whoever is killed has written them.  SHARE of the free memory is what a time window may fill: with next to nothing, each
cell has its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.cli.app import main
from bench.measure import outfit
from bench.measure.instruments.instrument import CellInstrument, Subject
from bench.measure.instruments.registry import INSTRUMENTS
from bench.measure.unscored import Unscored
from bench.measure.window import Window


def _spy(file: Path) -> None:
    log = os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def write(*words: object) -> None:
        os.write(log, (" ".join(map(str, words)) + "\n").encode())

    def measured(instrument: CellInstrument) -> Callable[[Subject], None]:
        own = instrument.measure

        def measure(subject: Subject) -> None:
            write("measure", instrument.name, subject.cell.cell_id)
            own(subject)

        return measure

    for instrument in INSTRUMENTS.values():
        if isinstance(instrument, CellInstrument):
            setattr(instrument, "measure", measured(instrument))  # noqa: B010 - mypy forbids to assign a method
    add, turn = Unscored.add, Window._turn

    def adding(self: Unscored, found: Mapping[int, Any]) -> None:
        for image in found.keys() - self.done:
            write("image", image, self._shards._folder.name)
        add(self, found)

    def taking(self: Window, name: str, *rest: Any) -> Any:
        write("turn", self._rounds_taken, name)
        return turn(self, name, *rest)

    setattr(Unscored, "add", adding)  # noqa: B010 - as above
    setattr(Window, "_turn", taking)  # noqa: B010


if __name__ == "__main__":
    _spy(Path(sys.argv[1]))
    outfit.MEMORY_SHARE = float(sys.argv[2])
    main(sys.argv[3:])
