"""One locked virtual environment per option family, built on first use and kept in the cache.

`matrices/envs/<family>.in` says what a family asks for, `<family>.txt` beside it is the lock: every package with its
exact version, no hashes (builds of torch differ by index), no host and no path.  An environment is addressed by its
lock, so an edited lock makes a new one and two checkouts share one.  uv builds it in seconds from hard links; where
uv is missing, pip does.  installers.py says where packages come from.  An interpreter of the user's can take a family's
place (brought.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.environments import brought
from bench.environments.installers import PYTHON_VERSION, TORCH_PIN, OnOutput, install_venv, torch_build, version
from bench.environments.locks import EXACT, no_deps
from bench.files import locked, replacing
from bench.grid import outside
from bench.places import browsers
from bench.reasons import CellProblem, Reason, Status, UsageError

_MARKER = "complete.json"
# Kept from the user's environment; everything else could change what a guest computes or imports.
_PASSED_ON = ("TMPDIR", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
_REFUSAL = "#!/bin/sh\necho 'Environments of the bench are locked: nothing installs itself here.' >&2\nexit 1\n"


@dataclass(frozen=True)
class Env:
    """A built environment, or an interpreter that the user brought instead.

    `bytes` is the apparent size of all files in site-packages, each inode once, without byte code caches and without
    pip, which no deployed program needs.  An interpreter of the user's has no lock and no size: what else it holds is
    not the option's.
    """

    family: str
    python: Path
    site_packages: Path
    lock_sha256: str
    bytes: int | None
    external: brought.Interpreter | None = None

    def facts(self) -> dict[str, Any]:
        """What is recorded with a run."""
        packages = list(self.packages())
        if self.external is not None:
            return {"external": True, "python": self.external.version, "packages": packages}
        return {"lock_sha256": self.lock_sha256, "bytes": self.bytes, "packages": packages}

    def packages(self) -> tuple[str, ...]:
        """Installed distributions as sorted `name==version`, read from the names of the *.dist-info directories."""
        return tuple(sorted("==".join(path.stem.split("-", 1)) for path in self._dist_infos()))

    @property
    def torch(self) -> str:
        """Version of the torch it holds, with the label of its build (2.13.0+cpu); empty where it holds none."""
        pin = next((name for name in self.packages() if name.startswith("torch==")), "")
        return pin.removeprefix("torch==")

    def freeze(self) -> tuple[str, ...]:
        """`packages()` after one comment line with a fingerprint of their RECORD files.

        Equal before and after a run means that nothing was installed, removed or reinstalled meanwhile, even at the
        same version: an installer always writes RECORD anew.  Takes about a millisecond.
        """
        digest = hashlib.sha256()
        for path in sorted(self._dist_infos()):
            try:
                record = (path / "RECORD").stat()
            except FileNotFoundError:
                digest.update(f"{path.name} none\n".encode())
            else:
                digest.update(f"{path.name} {record.st_size} {record.st_mtime_ns}\n".encode())
        return (f"# records {digest.hexdigest()[:16]}", *self.packages())

    def require_unchanged(self, before: tuple[str, ...]) -> None:
        """Raise CellProblem (invalid) when packages came, went or changed since `freeze()` gave `before`."""
        after = self.freeze()
        if after != before:
            gone, new = (
                ", ".join(sorted(a - b)) or "-" for a, b in ((set(before), set(after)), (set(after), set(before)))
            )
            text = f"Packages of {self.family} changed while a guest ran. Before: {gone}. After: {new}."
            raise CellProblem(Reason.ENVIRONMENT_CHANGED, text, Status.INVALID)

    def _dist_infos(self) -> Iterator[Path]:
        folders = self.external.folders if self.external else (self.site_packages,)
        return (path for folder in folders for path in folder.glob("*.dist-info"))


class Environments:
    """The environments of one matrix: locks in `<matrices_dir>/envs`, built ones in `<cache_dir>/envs`."""

    def __init__(self, matrices_dir: Path, cache_dir: Path) -> None:
        """Neither directory has to exist yet; nothing is written before `ensure` or `variables`."""
        self._locks = outside.lock_folders(matrices_dir)
        self._cache = cache_dir
        self._built: dict[str, Env] = {}
        self._brought: dict[str, Env | None] = {}
        self._foreseen: dict[tuple[str, str], str] = {}

    def lock_text(self, family: str) -> str:
        """The lock of `family`.  Raises UsageError when there is none, or several, or it holds more than versions."""
        path = outside.the_one(self._locks, f"{family}.txt") or self._locks[0] / f"{family}.txt"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            known = ", ".join(sorted(lock.stem for folder in self._locks for lock in folder.glob("*.txt"))) or "none"
            raise UsageError(
                f"{path}: no lock for the environment '{family}' (known: {known}). Correct the name in the option's "
                f"matrix file, or write {family}.in and run `python -m bench lock {family}`."
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot read the lock: {error}") from error
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.startswith("#") and not EXACT.fullmatch(line):
                raise UsageError(
                    f"{path}, line {number}: {line!r} is no name==version, and a lock holds nothing else (no address, "
                    f"path or option of an installer); write it in {family}.in and run `python -m bench lock {family}`"
                )
        return text

    def ensure(self, family: str, on_output: OnOutput | None = None) -> Env:
        """The environment of `family`, built when it is missing, incomplete or no longer what was installed.

        `on_output` receives the installer's lines.  Safe to call from several processes at once: one builds, the
        others wait.  Raises UsageError (no lock, no usable Python) or CellProblem(ENVIRONMENT_FAILED) with the
        installer's last lines.
        """
        if family in self._built:
            return self._built[family]
        own = self._external(family)
        if own is not None:
            self._built[family] = own
            return own
        say: OnOutput = on_output or _ignore
        text, backend, directory = self._locate(family)
        try:
            with locked(directory):
                env = _read_marker(family, directory, text)
                if env is None:
                    if directory.exists():
                        say(f"{family}: incomplete or changed since it was built; building it again")
                        shutil.rmtree(directory)
                    install = partial(self._install, family, directory, text, backend, say)
                    env = _build(family, directory, text, install)
        except OSError as error:
            raise CellProblem(
                Reason.ENVIRONMENT_FAILED, f"cannot build the environment '{family}' in {directory}: {error}"
            ) from error
        self._built[family] = env
        return env

    def existing(self, family: str) -> Env | None:
        """The environment of `family` if it is built and whole; nothing is built.

        Raises UsageError as `lock_text`, and CellProblem for an interpreter of the user's that cannot run a guest.
        """
        own = self._external(family)
        if own is not None:
            return own
        text, _, directory = self._locate(family)
        return _read_marker(family, directory, text)

    def identity(self, family: str) -> str:
        """SHA-256 of what decides the content of a family's environment; nothing is built.  Raises as `existing`.

        Beside the lock that is the Python that it is for, the platform whose wheels it takes, and the build of torch,
        which one index serves for the CPU and another for CUDA under one version.  Of Python the minor version: wheels
        are built for it, and no exporter writes another file under another patch of it.  Of an interpreter of the
        user's it is all that it holds.
        """
        own = self._external(family)
        if own is not None and own.external is not None:
            return _sha256("\0".join((own.external.version, *self._platform(), *own.freeze())))
        text, backend, directory = self._locate(family)
        env = self._built.get(family) or _read_marker(family, directory, text)
        torch = env.torch if env is not None else self._torch_to_be(text, backend)
        return _sha256("\0".join((text, PYTHON_VERSION, *self._platform(), torch)))

    def _torch_to_be(self, text: str, backend: str) -> str:
        """The build of torch that installing a lock would give; what that depends on is asked for once."""
        if (text, backend) not in self._foreseen:
            self._foreseen[text, backend] = torch_build(text, backend)
        return self._foreseen[text, backend]

    def _external(self, family: str) -> Env | None:
        """The user's interpreter for `family`, looked at once."""
        if family not in self._brought:
            given = brought.given(family)
            own = None
            if given:
                found = brought.look(family, given, self.variables())
                own = Env(family, found.python, found.folders[0], "", None, found)
            self._brought[family] = own
        return self._brought[family]

    def _locate(self, family: str) -> tuple[str, str, Path]:
        """Lock, explicitly chosen build of torch, and directory of a family."""
        text = self.lock_text(family)
        backend = os.environ.get("BENCH_TORCH_BACKEND", "") if TORCH_PIN.search(text) else ""
        facts = (text, PYTHON_VERSION, *self._platform(), *self._beneath(), backend)
        key = hashlib.sha256("\0".join(facts).encode()).hexdigest()
        return text, backend, self._cache / "envs" / f"{family}-{key[:12]}"

    def _platform(self) -> tuple[str, str]:
        """System and processor that an environment holds wheels for."""
        return sys.platform, platform.machine()

    def _beneath(self) -> tuple[str, ...]:
        """Where the system under it lies, if that is not this machine's own."""
        return ()

    def _install(self, family: str, directory: Path, text: str, backend: str, say: OnOutput, requirements: Path) -> str:
        """Install a lock into a new venv in `directory`; returns the installer's version."""
        return install_venv(family, directory, requirements, text, backend, no_deps(text), say)

    def variables(self) -> dict[str, str]:
        """The complete environment of a guest process, small on purpose.

        The user's PYTHONPATH, thread settings and home stay outside, PATH begins with a `pip` that refuses (one
        exporter calls it), ultralytics neither looks hosts up, installs anything nor unpickles what is no checkpoint
        of its own, and OpenVINO reports nothing to its makers.  The worker adds the thread settings.
        Raises UsageError for a cache that cannot be written.
        """
        try:
            refusing, home = self._refusing(), self._home()
        except OSError as error:
            raise UsageError(f"cannot write the cache {self._cache}: {error}; choose another --cache") from error
        return {
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            "HOME": str(home),
            "PLAYWRIGHT_BROWSERS_PATH": str(browsers()),
            "PATH": os.pathsep.join([str(refusing), "/usr/local/bin", "/usr/bin", "/bin"]),
            "LANG": "C.UTF-8",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # GPUs are counted as their driver counts them, not the fastest first
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
            "ULTRALYTICS_SAFE_LOAD": "true",
        }

    def _refusing(self) -> Path:
        """The folder of tools that refuse, made now."""
        refusing = self._cache / "envs" / "bin"
        refusing.mkdir(parents=True, exist_ok=True)
        for name in ("pip", "pip3", "uv"):
            tool = refusing / name
            if not tool.exists():
                temporary = tool.with_name(f".{name}-{os.getpid()}")
                temporary.write_text(_REFUSAL, encoding="utf-8")
                temporary.chmod(0o755)
                temporary.replace(tool)
        return refusing

    def _home(self) -> Path:
        """The home of all guests, made now: where their libraries keep settings and caches, none of the user's."""
        home = self._cache / "home"
        declined = home / "intel" / "openvino_telemetry"  # what `opt_in_out --opt_out` writes
        if not declined.is_file():
            declined.parent.mkdir(parents=True, exist_ok=True)
            with replacing(declined) as sink:
                sink.write(b"0")
        return home


