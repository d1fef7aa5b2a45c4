"""The grid: what `matrices/*.toml` says, checked, and expanded into cells.

A cell is one model x image size x batch x threads x option x precision x target.  Everything a person may want to
change is data in `matrices/`; this module only reads it.  A wrong file gives a `UsageError` that names the file,
the key and the values allowed.
"""

from __future__ import annotations

import itertools
import math
import platform
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from bench.grid import entries, outside
from bench.grid.schema import Compute, Option, ParityLimit, Precision, Sweep, Target, spelt
from bench.places import GUEST, MATRICES
from bench.reasons import UsageError, did_you_mean

REFERENCE_OPTION, REFERENCE_PRECISION = "pytorch", "fp32"
ASKED = (("nvidia-smi", "-L"), ("xpu_smi",))
"""Commands that list devices and do nothing else: all that a file of targets may have run to find one."""
TARGETS = "targets.toml"


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    model: str
    option: Option
    precision: str
    target: str
    imgsz: int
    batch: int
    threads: int
    of_several: bool = field(default=False, compare=False)
    """Whether there are cells of other models beside it, so that its readable id names its own."""

    @property
    def id(self) -> str:
        """Readable id of the cell, as in `test_latency[onnx-int8-cpu-320]`; defaults are left out."""
        text = f"{self.model}/" if self.of_several else ""
        text += f"{self.option.id}-{self.precision}-{self.target}-{self.imgsz}"
        if self.batch != 1:
            text += f"-b{self.batch}"
        if self.threads != 1:
            text += f"-t{self.threads}"
        return text

    @property
    def cell_id(self) -> str:
        """Full id, unique within a run and equal between runs of the same cell."""
        where = f"{self.option.id}-{self.precision}-{self.target}-{self.imgsz}-b{self.batch}-t{self.threads}"
        return f"{self.model}/{where}"

    @property
    def spec(self) -> Precision:
        """The matrix entry of the cell's precision."""
        return self.option.precisions[self.precision]

    @property
    def compute(self) -> Compute:
        """Arithmetic of the convolutions that must be attested on this target."""
        return self.spec.compute_on.get(self.target, self.spec.compute)

    @property
    def rounding(self) -> Compute:
        """The coarsest type that its numbers pass through: of the arithmetic, or of weights that are stored coarser."""
        return self.spec.stored or self.compute

    @property
    def runtime(self) -> str:
        """Module of bench/guest/runtimes that runs the option on this target."""
        return self.option.runtimes.get(self.target, self.option.runtime)

    @property
    def environment(self) -> str:
        """Family of the run-only environment of the option on this target."""
        return self.option.environments.get(self.target, self.option.environment)

    @property
    def is_reference(self) -> bool:
        """Whether the cell is PyTorch FP32, which others are compared with."""
        return self.option.id == REFERENCE_OPTION and self.precision == REFERENCE_PRECISION


def in_tables(cell: Cell) -> tuple[int, int, int, int]:
    """What cells are sorted by in tables."""
    return cell.imgsz, cell.batch, cell.threads, cell.option.order


