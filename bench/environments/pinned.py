"""Environments with some packages at other versions, everything else as locked: a side of a comparison.

`onnxruntime==1.24.4` is the lock with that one version, and what else must change for it.  Between two locks lie those
that have some packages as in one and the others as in the other.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.utils import canonicalize_name

from bench.environments.installers import PYTHON_VERSION, find_uv, overrides, torch_backend, uv_variables
from bench.environments.locked import Env, Environments
from bench.environments.locks import LOCAL_LABEL, no_deps
from bench.reasons import UsageError

PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.!+]+)$")
ABSENT = "none"
"""The version of a package that a lock does not hold."""
_UNSATISFIABLE = 1
"""uv's exit code where no versions fit together; an index that cannot be reached, and any other failure, has 2."""

_Held = Mapping[str, tuple[str, ...]]
"""Lines of a lock by the normal name of their package; there are several where platforms differ."""


class Unresolvable(UsageError):
    """No set of versions has all that is asked for."""


def pins(text: str) -> list[str]:
    """Packages at versions, as a side of a comparison names them, with commas; empty where it means something else."""
    parts = [part.strip() for part in text.split(",")]
    return parts if all(PIN.fullmatch(part) for part in parts) else []


class PinnedEnvironments(Environments):
    """Environments in which the given packages have the given versions."""

    def __init__(self, matrices_dir: Path, cache_dir: Path, pins: Sequence[str]) -> None:
        """`pins` are name==version.  Raises UsageError for another form.  Nothing is written before `ensure`."""
        super().__init__(matrices_dir, cache_dir)
        wrong = [pin for pin in pins if not PIN.fullmatch(pin)]
        if wrong or not pins:
            raise UsageError(f"{', '.join(wrong) or 'nothing'}: give packages as name==version, commas between several")
        self._pins = tuple(pins)
        self._source = matrices_dir / "envs"

    def lock_text(self, family: str) -> str:
        """The family's lock with the pins in it.  Raises UsageError where it holds none of the packages.

        Packages beside them change only where they must; raises Unresolvable where no set of versions has the pins.
        """
        return _pinned(super().lock_text(family), family, self._pins)

    def _external(self, family: str) -> Env | None:
        """Nothing: an interpreter that the user brings has no lock to change."""
        del family
        return None


@dataclass(frozen=True, order=True)
class Update:
    """A package of a family's lock that is another version in another lock of it; `ABSENT` where one lacks it."""

    family: str
    name: str
    before: str
    after: str


def holds(text: str, name: str) -> bool:
    """Whether a lock holds a package."""
    return canonicalize_name(name) in _held(text)


def version_in(text: str, name: str) -> str:
    """The version of a package in a lock; `ABSENT` where it holds none."""
    return _version(_held(text).get(canonicalize_name(name)))


def updates(family: str, before: str, after: str) -> list[Update]:
    """What differs between two locks of a family, by name."""
    one, other = _held(before), _held(after)
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    return [Update(family, name, _version(one.get(name)), _version(other.get(name))) for name in names]


def mixed(family: str, before: str, after: str, chosen: Collection[str]) -> str:
    """The lock `before` with the packages `chosen`, by their normal names, as they are in `after`.

    A package that one of them lacks and another package needs all the same comes in at the version that the other lock
    has.  Raises Unresolvable where such versions exclude each other.
    """
    one, other = _held(before), _held(after)
    differing = {name for name in {*one, *other} if one.get(name) != other.get(name)}
    taken = differing.intersection(chosen)
    if taken in (set(), differing):
        return after if taken else before
    wanted = {name: (other if name in taken else one).get(name, ()) for name in sorted({*one, *other})}
    lines = [line for found in wanted.values() for line in found]
    header = before.partition("\n")[0] if no_deps(before) else after.partition("\n")[0] if no_deps(after) else ""
    uv = find_uv()
    if header or uv is None:
        return _lock([header, *lines])
    spare = [line for name, found in wanted.items() if not found for line in (*one.get(name, ()), *other.get(name, ()))]
    done = _compile(uv, before, lines, spare)
    _require(done, f"{family} with {', '.join(f'{name} {_version(wanted[name])}' for name in sorted(taken))}")
    return _lock(LOCAL_LABEL.sub(r"\1", done.stdout).splitlines())


@cache
def _pinned(text: str, family: str, pins: tuple[str, ...]) -> str:
    wanted = {canonicalize_name(pin.partition("==")[0]): pin for pin in pins}
    lines = text.splitlines()
    held = [line for line in lines if canonicalize_name(line.partition("==")[0]) in wanted]
    if not held:
        raise UsageError(f"the environment {family} holds none of {', '.join(wanted)}; it has: {_names(lines)}")
    uv = find_uv()
    if no_deps(text) or uv is None:
        return "\n".join(wanted.get(canonicalize_name(line.partition("==")[0]), line) for line in lines) + "\n"
    others = [line for line in lines if line not in held]
    done = _compile(uv, text, [*others, *wanted.values()])
    if done.returncode:  # what the pins ask for may have to move
        done = _compile(uv, text, [*_bare(others), *wanted.values()])
    _require(done, f"{family} with {', '.join(pins)}")
    return _lock(sorted(LOCAL_LABEL.sub(r"\1", done.stdout).splitlines()))


def _compile(
    uv: str, text: str, requirements: Sequence[str], constraints: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    command = [uv, "pip", "compile", "--quiet", "--python-version", PYTHON_VERSION, "--no-header", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-find-links", *torch_backend(text, ""), "-"]
    given = "\n".join(requirements) + "\n"
    command += overrides(given)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as spare:
        spare.write("\n".join(constraints) + "\n")
        spare.flush()
        command += ["--constraints", spare.name] if constraints else []
        return subprocess.run(command, input=given, env=uv_variables(text), capture_output=True, text=True, check=False)


def _require(done: subprocess.CompletedProcess[str], what: str) -> None:
    if done.returncode == _UNSATISFIABLE:
        raise Unresolvable(f"no set of versions for {what}.\n{done.stderr.strip()}")
    if done.returncode:
        raise UsageError(
            f"cannot find versions for {what}: check the network and the package index (`pip config list`).\n"
            f"{done.stderr.strip()}"
        )


def _held(text: str) -> _Held:
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name = canonicalize_name(line.partition("==")[0])
            found[name] = (*found.get(name, ()), line.strip())
    return found


def _version(lines: Sequence[str] | None) -> str:
    """The version in a package's lines of a lock; several where platforms differ."""
    return " or ".join(dict.fromkeys(line.partition("==")[2].split(" ")[0] for line in lines or ())) or ABSENT


def _lock(lines: Sequence[str]) -> str:
    return "\n".join(line for line in lines if line.strip()) + "\n"


def _bare(lines: Sequence[str]) -> list[str]:
    return [line.partition("==")[0] for line in lines if line.strip() and not line.startswith("#")]


def _names(lines: Sequence[str]) -> str:
    return ", ".join(_bare(lines))
