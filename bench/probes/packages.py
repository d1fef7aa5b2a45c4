"""Releases of the runtimes' packages: which files, for which systems, uploaded when.

Python packages are asked of the index that the user's pip is set to, through pypi-simple, which speaks PyPI's Simple
API (PEP 503, 691 and 700); JavaScript packages of the registry that the user's npm is set to, through `npm view`.
One look-up per package.  What was found is kept as a snapshot with its date, which is used where there is no network.
No host is stored.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    NoSuchProjectError,
    PyPISimple,
    UnsupportedContentTypeError,
    UnsupportedRepoVersionError,
)

from bench import store
from bench.environments.installers import uv_variables
from bench.reasons import UsageError

SNAPSHOT = "packages"
_KINDS = {"wheel": "wheel", "sdist": "sdist"}
_SECONDS = 60.0
# What an index can do other than answer: no connection, an error page, another format.
_REFUSED = (requests.RequestException, UnsupportedContentTypeError, UnsupportedRepoVersionError, json.JSONDecodeError)


def store_in(run: Path, matrices: Path, wanted: Mapping[str, Iterable[str]]) -> list[str]:
    """Write the committed snapshot as packages.parquet of a run; what is missing from it, in words.

    The snapshot is not remade here: a run's verdicts should not change because an index did.  `refresh` does it.
    """
    folder = matrices / SNAPSHOT
    if not (folder / "packages.parquet").is_file():
        return [f"{folder}: no snapshot; make one with: python -m bench probe --refresh-packages"]
    frame = store.read_table(folder, "packages")
    store.write_table(run, "packages", frame.to_dict("records"))
    missing = sorted({name for names in wanted.values() for name in names} - set(frame.package))
    problems = [f"{name}: not in the snapshot of packages; refresh it" for name in missing]
    age = (datetime.now(UTC) - frame.snapshot.min().to_pydatetime()).days
    return [*problems, f"Package releases are as of {frame.snapshot.min():%Y-%m-%d}, {age} days ago."]


def refresh(matrices: Path, wanted: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Ask the indexes for each package once and replace the snapshot; files found per package.

    Raises UsageError when a package cannot be looked up; the snapshot from before then stays.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in sorted({name for names in wanted.values() for name in names}):
        rows[name] = list(npm_releases(name) if "/" in name else python_releases(name))
    store.write_table(matrices / SNAPSHOT, "packages", [row for found in rows.values() for row in found])
    return {name: len(found) for name, found in rows.items()}


def python_releases(name: str, endpoints: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of one Python package from all configured indexes (`endpoints`: these instead), each file once.

    Raises UsageError when no index has it, or one cannot be read.
    """
    snapshot = datetime.now(UTC)
    found: dict[str, DistributionPackage] = {}
    session = requests.Session()
    certificates = uv_variables().get("SSL_CERT_FILE")
    session.verify = certificates or True
    with session:
        for endpoint in endpoints if endpoints is not None else _endpoints():
            with PyPISimple(endpoint, session=session) as client:
                try:
                    page = client.get_project_page(name, timeout=_SECONDS)
                except NoSuchProjectError:
                    continue  # another index may have it
                except _REFUSED as error:
                    text = (
                        f"{name}: the package index cannot be read ({type(error).__name__}). Check the network, or the "
                        "index that pip is set to (pip config list)."
                    )
                    raise UsageError(text) from error
            for file in page.packages:
                # The same file of two indexes: the one that says when it was uploaded.
                if file.filename not in found or found[file.filename].upload_time is None:
                    found[file.filename] = file
    rows = [_row(name, file, snapshot) for file in found.values() if file.package_type in _KINDS]
    if not rows:
        text = "no index that pip is set to has files of this package; check its name."
        raise UsageError(f"{name}: {text}")
    yield from sorted(rows, key=lambda row: (row["version"], row["kind"], row["platform"], row["python"], row["abi"]))


def npm_releases(name: str) -> Iterator[dict[str, Any]]:
    """Rows of one JavaScript package, a row per release.  Raises UsageError without npm or an answer."""
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError(f"{name}: npm is not on PATH; it is needed to look up JavaScript packages.")
    done = subprocess.run([npm, "view", name, "time", "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.partition("\n")[0] or f"exit code {done.returncode}"
        text = f"npm cannot look it up ({said}); check the name, the network and npm's registry."
        raise UsageError(f"{name}: {text}")
    snapshot = datetime.now(UTC)
    times = {version: text for version, text in json.loads(done.stdout).items() if version[:1].isdigit()}
    for version, text in sorted(times.items(), key=lambda item: item[1]):
        yield {
            "package": name, "version": version, "uploaded": datetime.fromisoformat(text), "kind": "npm", "python": "",
            "abi": "", "platform": "any", "yanked": False, "snapshot": snapshot,
        }  # fmt: skip


def _endpoints() -> list[str]:
    """Simple API addresses that pip asks; local folders are left out, they hold copies and say no dates."""
    settings = uv_variables()
    given = [settings.get("UV_DEFAULT_INDEX") or PYPI_SIMPLE_ENDPOINT, *settings.get("UV_INDEX", "").split()]
    return [address for address in given if address.startswith(("http://", "https://"))]


def _row(name: str, file: DistributionPackage, snapshot: datetime) -> dict[str, Any]:
    python = abi = platform = ""
    if file.package_type == "wheel":
        python, abi, platform = _tags(file.filename)
    return {
        "package": name,
        "version": file.version or "",
        "uploaded": file.upload_time,
        "kind": _KINDS[str(file.package_type)],
        "python": python,
        "abi": abi,
        "platform": platform,
        "yanked": bool(file.is_yanked),
        "snapshot": snapshot,
    }


def _tags(filename: str) -> tuple[str, str, str]:
    """Python, ABI and platform tags of a wheel, as its name joins them; raw where the name follows no standard."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        python, abi, platform = filename.removesuffix(".whl").split("-")[-3:]
        return python, abi, platform
    parts = ({tag.interpreter for tag in tags}, {tag.abi for tag in tags}, {tag.platform for tag in tags})
    python, abi, platform = (".".join(sorted(part)) for part in parts)
    return python, abi, platform
