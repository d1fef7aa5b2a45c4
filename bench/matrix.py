"""The grid: what `matrices/*.toml` says, checked, and expanded into cells.

A cell is one model x image size x batch x threads x option x precision x target.  Everything a person may want to
change is data in `matrices/`; this module only reads it.  A wrong file gives a `UsageError` that names the file,
the key and the values allowed.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from bench import entries
from bench.entries import Entry
from bench.reasons import UsageError

ROOT = Path(__file__).resolve().parents[1]
MATRICES = ROOT / "matrices"
REFERENCE_OPTION, REFERENCE_PRECISION = "pytorch", "fp32"

Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Compute = Literal["f32", "f16", "bf16", "i8"]


class Precision(Entry):
    """One precision of an option."""

    compute: Compute = Field(description="arithmetic of the convolutions that the runtime must attest")
    compute_on: dict[Identifier, Compute] = Field(default_factory=dict, description="the same, where a target differs")
    targets: list[Identifier] = Field(default_factory=list, description="targets it exists on; empty: the option's")
    calibrate: bool = Field(default=False, description="whether the exporter is given calibration images")
    artifact: str = Field(default="", description="precision whose artifact this one runs; empty: its own")
    runtime_options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    note: str = ""


class Export(Entry):
    """How an option's artifact is made."""

    environment: Identifier = Field(description="environment family; matrices/envs/<family>.txt is its lock")
    exporter: Identifier = Field(description="module bench/exporters/<exporter>.py")
    source: Identifier | None = Field(default=None, description="exporter module whose artifact this one converts")
    source_environment: Identifier | None = Field(default=None, description="environment family of that exporter")
    sources: list[Annotated[str, Field(pattern=r"^[a-z0-9_]+:[a-z0-9_-]+$")]] = Field(
        default_factory=list, description="where more than one leads here: <exporter>:<environment family>, in order"
    )
    without_target: bool = Field(default=False, description="export also where the target is absent: exported only")

    @model_validator(mode="after")
    def _source_is_whole(self) -> Export:
        if (self.source is None) != (self.source_environment is None):
            raise ValueError("source and source_environment belong together: give both or neither")
        if self.source is not None and self.sources:
            raise ValueError("give either source or sources")
        return self

    @property
    def chain(self) -> list[tuple[str, str]]:
        """Exporters (module, environment family) that come before this one; each converts the artifact before it."""
        if self.source is not None and self.source_environment is not None:
            return [(self.source, self.source_environment)]
        return [(exporter, family) for exporter, _, family in (entry.partition(":") for entry in self.sources)]


class Option(Entry):
    """One way to deploy: a row of the guide's table, or one beyond it."""

    id: Identifier
    name: str
    order: int = Field(description="position in tables; the guide's own order")
    in_guide: bool = Field(default=True, description="whether the guide names it; tables mark what it does not")
    environment: Identifier = Field(description="run-only environment family")
    runtime: Identifier = Field(description="module bench/runtimes/<runtime>.py")
    targets: list[Identifier]
    runtimes: dict[Identifier, Identifier] = Field(default_factory=dict, description="runtime, where a target differs")
    environments: dict[Identifier, Identifier] = Field(
        default_factory=dict, description="run-only environment family, where a target differs"
    )
    javascript: Identifier | None = Field(
        default=None, description="JavaScript packages the runtime serves; matrices/envs/<family>/package-lock.json"
    )
    batch_max: PositiveInt | None = Field(default=None, description="largest batch the option takes; absent: any")
    export: Export
    precisions: dict[Identifier, Precision]

    @model_validator(mode="after")
    def _shared_artifacts_exist(self) -> Option:
        for name, precision in self.precisions.items():
            if precision.artifact and precision.artifact not in self.precisions:
                allowed = ", ".join(self.precisions)
                raise ValueError(f"precisions.{name}.artifact is {precision.artifact!r}; allowed: {allowed}")
        return self

    @model_validator(mode="after")
    def _overrides_name_its_targets(self) -> Option:
        named = {"runtimes": list(self.runtimes), "environments": list(self.environments)}
        for name, precision in self.precisions.items():
            named[f"precisions.{name}.compute_on"] = list(precision.compute_on)
            named[f"precisions.{name}.targets"] = precision.targets
        for key, targets in named.items():
            for target in targets:
                if target not in self.targets:
                    raise ValueError(f"{key} names {target!r}; allowed: {', '.join(self.targets)}")
        return self


class Detection(Entry):
    """How a target is found on this machine; every condition given must hold (see bench/machine.py)."""

    machine: list[str] = Field(default_factory=list, description="platform.machine() is one of these, any case")
    system: list[str] = Field(default_factory=list, description="platform.system() is one of these")
    executable: list[str] = Field(default_factory=list, description="one of these is on PATH")
    command: list[str] = Field(default_factory=list, description="this command exits with 0 ...")
    prints: str = Field(default="", description="... and its output matches this regular expression")
    files: list[str] = Field(default_factory=list, description="one of these glob patterns matches a file ...")
    contains: str = Field(default="", description="... and one such file holds this text")

    def on_processor(self, machine: str) -> bool:
        """Whether `machine`, in the words of platform.machine(), is one of those asked for; any where none is."""
        return not self.machine or machine.lower() in [name.lower() for name in self.machine]

    @model_validator(mode="after")
    def _some_condition(self) -> Detection:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError(f"needs at least one condition of: {', '.join(type(self).model_fields)}")
        return self


