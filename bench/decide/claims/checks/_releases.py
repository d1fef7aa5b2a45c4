"""Reading packages.parquet: final releases and the systems their wheels are for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from bench.decide.claims.tables import Tables

# Platform tags as wheels carry them (Python packaging user guide, "Platform compatibility tags"): how a tag begins
# and ends, by system.  `any` is for all of them.
SYSTEMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linux-x86_64": (("manylinux", "musllinux", "linux"), ("_x86_64",)),
    "linux-aarch64": (("manylinux", "musllinux", "linux"), ("_aarch64",)),
    "linux-armv7l": (("manylinux", "musllinux", "linux"), ("_armv7l",)),
    "macos-arm64": (("macosx",), ("_arm64", "_universal2")),
    "macos-x86_64": (("macosx",), ("_x86_64", "_universal2", "_intel")),
    "windows-x86_64": (("win",), ("_amd64",)),
    "windows-arm64": (("win",), ("_arm64",)),
    "android-arm64": (("android",), ("_arm64_v8a",)),
    "ios-arm64": (("ios",), ("_arm64_iphoneos",)),
}


@dataclass(frozen=True)
class Releases:
    """Files of a package's final releases that are not withdrawn, from the newest snapshot that has the package.

    `files` are rows of the packages table with a column `parsed` (the version); `snapshot` is when the index was asked.
    """

    package: str
    files: pd.DataFrame
    snapshot: pd.Timestamp
    run_id: str

    @property
    def newest(self) -> pd.DataFrame:
        """Files of the release with the highest version."""
        newest: pd.DataFrame = self.files[self.files.parsed == self.files.parsed.max()]
        return newest

    def name(self, version: object) -> str:
        """How evidence names a release: RUN/packages:PACKAGE==VERSION."""
        return f"{self.run_id}/packages:{self.package}=={version}"


def releases(tables: Tables, package: str) -> Releases | None:
    """Final releases of a package; None where no snapshot has any."""
    wanted = canonicalize_name(package)
    rows = tables.packages[tables.packages.package.map(lambda name: canonicalize_name(name) == wanted).astype(bool)]
    rows = rows[~rows.yanked.astype(bool)]
    rows = rows.assign(parsed=rows.version.map(_final))
    rows = rows[rows.parsed.notna()]
    if not len(rows):
        return None
    snapshot = rows.snapshot.max()
    newest = rows[rows.snapshot == snapshot]
    run_id = str(newest.run_id.iloc[0])
    return Releases(package, newest[newest.run_id == run_id], pd.Timestamp(snapshot), run_id)


def systems_of(platforms: Iterable[str]) -> set[str]:
    """Systems that wheels with these platform tags install on; a field may hold several tags joined by dots."""
    tags = {tag for field in platforms for tag in field.split(".")}
    if "any" in tags:
        return set(SYSTEMS)
    return {
        system
        for system, (starts, ends) in SYSTEMS.items()
        if any(tag.startswith(starts) and tag.endswith(ends) for tag in tags)
    }


def _final(version: str) -> Version | None:
    """The version, if it is a final release's.  npm's versions are semantic ones, which parse alike."""
    try:
        parsed = Version(version)
    except InvalidVersion:
        return None  # npm's pre-releases have forms of their own, such as 1.0.0-alpha.x
    return None if parsed.is_prerelease else parsed
