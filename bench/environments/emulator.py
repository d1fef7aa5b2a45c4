"""A processor that this machine has not: QEMU, and the smallest Debian system of its kind that holds Python.

apt resolves, fetches and checks the packages that `matrices/emulators.toml` asks for, with a state of its own; they
are unpacked into the cache as files.  Nothing is installed into the user's system, and no privilege is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bench.environments.installers import PYTHON_VERSION, OnOutput, clean, run, version
from bench.files import locked
from bench.grid.entries import Entry, parse, read
from bench.interrupts import running
from bench.reasons import CellProblem, Reason, Status, UsageError

_MARKER = "complete.json"
_TOOLS = ("apt-get", "apt-config", "dpkg-deb")
_MIRROR_VARIABLE = "BENCH_DEBIAN_MIRROR"
_QUESTION = "import platform; print(platform.machine(), platform.libc_ver()[1], platform.python_version())"


# What apt is given: nothing that it could take for an option, or for a line of its own in a list of sources.
Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]*$")]
Suite = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class Emulator(Entry):
    """A table of matrices/emulators.toml."""

    machine: str = Field(description="platform.machine() of a guest")
    cpu: str = Field(description="its processor, by QEMU's name")
    glibc: Annotated[str, Field(pattern=r"^2\.\d+$")] = Field(
        description="the suites' version; decides which wheels fit"
    )
    emulator: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]*:[a-z0-9]+(/[a-z0-9][a-z0-9-]*)?$")] = Field(
        description="package of QEMU for this machine: <package>:<architecture>, or with /<suite>"
    )
    program: str = Field(description="QEMU's program in that package")
    packages: list[Package] = Field(
        min_length=1, description="what the guest's system holds, beside all they depend on"
    )
    suites: list[Suite] = Field(min_length=1)
    keyring: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$")] = Field(
        description="file of the keys that the suites are signed with"
    )


def load(matrices_dir: Path, name: str) -> Emulator:
    """The emulator of that name.  Raises UsageError naming file, key and what is allowed."""
    path = matrices_dir / "emulators.toml"
    tables = read(path)
    if name not in tables:
        raise UsageError(f"{path}: there is no emulator {name!r}; allowed: {', '.join(tables)}")
    return parse(Emulator, tables[name], path, prefix=name)


def debian_mirror() -> str:
    """Address of Debian's packages: what the user's apt takes them from, or BENCH_DEBIAN_MIRROR where that is set.

    Raises CellProblem(ENVIRONMENT_FAILED), skipped, where neither names one.
    """
    if given := os.environ.get(_MIRROR_VARIABLE):
        return given
    question = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(ORIGIN)", "Created-By: Packages"]
    asked = subprocess.run(question, capture_output=True, text=True, check=False)
    for line in asked.stdout.splitlines():
        address, release, *origin = line.split()
        # The origin is known once `apt-get update` has run; security updates come from an address of their own.
        if not release.endswith("-security") and (origin == ["Debian"] or address.rstrip("/").endswith("/debian")):
            return address
    text = (
        "The emulated system is made of Debian packages, and this machine's apt knows no address of them. Set "
        f"{_MIRROR_VARIABLE} to a Debian mirror's."
    )
    raise CellProblem(Reason.ENVIRONMENT_FAILED, text, Status.SKIPPED)


class System:
    """A guest's system in the cache: QEMU's `program`, and the `root` it looks for absolute paths in.

    Addressed by what it was asked to be; which versions apt had at that time is in `facts`.
    """

    def __init__(self, name: str, emulator: Emulator, cache: Path) -> None:
        """`name` is Debian's for the architecture.  Nothing is written before `ensure`."""
        key = hashlib.sha256(f"{name}\0{emulator.model_dump_json()}".encode()).hexdigest()
        self.name = name
        self.emulator = emulator
        self.directory = cache / "emulators" / f"{name}-{key[:12]}"
        self.program = self.directory / Path(emulator.program).name
        self.root = self.directory / "root"
        self.python = self.root / "usr" / "bin" / f"python{PYTHON_VERSION}"

    def command(self, python: Path) -> list[str]:
        """What runs an interpreter of the guest's machine here."""
        return [str(self.program), "-cpu", self.emulator.cpu, "-L", str(self.root), str(python)]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is recorded with a run.  Raises FileNotFoundError before `ensure`."""
        facts: dict[str, Any] = json.loads((self.directory / _MARKER).read_text(encoding="utf-8"))
        return facts

    def ensure(self, say: OnOutput) -> None:
        """Fetch and unpack the system where it is missing or was not completed; `say` receives the tools' lines.

        Raises CellProblem(ENVIRONMENT_FAILED): skipped where a tool is missing, failed where apt fails, or where what
        it fetched does not run or is not what emulators.toml says.
        """
        try:
            with locked(self.directory):
                if not self._whole():
                    self._build(say)
        except OSError as error:
            text = f"cannot make the emulated system {self.name} in {self.directory}: {error}"
            raise CellProblem(Reason.ENVIRONMENT_FAILED, text) from error

    def _whole(self) -> bool:
        return all(path.is_file() for path in (self.directory / _MARKER, self.program, self.python))

    def _build(self, say: OnOutput) -> None:
        """Build from nothing; the marker is written last."""
        missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
        if missing:
            text = (
                f"Emulating {self.name} takes Debian packages, and what fetches and unpacks them is not on PATH: "
                f"{', '.join(missing)}. Install apt and dpkg (Debian and Ubuntu have them, Fedora offers them)."
            )
            raise CellProblem(Reason.ENVIRONMENT_FAILED, text, Status.SKIPPED)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        apt = self.directory / "apt"
        packages = self._download(apt, say)
        for package in packages:
            say(f"unpacking {package.name}")
            if package.name.endswith((f"_{self.name}.deb", "_all.deb")):
                unpack = ["dpkg-deb", "-x", str(package), str(self.root)]
                run(self.name, unpack, clean(os.environ), self.directory, say)
            else:
                self._take_program(package)
        shutil.rmtree(apt)
        facts = {
            "emulator": version(str(self.program), "--version").splitlines()[0],
            "emulated_cpu": self.emulator.cpu,
            "python": self._try(),
            "debian_packages": [package.stem.replace("%3a", ":") for package in packages],
        }
        temporary = self.directory / f".{_MARKER}"
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.directory / _MARKER)

    def _download(self, apt: Path, say: OnOutput) -> list[Path]:
        """Have apt resolve, fetch and check the packages in the folder `apt`; returns the files."""
        emulator = self.emulator
        for part in ("lists/partial", "archives/partial"):
            (apt / part).mkdir(parents=True)
        (apt / "status").touch()  # of a system where nothing is installed yet
        mirror = debian_mirror()
        sources = [f"deb [signed-by={emulator.keyring}] {mirror} {suite} main\n" for suite in emulator.suites]
        (apt / "sources.list").write_text("".join(sources), encoding="utf-8")
        (apt / "apt.conf").write_text(self._configuration(apt), encoding="utf-8")
        variables = clean(os.environ) | {"APT_CONFIG": str(apt / "apt.conf"), "LC_ALL": "C.UTF-8"}
        run(self.name, ["apt-get", "update", "--error-on=any"], variables, apt, say)
        packages = [f"{package}:{self.name}" for package in emulator.packages] + [emulator.emulator]
        fetch = ["apt-get", "install", "--download-only", "--yes", "--no-install-recommends", *packages]
        run(self.name, fetch, variables, apt, say)
        return sorted((apt / "archives").glob("*.deb"))

    def _configuration(self, apt: Path) -> str:
        """Settings of apt: how the user's reaches the network, and nothing else of the user's system.

        Its sources, pins and hooks would bring other packages, or act on that system.
        """
        dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=False).stdout
        network = [line for line in dump.splitlines() if not line.startswith("Acquire::IndexTargets")]
        host = self.emulator.emulator.partition(":")[2].partition("/")[0]
        own = {
            "Dir::State": apt,
            "Dir::State::lists": apt / "lists",
            "Dir::State::status": apt / "status",
            "Dir::Cache": apt,
            "Dir::Cache::archives": apt / "archives",
            "Dir::Etc::sourcelist": apt / "sources.list",
            **dict.fromkeys((f"Dir::Etc::{key}" for key in ("main", "parts", "sourceparts")), os.devnull),
            **dict.fromkeys((f"Dir::Etc::{key}" for key in ("preferences", "preferencesparts")), os.devnull),
            "Acquire::Languages": "none",
            "APT::Architecture": self.name,
            "APT::Sandbox::User": "root",  # the user that apt becomes where it is root may not write into the cache
        }
        lines = [f'{key} "{value}";' for key, value in own.items()]
        return "\n".join([*network, *lines, f'APT::Architectures {{ "{self.name}"; "{host}"; }};', ""])

    def _take_program(self, package: Path) -> None:
        """Unpack QEMU's program alone from its package, which has one for every machine; others have none."""
        with (
            running(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process,
            tarfile.open(fileobj=process.stdout, mode="r|") as archive,
        ):
            for entry in archive:
                source = archive.extractfile(entry) if entry.name == f"./{self.emulator.program}" else None
                if source is not None:
                    with source, self.program.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
                    self.program.chmod(0o755)

    def _try(self) -> str:
        """Version of the Python, once it has run.  Raises CellProblem where it does not, or is of another machine."""
        command = [*self.command(self.python), "-I", "-c", _QUESTION]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        *found, python = done.stdout.split() or [""]
        expected = [self.emulator.machine, self.emulator.glibc]
        if done.returncode != 0 or found != expected:
            text = (
                f"Python under QEMU ended with {done.returncode} and named machine and glibc {' '.join(found) or '-'}; "
                f"emulators.toml says {' '.join(expected)}. {done.stderr.strip()}"
            )
            raise CellProblem(Reason.ENVIRONMENT_FAILED, text.strip())
        return python
