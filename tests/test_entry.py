"""Ctrl-C before the command line is there: one process ends, with its exit code and without a word."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.places import ROOT

PRESSED = """
import os, signal, sys, weakref

class Pressed:
    # Finds no module; presses Ctrl-C when one is looked for.
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            {press}

sys.meta_path.insert(0, Pressed())
"""
AT_ONCE = "os.kill(os.getpid(), signal.SIGINT)"
IN_A_CALLBACK = "weakref.ref(type('Gone', (), {})(), lambda _: os.kill(os.getpid(), signal.SIGINT))"
"""Where an exception is printed and goes no further."""
ENTRIES = {
    "script": "import bench.__main__ as entry; sys.argv = ['yolo11-bench', 'list']; sys.exit(entry.main())",
    "module": "import runpy; sys.argv = ['bench', 'list']; runpy.run_module('bench', run_name='__main__')",
}
"""As pip writes a console script, and as `python -m bench` starts."""


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", ["bench.cli.app", "typer", "rich.console", "bench.cli.guide"])
@pytest.mark.parametrize("press", [AT_ONCE, IN_A_CALLBACK], ids=["at-once", "in-a-callback"])
def test_ctrl_c_while_modules_are_read_is_no_traceback(entry: str, name: str, press: str) -> None:
    code = PRESSED.format(name=name, press=press) + ENTRIES[entry]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_job_in_the_background_goes_on_ignoring_it() -> None:
    code = PRESSED.format(name="bench.cli.app", press=AT_ONCE) + "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += "import bench.__main__ as entry; sys.argv = ['yolo11-bench', '--version']; entry.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("yolo11-bench ")
