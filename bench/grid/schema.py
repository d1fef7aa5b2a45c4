"""What a person writes in `matrices/`, as checked models: options, targets, sweeps.

A model says what a key means and what it may hold; `bench/grid/matrix.py` reads the files and expands them into cells.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from bench.grid.entries import Entry

Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)]  # many name a file
MaybeIdentifier = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9_-]*)?$", max_length=100)]
LARGEST = 65_536
"""No side of an input, batch or number of threads is larger: far beyond any of them, and the tables hold it."""
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Compute = Literal["f32", "tf32", "f16", "bf16", "i8"]


def spelt(name: str) -> str:
    """A name without what people write differently: `TF.js`, `tf-js` and `tfjs` are one."""
    return re.sub(r"[\W_]", "", name.lower())


class Precision(Entry):
    """One precision of an option."""

    compute: Compute = Field(description="arithmetic of the convolutions that the runtime must attest")
    compute_on: dict[Identifier, Compute] = Field(default_factory=dict, description="the same, where a target differs")
    stored: Compute | None = Field(
        default=None, description="what its weights are rounded to, where that is coarser than the arithmetic"
    )
    targets: list[Identifier] = Field(default_factory=list, description="targets it exists on; empty: the option's")
    calibrate: bool = Field(default=False, description="whether the exporter is given calibration images")
    artifact: str = Field(default="", description="precision whose artifact this one runs; empty: its own")
    runtime_options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    note: str = Field(default="", description="what is special about it, in a sentence or two")
    note_zh: str = Field(default="", description="the same in Chinese; empty: as it is")

    def told(self, language: str) -> str:
        """What is special about it, in a language."""
        return (self.note_zh if language == "zh" else "") or self.note


class Export(Entry):
    """How an option's artifact is made."""

    environment: Identifier = Field(description="environment family; matrices/envs/<family>.txt is its lock")
    exporter: Identifier = Field(description="module bench/guest/exporters/<exporter>.py")
    source: Identifier | None = Field(default=None, description="exporter module whose artifact this one converts")
    source_environment: Identifier | None = Field(default=None, description="environment family of that exporter")
    sources: list[Annotated[str, Field(pattern=r"^[a-z0-9_]+:[a-z0-9_-]+$", max_length=200)]] = Field(
        default_factory=list, description="where more than one leads here: <exporter>:<environment family>, in order"
    )
    device: Identifier | None = Field(
        default=None, description="target whose very device an artifact is built for and works on; absent: any's"
    )
    program: str = Field(default="", description="program on PATH that the exporter uses where it is installed")
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
    lacks: str = Field(
        default="",
        description="why nothing here makes or runs it: what is missing, and where that is to be had; then its cells "
        "are rows that say so, and environment, runtime and export are left out",
    )
    lacks_zh: str = Field(default="", description="the same in Chinese; empty: as it is")
    environment: MaybeIdentifier = Field(default="", description="run-only environment family")
    runtime: MaybeIdentifier = Field(default="", description="module bench/guest/runtimes/<runtime>.py")
    targets: list[Identifier]
    runtimes: dict[Identifier, Identifier] = Field(default_factory=dict, description="runtime, where a target differs")
    environments: dict[Identifier, Identifier] = Field(
        default_factory=dict, description="run-only environment family, where a target differs"
    )
    javascript: Identifier | None = Field(
        default=None, description="JavaScript packages the runtime serves; matrices/envs/<family>/package-lock.json"
    )
    format: str = Field(default="", description="what `yolo export format=` calls it; empty: it has no name there")
    aliases: list[Identifier] = Field(default_factory=list, description="what else people call it when they ask for it")
    batch_max: PositiveInt | None = Field(default=None, description="largest batch the option takes; absent: any")
    export: Export | None = Field(default=None, description="how its artifact is made")
    precisions: dict[Identifier, Precision]

    @property
    def making(self) -> Export:
        """`export` of an option that is made here."""
        assert self.export is not None, "one that is not has no artifact to ask about"
        return self.export

    @property
    def called(self) -> set[str]:
        """All names that it can be asked for by, `spelt` alike."""
        return {spelt(name) for name in (self.id, self.name, self.format, *self.aliases) if name}

    @model_validator(mode="after")
    def _is_made_or_says_why_not(self) -> Option:
        given = {"environment": self.environment, "runtime": self.runtime, "export": self.export}
        if self.lacks and any(given.values()):
            raise ValueError(f"lacks belongs to what nothing here makes: leave out {', '.join(given)}, or lacks")
        absent = [key for key, value in given.items() if not value]
        if not self.lacks and absent:
            raise ValueError(f"needs {', '.join(absent)}; or lacks, where nothing here can make or run it")
        return self

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


class Signs(Entry):
    """How a target is found on this machine; every condition given must hold (see bench/grid/machine.py)."""

    machine: list[str] = Field(default_factory=list, description="platform.machine() is one of these, any case")
    system: list[str] = Field(default_factory=list, description="platform.system() is one of these")
    executable: list[str] = Field(default_factory=list, description="one of these is on PATH")
    fetched: str = Field(default="", description="or playwright has fetched this browser, where the executable is not")
    command: list[str] = Field(default_factory=list, description="this command exits with 0 ...")
    prints: str = Field(default="", description="... and its output matches this pattern; the match is recorded")
    files: list[str] = Field(default_factory=list, description="one of these glob patterns matches a file ...")
    contains: str = Field(default="", description="... and one such file holds this text")

    def on_processor(self, machine: str) -> bool:
        """Whether `machine`, in the words of platform.machine(), is one of those asked for; any where none is."""
        return not self.machine or machine.lower() in [name.lower() for name in self.machine]

    @field_validator("prints")
    @classmethod
    def _is_a_pattern(cls, prints: str) -> str:
        try:
            re.compile(prints)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{prints!r} is no regular expression: {error}") from error
        return prints

    @model_validator(mode="after")
    def _fetched_stands_for_an_executable(self) -> Signs:
        if self.fetched and not self.executable:
            raise ValueError("fetched belongs with executable, which it stands in for")
        return self

    @model_validator(mode="after")
    def _some_condition(self) -> Signs:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError(f"needs at least one condition of: {', '.join(type(self).model_fields)}")
        return self


