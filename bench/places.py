"""Where the project's own files are: beside the package in a checkout, inside it where a wheel was installed."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent
"""The checkout, or the folder that an installed package lies in."""
IN_CHECKOUT = (ROOT / "matrices" / "targets.toml").is_file()

_DATA = ROOT if IN_CHECKOUT else PACKAGE / "data"
MATRICES = _DATA / "matrices"
"""What people edit: options, targets, sweeps, claims, locks."""
REPORTS = _DATA / "reports"
"""Templates, texts and vendored files of the pages."""
RECORDED = ROOT / "results" / "reference"
"""Recorded runs; only a checkout has them."""

GUEST = PACKAGE / "guest"
"""All that runs behind the wall."""
EXPORTERS, RUNTIMES, GUEST_PROBES = GUEST / "exporters", GUEST / "runtimes", GUEST / "probes"
GUEST_TOOLS = GUEST / "tools"
"""Programs that time a runtime outside the worker protocol."""
SUITES = PACKAGE / "suites"
DEMO_CHECKPOINT = PACKAGE / "demo" / "yolo11n-demo.pt"


def browsers() -> Path:
    """Where playwright keeps the browsers that a user has it fetch, unless it is told otherwise."""
    import platformdirs  # for the few who ask

    return Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or platformdirs.user_cache_path("ms-playwright"))


def lacking() -> list[Path]:
    """What of the data is not here; nothing in a whole checkout or installation."""
    folders = ("options", "envs", "sweeps", "claims")
    wanted = [MATRICES / "targets.toml", *(MATRICES / name for name in folders)]
    wanted += [REPORTS / name for name in ("templates", "locale", "vendor")]
    return [path for path in [*wanted, DEMO_CHECKPOINT] if not path.exists()]