@dataclass(frozen=True)
class Matrix:
    """All options, targets and sweeps of one matrices folder."""

    directory: Path
    options: dict[str, Option]
    targets: dict[str, Target]
    sweeps: dict[str, Path]
    parity: dict[str, ParityLimit] = field(default_factory=dict)
    homes: dict[str, Path] = field(default_factory=dict)
    """Folder of the package that an option from outside comes with, by option id."""
    guest: Path = GUEST
    """Exporters and runtimes of the options of this folder: ours, or those that it was brought with."""

    def sweep(self, name: str) -> Sweep:
        """The sweep of that name.  Raises UsageError when there is none, or its file is wrong or names what is not."""
        if name not in self.sweeps:
            hint = did_you_mean([name], self.sweeps)
            folder = self.directory / "sweeps"
            raise UsageError(f"no sweep {name!r} in {folder}{hint}; there are: {', '.join(self.sweeps)}")
        found = entries.parse(Sweep, entries.read(self.sweeps[name]), self.sweeps[name])
        self._picked(found, self.sweeps[name])
        return found

    def cells(self, model: str, sweep: Sweep) -> list[Cell]:
        """Expand a sweep for a model, in table order; the PyTorch FP32 references it needs are always in it.

        Raises UsageError on a name that is not in the matrix.
        """
        options, precisions, targets = self._picked(sweep)
        targets = [name for name in targets if name in sweep.targets or not self.targets[name].emulator]
        excluded = set(sweep.exclude)
        reference = self.options.get(REFERENCE_OPTION)
        if reference is None or REFERENCE_PRECISION not in reference.precisions:
            raise UsageError(f"{self.directory / 'options'} must hold the reference {REFERENCE_OPTION} with fp32")
        found: dict[str, Cell] = {}
        sizes = itertools.product(sweep.imgsz, sweep.batch, sweep.threads)
        for imgsz, batch, threads in sizes:
            wanted = [
                (option, precision, target)
                for option in (self.options[name] for name in options)
                for target in targets
                if target in option.targets
                for precision, entry in option.precisions.items()
                if precision in precisions and (not entry.targets or target in entry.targets)
                if not {f"{option.id}-{precision}", f"{option.id}-{precision}-{target}"} & excluded
            ]
            references = [(reference, REFERENCE_PRECISION, self.reference_target(target)) for _, _, target in wanted]
            for option, precision, target in references + wanted:
                cell = Cell(model, option, precision, target, imgsz, batch, threads)
                found.setdefault(cell.cell_id, cell)
        if not found:
            raise UsageError(
                f"the selection has no cell: none of the options {', '.join(options)} has one of the precisions "
                f"{', '.join(precisions)} on one of the targets {', '.join(targets)} (see `python -m bench list`)"
            )
        return sorted(found.values(), key=in_tables)

    def _picked(self, sweep: Sweep, path: Path | None = None) -> tuple[list[str], list[str], list[str]]:
        """Options, precisions and targets of a sweep, which was read from `path`.  Raises UsageError as `cells`."""
        known = sorted({name for option in self.options.values() for name in option.precisions})
        pairs = [(option, f"{option.id}-{name}") for option in self.options.values() for name in option.precisions]
        triples = [f"{pair}-{target}" for option, pair in pairs for target in option.targets]
        _pick("exclude", sorted(set(sweep.exclude).difference(triples)), [pair for _, pair in pairs], path)
        return (
            _pick("options", sweep.options, list(self.options), path),
            _pick("precisions", sweep.precisions, known, path),
            _pick("targets", sweep.targets, list(self.targets), path),
        )

    def emulated(self, emulators: Sequence[str]) -> list[str]:
        """Ids of the targets that emulators of these names make.  Raises UsageError for a name that makes none."""
        known = sorted({target.emulator for target in self.targets.values() if target.emulator})
        unknown = [name for name in emulators if name not in known]
        if unknown:
            hint = did_you_mean(unknown, known)
            raise UsageError(f"--emulate: unknown {', '.join(unknown)}{hint}; allowed: {', '.join(known) or 'none'}")
        return [key for key, target in self.targets.items() if target.emulator in emulators]

    def named(self, names: Sequence[str]) -> list[str]:
        """Ids of the options that are asked for, by whatever they are called; a name of none stays as it is."""
        ids = {name: option.id for option in self.options.values() for name in option.called}
        return [ids.get(spelt(name), name) for name in names]

    def left_out(self, sweep: Sweep, asked: Collection[str]) -> list[str]:
        """What a sweep leaves out of a grid in which options are `asked` for: none of those that it has nothing of."""
        meant = set[str]()
        for option in filter(None, map(self.options.get, asked)):
            every = {f"{option.id}-{precision}" for precision in option.precisions}
            meant |= every if every <= set(sweep.exclude) else set()
        return [name for name in sweep.exclude if name not in meant]

    def runtime(self, cell: Cell) -> Path:
        """The adapter that runs a cell.  Raises UsageError when there is no such module."""
        return self.module(cell.option, "runtimes", cell.runtime)

    def exporter(self, option: Option, name: str) -> Path:
        """An exporter of an option.  Raises UsageError when there is no such module."""
        return self.module(option, "exporters", name)

    def module(self, option: Option, kind: str, name: str) -> Path:
        """A module of the option's own package, or of the guest's folder `kind`.

        Raises UsageError where neither has it.
        """
        places = [home / kind for home in (self.homes.get(option.id), self.guest) if home is not None]
        found = next((path for place in places if (path := place / f"{name}.py").is_file()), None)
        if found is None:
            looked = " and ".join(str(place) for place in places)
            raise UsageError(f"the option {option.id} names {kind}/{name}.py, which is not in {looked}")
        return found

    def reference_target(self, target: str) -> str:
        """The target on which PyTorch FP32 is the reference for `target`: this machine's processor of those allowed."""
        allowed, machine = self.targets[target].reference or [target], platform.machine()
        return next((name for name in allowed if self.targets[name].detect.on_processor(machine)), allowed[0])

    def reference_of(self, cell: Cell) -> Cell:
        """The PyTorch FP32 cell that `cell` is compared with."""
        option = self.options[REFERENCE_OPTION]
        target = self.reference_target(cell.target)
        return replace(cell, option=option, precision=REFERENCE_PRECISION, target=target)