def _ignore(_line: str) -> None:
    """Take an installer's line and do nothing with it."""


def _read_marker(family: str, directory: Path, text: str) -> Env | None:
    """The environment in `directory` when it was built to the end and still holds what was installed, else None."""
    try:
        marker = json.loads((directory / _MARKER).read_text(encoding="utf-8"))
        env = Env(
            family, _python_in(directory), _site_packages_in(directory), marker["lock_sha256"], int(marker["bytes"])
        )
        whole = env.python.exists() and list(env.freeze()) == marker["freeze"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return env if whole and env.lock_sha256 == _sha256(text) else None


def _build(family: str, directory: Path, text: str, install: Callable[[Path], str]) -> Env:
    """Build from nothing by `install`, which takes the lock's copy and returns the installer's version.

    The marker is written last, so a build that was stopped is never taken for a whole one.
    """
    started = time.monotonic()
    directory.mkdir()
    requirements = directory / "requirements.txt"
    requirements.write_text(text, encoding="utf-8")
    tool = install(requirements)
    site = _site_packages_in(directory)
    env = Env(family, _python_in(directory), site, _sha256(text), _installed_bytes(site))
    marker = {
        "family": family,
        "lock_sha256": env.lock_sha256,
        "python": version(str(env.python), "--version"),
        "tool": tool,
        "freeze": env.freeze(),
        "bytes": env.bytes,
        "seconds": round(time.monotonic() - started, 3),
    }
    temporary = directory / f".{_MARKER}"
    temporary.write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
    temporary.replace(directory / _MARKER)
    return env


def _python_in(directory: Path) -> Path:
    return directory / "bin" / "python"


def _site_packages_in(directory: Path) -> Path:
    return directory / "lib" / f"python{PYTHON_VERSION}" / "site-packages"


def _installed_bytes(site_packages: Path) -> int:
    """Apparent size in bytes of all regular files, each inode once; byte code caches and pip are left out."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, names, files in os.walk(site_packages):
        inside_root = Path(folder) == site_packages
        names[:] = [
            n for n in names if n != "__pycache__" and not (inside_root and re.match(r"pip(-.*\.dist-info)?$", n))
        ]
        for name in files:
            info = (Path(folder) / name).lstat()
            if stat.S_ISREG(info.st_mode) and (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                total += info.st_size
    return total


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
