"""In a checkout, where the project need not be installed: its pytest plugin, and what its own tests are given."""

from __future__ import annotations

import pytest

pytest_plugins = ["bench.plugin"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register what only the project's own tests take."""
    text = "the guide whose statements the claims quote; tests that need it are skipped without it"
    parser.getgroup("bench").addoption("--document", dest="bench_document", metavar="PATH", help=text)
