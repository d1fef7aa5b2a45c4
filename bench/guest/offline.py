"""Runs a bundle on a machine without internet: `python3 run.py`, with options of a run if others are wanted.

Standard library only: it is there before any package is.  It lies beside the parts of the bundle, holds them against
the hashes that were written down when they were packed, unpacks them, makes an environment for the bench, finds or
makes an interpreter for each option's guests, runs the sweep and packs its results.  Nothing is fetched, and nothing is
written outside of one folder.

A family's interpreter is, first of all, the one that BENCH_ENV_<FAMILY> names.  Where all its packages were packed it
is the family's locked environment, made of those.  Where some were left out it is the first interpreter here that has
them: this one, or one of the active environment or of PATH; what was packed is put on top of it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

HERE = Path(__file__).resolve().parent
MANIFEST = "bundle.json"
"""Beside the parts: their sizes and hashes, and what there is to run."""
PROGRAM = "run.py"
"""What this file is called beside them."""
_TOLD = {"python", "platform", "locked", "families", "options", "places", "parts"}
"""What a manifest tells at least."""
_USAGE = 2
_CHUNK = 1 << 20
_SECONDS = 60
_UNPACKED = "unpacked.json"
_COMPLETE = "complete.json"
_QUESTION = """
import importlib.metadata, json, sys
names = [one.metadata["Name"] or "" for one in importlib.metadata.distributions()]
print(json.dumps({
    "python": "%d.%d" % sys.version_info[:2],
    "folders": [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))],
    "packages": sorted({name.lower().replace("_", "-").replace(".", "-") for name in names}),
}))
"""
# What would lead the installer or the interpreters elsewhere.
_FOREIGN = ("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV")


class Unusable(Exception):
    """The bundle cannot be run here: one message that says what to do."""


def variable(family: str) -> str:
    """Name of the variable that names an interpreter for a family."""
    return "BENCH_ENV_" + family.upper().replace("-", "_")


# -- the parts ---------------------------------------------------------------------------------------------------------


def manifest_in(folder: Path) -> dict[str, Any]:
    """What the manifest beside the parts says.  Raises Unusable where it is missing or damaged."""
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        lacking = sorted(_TOLD - manifest.keys())
    except FileNotFoundError:
        raise Unusable(f"{path} is missing: copy it from where the bundle was packed, with all parts") from None
    except (OSError, ValueError, AttributeError) as error:
        raise Unusable(f"{path} is damaged ({error}): copy it again") from error
    if lacking:
        raise Unusable(f"{path} is damaged (it lacks {', '.join(lacking)}): copy it again")
    return manifest


def require_whole(folder: Path, parts: Sequence[Mapping[str, Any]]) -> None:
    """Hold every part against its size and its SHA-256.  Raises Unusable naming all that are missing or damaged."""
    wrong = [(part["name"], what) for part in parts if (what := _damage(folder / part["name"], part))]
    if wrong:
        told = "; ".join(f"{name} {what}" for name, what in wrong)
        raise Unusable(f"{told}: copy {', '.join(name for name, _ in wrong)} again into {folder}")


def _damage(path: Path, part: Mapping[str, Any]) -> str:
    """What is wrong with a part, in words after its name; empty where it is whole."""
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        if size != part["bytes"]:
            return f"has {size} bytes instead of {part['bytes']}"
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                digest.update(data)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if digest.hexdigest() == part["sha256"] else "is damaged (its SHA-256 is another)"


class Joined:
    """The parts as one file to read, in their order."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Nothing is open yet; at most one part will be."""
        self._waiting = list(paths)
        self._file: BinaryIO | None = None

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        while True:
            if self._file is None:
                if not self._waiting:
                    return b""
                self._file = self._waiting.pop(0).open("rb")
            if data := self._file.read(size):
                return data
            self.close()

    def close(self) -> None:
        """Close the part that is open; a reader of an archive stops at its end mark, short of the file's end."""
        if self._file is not None:
            self._file.close()
            self._file = None


