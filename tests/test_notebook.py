"""docs/quickstart.ipynb: executed in a kernel of its own as a newcomer would, and committed with what that gave."""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from bench.grid.request import CACHE_VARIABLE, Request
from bench.places import ROOT

QUICKSTART = ROOT / "docs" / "quickstart.ipynb"
BAR = """
import sys, time, warnings
warnings.simplefilter("error")
from rich.console import Console
from bench.progress import Reporter
with Reporter(Console()) as progress:
    progress.expect(2)
    for cell in ("a", "b"):
        with progress.timed(f"m/{cell}", "latency [1/3]"):
            time.sleep(1.2)
        progress.advance()
    progress.message("a line [that] stays")
print("ipywidgets" in sys.modules)
"""


def notebook(raw: str) -> Any:
    """A notebook from its JSON."""
    return nbformat.reads(raw, as_version=4)  # type: ignore[no-untyped-call]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel that is started now finds: this checkout, the user's cache, and no word from debuggers."""
    monkeypatch.setenv(CACHE_VARIABLE, str(Request({}).cache))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")


def outputs(book: Any) -> list[Any]:
    return [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]


def text(output: Any) -> str:
    return str(output.get("text") or output.get("data", {}).get("text/plain", ""))


class Listening(NotebookClient):
    """Also counts how often an output was drawn anew in place."""

    drawn = 0

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        self.drawn += msg["msg_type"] == "update_display_data"
        return super().process_message(msg, cell, cell_index)


@pytest.mark.usefixtures("kernel")
def test_a_notebook_shows_a_bar_that_moves_in_place_and_a_line_stays(tmp_path: Path) -> None:
    cell: dict[str, Any] = {
        "cell_type": "code",
        "id": "bar",
        "source": BAR,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    book = notebook(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    client = Listening(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    bar, line, printed = outputs(client.execute())
    assert client.drawn >= 4
    assert bar.output_type == "display_data"
    assert re.fullmatch(r"2 of 2 steps in \d s\n?", text(bar)), text(bar)
    assert "2 of 2 steps" in bar.data["text/html"]
    assert "a line [that] stays" in text(line)
    assert printed.text == "False\n"  # and no warning, which would have been an error


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")
@pytest.mark.usefixtures("kernel")
def test_the_quickstart_runs_and_every_cell_says_something(tmp_path: Path) -> None:
    book = notebook(QUICKSTART.read_text(encoding="utf-8"))
    client = NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    cells = [cell for cell in client.execute().cells if cell.cell_type == "code"]
    assert len(cells) == 10
    for cell in cells:
        assert cell.outputs, cell.source
        for output in cell.outputs:
            assert output.get("name") != "stderr", output
    assert "image/png" in json.dumps(cells[5].outputs)
    assert "report.html" in text(cells[8].outputs[0])
    assert "2 measured" in text(cells[9].outputs[0])
    (run,) = (tmp_path / "results" / "runs").iterdir()
    assert (run / "report.html").is_file()


def test_what_is_committed_was_executed_in_order_and_names_no_machine() -> None:
    book = notebook(QUICKSTART.read_text(encoding="utf-8"))
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells)
    for output in outputs(book):
        told = [output.get("text", ""), *(part for kind, part in output.get("data", {}).items() if "image" not in kind)]
        for part in told:
            assert not re.search(r"(?<![\w<./])/[\w.-]+/[\w.-]+|[A-Z]:\\", part), part
            assert platform.node() not in part
            assert not re.search("Traceback|Warning", part), part