def not_benched(option: Option) -> str:
    """In words, why nothing here makes or runs an option; empty for one that is."""
    return f"{option.name} is not benched: {option.lacks}" if option.lacks else ""


def load(directory: Path = MATRICES) -> Matrix:
    """Read and check a matrices folder.  A `guest` folder beside it is that of its exporters and runtimes.

    Raises UsageError naming file, key and allowed values when an entry is wrong or refers to something absent.
    """
    targets_file = directory / TARGETS
    targets = load_targets(directory)
    options: dict[str, Option] = {}
    homes: dict[str, Path] = {}
    for home in (directory, *outside.folders().values()):
        for path in sorted((home / "options").glob("*.toml")):
            option = _option(path, list(targets), outside.lock_folders(directory))
            if option.id in options:
                other = homes.get(option.id, directory) / "options" / path.name
                raise UsageError(f"{path}: there is an option {option.id!r} already, {other}; give this one another id")
            if home is not directory:
                homes[option.id] = home
                option = option.model_copy(update={"in_guide": False})  # the guide names none of them
            _require_other_names(path, option, options.values())
            options[option.id] = option
    if not options:
        raise UsageError(f"no option in {directory / 'options'}: is this a matrices folder?")
    for name, target in targets.items():
        _require_asked(name, target.detect.command, targets_file)
        _pick(f"{name}.reference", target.reference, list(targets), targets_file)
        if target.emulates:
            _pick(f"{name}.emulates", [target.emulates], list(targets), targets_file)
        if target.imitates:
            _pick(f"{name}.imitates", [target.imitates], list(targets), targets_file)
    ordered = dict(sorted(options.items(), key=lambda item: (item[1].order, item[0])))
    sweeps = {path.stem: path for path in sorted((directory / "sweeps").glob("*.toml"))}
    limits, own = _parity_limits(directory / "parity.toml"), directory.parent / GUEST.name
    guest = own if (own / "runtimes").is_dir() else GUEST
    found = Matrix(directory, ordered, targets, sweeps, limits, homes, guest)
    for option in ordered.values():
        _require_modules(found, option)
    return found


def _require_other_names(path: Path, option: Option, others: Iterable[Option]) -> None:
    """Raise UsageError where an option is called what another is."""
    for other in others:
        if shared := option.called & other.called:
            raise UsageError(
                f"{path}: the option {other.id!r} is called {', '.join(sorted(shared))} too; take that out of name, "
                "format or aliases of one of them"
            )


def _require_asked(target: str, command: Sequence[str], path: Path) -> None:
    """Raise UsageError for a command that is not among those that a file may have run, whoever wrote it."""
    if command and tuple(command) not in ASKED:
        allowed = ", ".join(shlex.join(words) for words in ASKED)
        raise UsageError(
            f"{path}: {target}.detect.command: `{shlex.join(command)}` is not run, since a file of targets could then "
            f"have anything run; allowed: {allowed}. Find the device by executable or files, or add the command to "
            "ASKED in bench/grid/matrix.py"
        )