class Target(Entry):
    """One kind of hardware an option can run on."""

    name: str
    name_zh: str = Field(default="", description="the same in Chinese; empty: as it is")
    device: str = Field(description="what an attestation must name as the device")
    needs: str = Field(description="what a machine needs for it, in words a newcomer can act on")
    detect: Detection
    timed: bool = Field(default=True, description="whether a latency here says anything about the target")
    threaded: bool = Field(default=True, description="whether threads are asked for here, and so must be attested")
    images: PositiveInt | None = Field(default=None, description="most images evaluated where no latency is taken")
    patience: PositiveFloat = Field(default=1.0, description="factor on the sweep's deadlines for load and inference")
    reference: list[str] = Field(
        default_factory=list,
        description="processors on which PyTorch FP32 is the reference, this machine's of them; empty: this target",
    )
    arithmetic: dict[Compute, str] = Field(
        default_factory=dict, description="processor feature, as in /proc/cpuinfo, that an arithmetic needs here"
    )
    emulator: str = Field(default="", description="table of emulators.toml; then it is measured only when asked for")
    emulates: str = Field(default="", description="target that its guests are told to be")

    @model_validator(mode="after")
    def _emulation_is_whole(self) -> Target:
        if bool(self.emulator) != bool(self.emulates) or (self.emulator and self.timed):
            raise ValueError("emulator and emulates belong together, and with timed = false")
        return self

    def lacks(self, compute: Compute, flags: Collection[str]) -> bool:
        """Whether a processor with these features cannot compute so; features that are not known lack nothing."""
        feature = self.arithmetic.get(compute, "")
        return bool(flags and feature) and feature not in flags


class Parity(Entry):
    """On how many images raw outputs are compared with PyTorch FP32."""

    images: PositiveInt = 4


class Latency(Entry):
    """How long and how precisely latency is measured."""

    samples: PositiveInt = Field(default=10, description="timed inferences per turn")
    turn_s: PositiveFloat = Field(default=3.0, description="fewer inferences per turn where they would take longer")
    warmup: int = Field(default=2, ge=0, description="untimed inferences before them")
    rounds: PositiveInt = Field(default=2, description="interleaved rounds before every guest is started anew")
    min_launches: int = Field(default=5, ge=3, description="launches before the interval is looked at")
    max_launches: PositiveInt = 20
    half_width: PositiveFloat = Field(default=0.02, description="stop when every interval is this narrow, relative")
    budget_s: PositiveFloat = Field(default=300.0, description="stop a time window after this many seconds")

    @model_validator(mode="after")
    def _ordered(self) -> Latency:
        if self.max_launches < self.min_launches:
            raise ValueError(f"max_launches ({self.max_launches}) must be at least min_launches ({self.min_launches})")
        return self


class Deadlines(Entry):
    """Seconds after which a guest that has not answered is killed."""

    export: PositiveFloat = 900.0
    load: PositiveFloat = 180.0
    infer: PositiveFloat = 60.0


class Accuracy(Entry):
    """When an accuracy counts as collapsed: the share of PyTorch FP32's mAP50-95 an artifact must keep."""

    keep: float = Field(default=0.5, ge=0, le=1)


class Sweep(Entry):
    """Which part of the grid is measured, and how hard."""

    description: str
    options: list[str] = Field(default=["*"])
    precisions: list[str] = Field(default=["*"])
    targets: list[str] = Field(default=["*"])
    exclude: list[str] = Field(
        default=[], description="what to leave out: <option>-<precision>, or <option>-<precision>-<target>"
    )
    imgsz: list[Annotated[int, Field(ge=32, multiple_of=32)]] = Field(default=[320])
    batch: list[PositiveInt] = Field(default=[1])
    threads: list[PositiveInt] = Field(default=[1])
    images: PositiveInt | None = Field(default=None, description="validation images; absent: all")
    calibration_images: PositiveInt = 64
    parity: Parity = Parity()
    accuracy: Accuracy = Accuracy()
    latency: Latency = Latency()
    deadlines: Deadlines = Deadlines()


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

    @property
    def id(self) -> str:
        """Readable id of the cell, as in `test_latency[onnx-int8-cpu-320]`; defaults are left out."""
        text = f"{self.option.id}-{self.precision}-{self.target}-{self.imgsz}"
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
    def runtime(self) -> str:
        """Module of bench/runtimes that runs the option on this target."""
        return self.option.runtimes.get(self.target, self.option.runtime)

    @property
    def environment(self) -> str:
        """Family of the run-only environment of the option on this target."""
        return self.option.environments.get(self.target, self.option.environment)

    @property
    def is_reference(self) -> bool:
        """Whether the cell is PyTorch FP32, which others are compared with."""
        return self.option.id == REFERENCE_OPTION and self.precision == REFERENCE_PRECISION


