"""Checks of the systems that a runtime's newest release installs on, by the wheels it has."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveInt

from bench.decide.claims import gate
from bench.decide.claims.checks._common import Bounded, finding
from bench.decide.claims.checks._releases import SYSTEMS, Releases, releases, systems_of
from bench.decide.claims.statements import Claim, Parameters
from bench.decide.claims.synthetic import release, results
from bench.decide.claims.tables import Tables, day
from bench.decide.claims.verdicts import Estimate, Finding, Kind, Verdict
from bench.words.text import Text


class Wheels(Bounded):
    """Systems that the newest releases of `packages`, taken together, must have wheels for.

    What can be installed has not run: it indicates.
    """

    strongest: ClassVar[Kind] = Kind.PROXY

    threshold: PositiveInt | None = None
    packages: tuple[str, ...] = Field(min_length=1)
    systems: tuple[str, ...] = Field(default=tuple(SYSTEMS), min_length=1)


def wheels_for(tables: Tables, _claim: Claim, params: Wheels) -> list[Finding]:
    """The newest final releases install on at least `threshold` of the systems; a package in pure Python on all."""
    found = _known(tables, params.packages)
    if not found:
        return [_unknown(params.packages)]
    have = {system for one in found for system in systems_of(one.newest.platform)} & set(params.systems)
    names = ", ".join(system for system in params.systems if system in have) or "-"
    text = Text(
        en=f"The newest release has wheels for {len(have)} of {len(params.systems)} systems: {names}.",
        zh=f"最新版本为 {len(params.systems)} 种系统中的 {len(have)} 种提供 wheel 包：{names}。",
    )
    estimate = _counted(found, len(have))
    return [finding(tables, ", ".join(params.packages), estimate, params.threshold, "at_least", "systems", text)]


class OnlyWheels(Parameters):
    """Systems outside of which the newest releases of `packages` must have no wheel."""

    strongest: ClassVar[Kind] = Kind.PROXY

    packages: tuple[str, ...] = Field(min_length=1)
    systems: tuple[str, ...] = Field(min_length=1)


def wheels_only_for(tables: Tables, _claim: Claim, params: OnlyWheels) -> list[Finding]:
    """The newest final releases have wheels for some of the systems and for no others; the figure counts others."""
    found = _known(tables, params.packages)
    if not found:
        return [_unknown(params.packages)]
    have = {system for one in found for system in systems_of(one.newest.platform)}
    others = sorted(have - set(params.systems))
    names = ", ".join(others) or "-"
    text = Text(
        en=f"The newest release has wheels for {len(others)} other system(s): {names}.",
        zh=f"最新版本还为另外 {len(others)} 种系统提供 wheel 包：{names}。",
    )
    nothing = None if have else (Verdict.INCONCLUSIVE, None)
    estimate = _counted(found, len(others))
    return [finding(tables, ", ".join(params.packages), estimate, 0, "at_most", "systems", text, verdict=nothing)]


def _known(tables: Tables, packages: tuple[str, ...]) -> list[Releases]:
    return [found for package in packages if (found := releases(tables, package)) is not None]


def _unknown(packages: tuple[str, ...]) -> Finding:
    names = ", ".join(packages)
    words = Text(en=f"No snapshot of package indexes has {names}.", zh=f"软件包索引的快照中没有 {names}。")
    return Finding(Verdict.INCONCLUSIVE, words, names)


def _counted(found: list[Releases], count: int) -> Estimate:
    rows = tuple(one.name(one.newest.version.iloc[0]) for one in found)
    return Estimate(count, count, count, rows, max(date for one in found if (date := day(one.snapshot))))


gate.register(
    "wheels_for",
    Wheels,
    wheels_for,
    threshold=2,
    packages=["runtime"],
    systems=["linux-x86_64", "macos-arm64", "windows-x86_64"],
    supports=results(release("runtime", "2.0", 30, "manylinux_2_28_x86_64", "win_amd64")),
    refutes=results(release("runtime", "1.0", 90, "win_amd64"), release("runtime", "2.0", 30, "manylinux1_x86_64")),
    wide=results(release("another", "2.0", 30)),
)
gate.register(
    "wheels_only_for",
    OnlyWheels,
    wheels_only_for,
    packages=["runtime"],
    systems=["macos-arm64", "macos-x86_64"],
    supports=results(release("runtime", "2.0", 30, "macosx_11_0_universal2")),
    refutes=results(release("runtime", "2.0", 30, "macosx_11_0_universal2", "manylinux1_x86_64")),
    wide=results(release("runtime", "2.0", 30, "manylinux_2_28_riscv64")),
)