def load_targets(directory: Path = MATRICES) -> dict[str, Target]:
    """The targets of a matrices folder, each by itself.  Raises UsageError for an entry that is wrong."""
    path = directory / TARGETS
    return {name: entries.parse(Target, value, path, prefix=name) for name, value in entries.read(path).items()}


def _parity_limits(path: Path) -> dict[str, ParityLimit]:
    """Limits by arithmetic.  Raises UsageError for an arithmetic that is none."""
    found = entries.read(path)
    _pick("limits", list(found), get_args(Compute), path)
    return {name: entries.parse(ParityLimit, value, path, prefix=name) for name, value in found.items()}


def _option(path: Path, targets: Sequence[str], locks: Sequence[Path]) -> Option:
    """The option in a file.  Raises UsageError when it is wrong or refers to something absent."""
    option = entries.parse(Option, entries.read(path), path)
    if option.id != path.stem:
        raise UsageError(f"{path}: id is {option.id!r}; it must equal the file's name, {path.stem!r}")
    _pick("targets", option.targets, targets, path)
    if option.export is None:
        return option
    if option.export.device is not None:
        _pick("export.device", [option.export.device], targets, path)
    families = {"environment": option.environment, "export.environment": option.export.environment}
    families |= {f"environments.{target}": family for target, family in option.environments.items()}
    families |= {f"export, before it {exporter}": family for exporter, family in option.export.chain}
    for key, family in families.items():
        if outside.the_one(locks, f"{family}.txt") is None:
            known = ", ".join(sorted(lock.stem for folder in locks for lock in folder.glob("*.txt")))
            raise UsageError(f"{path}: {key} is {family!r}, but envs/{family}.txt is missing; locks: {known}")
    packages = option.javascript
    if packages is not None and outside.the_one(locks, f"{packages}/package-lock.json") is None:
        place = locks[0] / packages / "package-lock.json"
        raise UsageError(f"{path}: javascript is {packages!r}, but {place} is missing")
    return option


def _require_modules(matrix: Matrix, option: Option) -> None:
    """Raise UsageError when an adapter or exporter that an option names is not there."""
    if option.export is None:
        return
    for name in (option.runtime, *option.runtimes.values()):
        matrix.module(option, "runtimes", name)
    for name in (option.export.exporter, *(exporter for exporter, _ in option.export.chain)):
        matrix.module(option, "exporters", name)


def load_options(directory: Path = MATRICES) -> list[Option]:
    """The options of a matrices folder and from outside, each by itself.  Raises UsageError for one that is wrong."""
    return [entries.parse(Option, entries.read(path), path) for path in _option_files(directory)]


def option_names(directory: Path = MATRICES) -> dict[str, str]:
    """What each option of a matrices folder, or from outside, is called, in the order of tables.

    Nothing else of its file is looked at; one whose file says no place comes last.
    """
    read = {path.stem: entries.read(path) for path in _option_files(directory)}

    def place(option: str) -> tuple[float, str]:
        order = read[option].get("order")
        return (order if isinstance(order, int) else math.inf, option)

    return {option: str(read[option].get("name", option)) for option in sorted(read, key=place)}


def _option_files(directory: Path) -> list[Path]:
    return [path for home in (directory, *outside.folders().values()) for path in (home / "options").glob("*.toml")]


def override(sweep: Sweep, source: str, **values: Any) -> Sweep:
    """A copy of `sweep` with the given keys replaced (None: kept), checked as a file would be."""
    changed = {key: value for key, value in values.items() if value is not None}
    return entries.parse(Sweep, sweep.model_dump() | changed, source)


def _pick(key: str, wanted: Sequence[str], known: Sequence[str], path: Path | None = None) -> list[str]:
    unknown = [name for name in wanted if name != "*" and name not in known]
    if unknown:
        where = f"{path}: " if path else ""
        hint = did_you_mean(unknown, known)
        raise UsageError(f"{where}{key}: unknown {', '.join(unknown)}{hint}; allowed: {', '.join(known)}")
    return list(known) if "*" in wanted else [name for name in known if name in wanted]