_PROCESSORS = ("cpu", "wasm")
"""Devices, as targets and attestations name them, that are the processor itself."""


class Target(Entry):
    """One kind of hardware an option can run on."""

    name: str
    name_zh: str = Field(default="", description="the same in Chinese; empty: as it is")
    device: str = Field(description="what an attestation must name as the device")
    needs: str = Field(description="what a machine needs for it, in words a newcomer can act on")
    needs_zh: str = Field(default="", description="the same in Chinese; empty: as it is")
    detect: Signs
    describe: list[str] = Field(
        default_factory=list,
        description="arguments with which the command or executable of `detect` names the device, a line a kind",
    )
    chosen_by: str = Field(default="", description="variable with which a user chooses among several such devices")
    timed: bool = Field(default=True, description="whether a latency here says anything about the target")
    threaded: bool = Field(default=True, description="whether threads are asked for here, and so must be attested")
    cpu_bound: bool = Field(default=False, description="whether an inference keeps a CPU busy from beginning to end")
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
    imitates: str = Field(
        default="", description="target of which results here are an indication and no more, though nothing is emulated"
    )

    @model_validator(mode="after")
    def _emulation_is_whole(self) -> Target:
        if bool(self.emulator) != bool(self.emulates) or (self.emulator and self.timed):
            raise ValueError("emulator and emulates belong together, and with timed = false")
        if self.imitates and (self.emulates or self.timed):
            raise ValueError("imitates belongs with timed = false, and not with an emulator")
        return self

    @property
    def is_processor(self) -> bool:
        """Whether the processor itself infers, in a browser or not, and no device beside it."""
        return self.device in _PROCESSORS

    @property
    def stands_in_for(self) -> str:
        """The target that results here say something of, emulated or imitated; empty: this one itself."""
        return self.emulates or self.imitates

    def lacks(self, compute: Compute, flags: Collection[str]) -> bool:
        """Whether a processor with these features cannot compute so; features that are not known lack nothing."""
        feature = self.arithmetic.get(compute, "")
        return bool(flags and feature) and feature not in flags


class ParityFigures(Entry):
    """Differences of raw outputs from PyTorch FP32's on the same inputs: boxes in px of the network input, scores."""

    box_max: PositiveFloat | None = None
    box_mean: PositiveFloat | None = None
    box_p999: PositiveFloat | None = None
    score_max: PositiveFloat | None = None
    score_mean: PositiveFloat | None = None
    score_p999: PositiveFloat | None = None

    def given(self) -> dict[str, float]:
        """Those that were given, by name."""
        named = {name: getattr(self, name) for name in ParityFigures.model_fields}
        return {name: value for name, value in named.items() if value is not None}


class ParityLimit(ParityFigures):
    """How far raw outputs may be from PyTorch FP32's at most, by an arithmetic, and how far they must be at least."""

    least: ParityFigures = Field(
        default=ParityFigures(), description="nearer than that something finer was computed than this arithmetic"
    )
    reason: str = Field(min_length=1, description="why this much and no more, and no less")


class Parity(Entry):
    """On how many images raw outputs are compared with PyTorch FP32."""

    images: PositiveInt = 4


class Latency(Entry):
    """How long and how precisely latency is measured.

    Every cell has `min_launches`; how much they differ fixes how many it has in all, as far as `max_launches` and
    `budget_s` allow.
    """

    samples: PositiveInt = Field(default=10, description="timed inferences per turn")
    turn_s: PositiveFloat = Field(default=3.0, description="fewer inferences per turn where they would take longer")
    warmup: int = Field(default=2, ge=0, description="untimed inferences before them")
    rounds: PositiveInt = Field(default=2, description="interleaved rounds of a launch")
    forks: bool = Field(
        default=False,
        description="launches are forked from a process that has imported the runtime, where a new one is no better",
    )
    min_launches: int = Field(default=6, ge=3, description="launches of the first stage, which fixes their number")
    max_launches: PositiveInt = Field(default=20, description="launches of a cell at most")
    half_width: PositiveFloat = Field(default=0.02, description="half of the interval aimed at, relative")
    budget_s: PositiveFloat = Field(
        default=300.0, description="seconds of a time window, by which launches after the first stage are fixed"
    )

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
    description_zh: str = Field(default="", description="the same in Chinese; empty: as it is")
    options: list[str] = Field(default=["*"])
    precisions: list[str] = Field(default=["*"])
    targets: list[str] = Field(default=["*"])
    exclude: list[str] = Field(
        default=[], description="what to leave out: <option>-<precision>, or <option>-<precision>-<target>"
    )
    imgsz: list[Annotated[int, Field(ge=32, le=LARGEST, multiple_of=32)]] = Field(default=[320])
    batch: list[Count] = Field(default=[1])
    threads: list[Count] = Field(default=[1])
    images: PositiveInt | None = Field(default=None, description="validation images; absent: all")
    calibration_images: PositiveInt = 64
    parity: Parity = Parity()
    accuracy: Accuracy = Accuracy()
    latency: Latency = Latency()
    deadlines: Deadlines = Deadlines()
