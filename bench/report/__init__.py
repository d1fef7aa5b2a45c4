"""The report of a run: one self-contained HTML file, and a table for the terminal."""

from bench.report.page import build
from bench.report.terminal import print_run

__all__ = ["build", "print_run"]