@dataclass(frozen=True)
class Matrix:
    """All options, targets and sweeps of one matrices folder."""

    directory: Path
    options: dict[str, Option]
    targets: dict[str, Target]
    sweeps: dict[str, Path]

    def sweep(self, name: str) -> Sweep:
        """The sweep of that name.  Raises UsageError when there is none or its file is wrong."""
        if name not in self.sweeps:
            raise UsageError(f"no sweep {name!r} in {self.directory / 'sweeps'}; there are: {', '.join(self.sweeps)}")
        return entries.parse(Sweep, entries.read(self.sweeps[name]), self.sweeps[name])

    def cells(self, model: str, sweep: Sweep) -> list[Cell]:
        """Expand a sweep for a model, in table order; the PyTorch FP32 references it needs are always in it.

        Raises UsageError on a name that is not in the matrix.
        """
        known = sorted({name for option in self.options.values() for name in option.precisions})
        options = _pick("options", sweep.options, list(self.options))
        precisions = _pick("precisions", sweep.precisions, known)
        targets = _pick("targets", sweep.targets, list(self.targets))
        targets = [name for name in targets if name in sweep.targets or not self.targets[name].emulator]
        pairs = [(option, f"{option.id}-{name}") for option in self.options.values() for name in option.precisions]
        triples = [f"{pair}-{target}" for option, pair in pairs for target in option.targets]
        excluded = set(sweep.exclude)
        _pick("exclude", sorted(excluded.difference(triples)), [pair for _, pair in pairs])
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
        return sorted(found.values(), key=lambda c: (c.imgsz, c.batch, c.threads, c.option.order))

    def reference_target(self, target: str) -> str:
        """The target on which PyTorch FP32 is the reference for `target`: this machine's processor of those allowed."""
        allowed, machine = self.targets[target].reference or [target], platform.machine()
        return next((name for name in allowed if self.targets[name].detect.on_processor(machine)), allowed[0])

    def reference_of(self, cell: Cell) -> Cell:
        """The PyTorch FP32 cell that `cell` is compared with."""
        option = self.options[REFERENCE_OPTION]
        target = self.reference_target(cell.target)
        return Cell(cell.model, option, REFERENCE_PRECISION, target, cell.imgsz, cell.batch, cell.threads)


def load(directory: Path = MATRICES) -> Matrix:
    """Read and check a matrices folder.

    Raises UsageError naming file, key and allowed values when an entry is wrong or refers to something absent.
    """
    targets_file = directory / "targets.toml"
    targets = {
        name: entries.parse(Target, value, targets_file, prefix=name)
        for name, value in entries.read(targets_file).items()
    }
    options: dict[str, Option] = {}
    for path in sorted((directory / "options").glob("*.toml")):
        option = entries.parse(Option, entries.read(path), path)
        if option.id != path.stem:
            raise UsageError(f"{path}: id is {option.id!r}; it must equal the file's name, {path.stem!r}")
        _pick("targets", option.targets, list(targets), path)
        families = {"environment": option.environment, "export.environment": option.export.environment}
        families |= {f"environments.{target}": family for target, family in option.environments.items()}
        families |= {f"export, before it {exporter}": family for exporter, family in option.export.chain}
        for key, family in families.items():
            if not (directory / "envs" / f"{family}.txt").is_file():
                locks = ", ".join(sorted(p.stem for p in (directory / "envs").glob("*.txt")))
                raise UsageError(f"{path}: {key} is {family!r}, but envs/{family}.txt is missing; locks: {locks}")
        package_lock = directory / "envs" / (option.javascript or "") / "package-lock.json"
        if option.javascript is not None and not package_lock.is_file():
            raise UsageError(f"{path}: javascript is {option.javascript!r}, but {package_lock} is missing")
        options[option.id] = option
    if not options:
        raise UsageError(f"no option in {directory / 'options'}: is this a matrices folder?")
    for name, target in targets.items():
        _pick(f"{name}.reference", target.reference, list(targets), targets_file)
        if target.emulates:
            _pick(f"{name}.emulates", [target.emulates], list(targets), targets_file)
    ordered = dict(sorted(options.items(), key=lambda item: (item[1].order, item[0])))
    sweeps = {path.stem: path for path in sorted((directory / "sweeps").glob("*.toml"))}
    return Matrix(directory, ordered, targets, sweeps)


def override(sweep: Sweep, source: str, **values: Any) -> Sweep:
    """A copy of `sweep` with the given keys replaced (None: kept), checked as a file would be."""
    changed = {key: value for key, value in values.items() if value is not None}
    return entries.parse(Sweep, sweep.model_dump() | changed, source)


def _pick(key: str, wanted: Sequence[str], known: Sequence[str], path: Path | None = None) -> list[str]:
    unknown = [name for name in wanted if name != "*" and name not in known]
    if unknown:
        where = f"{path}: " if path else ""
        raise UsageError(f"{where}{key}: unknown {', '.join(unknown)}; allowed: {', '.join(known)}")
    return list(known) if "*" in wanted else [name for name in known if name in wanted]