def unpack(folder: Path, manifest: Mapping[str, Any], into: Path) -> Path:
    """The content of the parts in `folder`, below `into`; unpacked once, and again where the bundle is another.

    Raises Unusable for parts that are not whole.
    """
    content, done = into / "content", into / _UNPACKED
    asked = json.dumps(manifest)
    if done.is_file() and done.read_text(encoding="utf-8") == asked:
        return content
    require_whole(folder, manifest["parts"])
    done.unlink(missing_ok=True)
    for place in (content, into / "envs"):
        shutil.rmtree(place, ignore_errors=True)
    content.mkdir(parents=True)
    parts = Joined([folder / part["name"] for part in manifest["parts"]])
    joined: Any = parts
    # Debian 12's Python is older than the filter, which changes nothing of what a bundle holds.
    safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with contextlib.closing(parts), tarfile.open(fileobj=joined, mode="r|") as archive:
        archive.extractall(content, **safe)  # noqa: S202 - held against the manifest above
    done.write_text(asked, encoding="utf-8")
    return content


# -- interpreters ------------------------------------------------------------------------------------------------------


def interpreters() -> Iterator[tuple[str, dict[str, Any]]]:
    """The interpreters of this machine with what each says of itself, each once; this one first."""
    names = ("python3", "python", *(f"python3.{minor}" for minor in range(11, 20)))
    folders = os.environ.get("PATH", "").split(os.pathsep)
    active = [str(Path(os.environ[name]) / "bin") for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if name in os.environ]
    seen = set()
    for path in [sys.executable, *(str(Path(folder) / name) for folder in active + folders for name in names)]:
        if not os.access(path, os.X_OK):
            continue
        try:
            done = subprocess.run(
                [path, "-s", "-c", _QUESTION], capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode:
            continue
        told = json.loads(done.stdout)
        known = (told["python"], *told["folders"])
        if known not in seen:
            seen.add(known)
            yield path, told


class Machine:
    """What is made here of a bundle's `content`: environments below `into`, from its wheels."""

    def __init__(self, manifest: Mapping[str, Any], content: Path, into: Path) -> None:
        """Nothing is made yet.  Raises Unusable where no interpreter here is of the bundle's Python and platform."""
        self._manifest, self._content, self._into = manifest, content, into
        self._here = list(interpreters())
        self.base = self._of_version()

    def _of_version(self) -> str:
        python, wanted = self._manifest["python"], self._manifest["platform"]
        if not wanted.endswith(platform.machine()):
            raise Unusable(f"the bundle is for {wanted}, this is {platform.machine()}: pack one with --platform for it")
        for path, told in self._here:
            if told["python"] == python:
                return path
        found = ", ".join(f"{told['python']} ({path})" for path, told in self._here)
        raise Unusable(
            f"the bundle is for Python {python}, and none is on PATH; there are: {found or 'none'}. Install "
            f"python{python}, or pack the bundle with --python for one of these"
        )

    @cached_property
    def _uv(self) -> Path:
        """uv, out of its wheel."""
        program = self._into / "envs" / "uv"
        if not program.is_file():
            (wheel,) = (self._content / "wheels").glob("uv-*.whl")
            program.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(wheel) as archive:
                (name,) = (name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
                program.write_bytes(archive.read(name))
            program.chmod(0o755)
        return program

    def variables(self) -> dict[str, str]:
        """Variables for what installs and runs here: those of the user, less what leads elsewhere, and no index."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        wheels = [str(folder) for folder in sorted(self._content.glob("wheels*"))]
        return kept | {
            "UV_NO_INDEX": "1",
            "UV_OFFLINE": "1",
            "UV_FIND_LINKS": ",".join(wheels),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_CONFIG": "1",
            "UV_CACHE_DIR": str(self._into / "envs" / "cache"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": " ".join(wheels),
            "PIP_CONFIG_FILE": os.devnull,
            "PYTHONNOUSERSITE": "1",
        }

    def made(self, name: str, wheels: str, base: str, below: Sequence[str] = ()) -> str:
        """The interpreter of an environment of what was packed for `name`, made now if it is not there.

        `base` is the interpreter that it is made with; `below` are folders whose packages it takes where it has none
        itself.  Raises Unusable with the installer's words.
        """
        folder, lock = self._into / "envs" / name, self._content / "locks" / f"{name}.txt"
        python, complete = folder / "bin" / "python", folder / _COMPLETE
        asked = json.dumps([base, *below, lock.read_text(encoding="utf-8")])
        if complete.is_file() and complete.read_text(encoding="utf-8") == asked:
            return str(python)
        shutil.rmtree(folder, ignore_errors=True)
        chosen = self.variables() | {"UV_FIND_LINKS": str(self._content / wheels)}
        self._run([str(self._uv), "venv", "--quiet", "--python", base, str(folder)], chosen)
        install = [str(self._uv), "pip", "install", "--quiet", "--python", str(python), "--compile-bytecode"]
        self._run([*install, "--no-deps", "-r", str(lock)], chosen)
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "below.pth").write_text("".join(f"{place}\n" for place in below), encoding="utf-8")
        complete.write_text(asked, encoding="utf-8")
        return str(python)

    def core(self) -> str:
        """The interpreter that the bench runs with."""
        return self.made("core", "wheels", self.base, [str(self._content / "project")])

    def guests(self) -> dict[str, str]:
        """An interpreter for each family that the bench makes none for itself, by the family's variable."""
        found = {}
        for family, facts in self._manifest["families"].items():
            name = variable(family)
            if os.environ.get(name):
                print(f"{family}: {os.environ[name]}, as {name} says")
            elif facts["wheels"] and not facts["left"]:
                print(f"{family}: the packages that were packed")
                if not self._manifest["locked"]:
                    found[name] = self.made(family, facts["wheels"], self.base)
            elif (python := self._on_top(family, facts)) is not None:
                found[name] = python
        return found

    def _on_top(self, family: str, facts: Mapping[str, Any]) -> str | None:
        """An interpreter with what was left out of a family, and with what was packed of it; None where there is none.

        What was packed was built for one Python; where nothing was, any will do.
        """
        left, wanted = set(facts["left"]), self._manifest["python"]
        for path, told in self._here:
            if left <= set(told["packages"]) and (told["python"] == wanted or not facts["wheels"]):
                if not facts["wheels"]:
                    print(f"{family}: {path}")
                    return path
                print(f"{family}: the packages that were packed, on top of {path}")
                return self.made(family, facts["wheels"], path, told["folders"])
        lacking = ", ".join(sorted(left))
        print(f"{family}: no interpreter here has {lacking}; name one with {variable(family)}. Its cells will fail.")
        return None

    def _run(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        done = subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unusable(f"{' '.join(command[:3])} ended with {done.returncode}:\n{done.stderr.strip()}")


# -- the run -----------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace, options: Sequence[str]) -> int:
    """Unpack, run, pack the results and say where they are; returns the exit code of the run.  Raises Unusable."""
    into, results = arguments.folder.resolve(), arguments.folder.resolve() / "results"
    manifest = manifest_in(HERE)
    print(f"Unpacking {len(manifest['parts'])} parts into {into}", flush=True)
    content = unpack(HERE, manifest, into)
    machine = Machine(manifest, content, into)
    print(f"Making environments with {machine.base}", flush=True)
    python, guests = machine.core(), machine.guests()
    command = [python, "-m", "bench", "run", *manifest["options"]]
    for name, place in manifest["places"].items():
        command += [f"--{name}", str(content / place)]
    command += ["--cache", str(content / "cache"), *options]
    command += ["--results", str(results), "--run-id", arguments.run_id]
    code = _attended(command, machine.variables() | guests)
    if (results / arguments.run_id).is_dir():
        packed = into / f"{arguments.run_id}.tar.gz"
        with tarfile.open(packed, "w:gz") as archive:
            archive.add(results / arguments.run_id, arguments.run_id)
        print(f"Carry back: {packed}")
    return code


def _attended(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a command to its end, which Ctrl-C brings nearer: it has that too, and stores what it has."""
    sys.stdout.flush()
    with subprocess.Popen(command, env=dict(variables)) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def main(given: Sequence[str] | None = None) -> int:
    """The exit code: the run's, 2 where it cannot begin."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="Run this bundle. Further options are those of a run of the bench."
    )
    parser.add_argument("--folder", type=Path, default=Path("bench"), help="all is written here (default: %(default)s)")
    parser.add_argument("--run-id", default=time.strftime("offline-%Y%m%dT%H%M%S"), help="name of the run")
    try:
        return run(*parser.parse_known_args(given))
    except Unusable as problem:
        print(f"bundle: {problem}", file=sys.stderr)
        return _USAGE


if __name__ == "__main__":
    sys.exit(main())
