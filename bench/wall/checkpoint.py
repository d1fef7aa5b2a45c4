"""The checkpoint under test: found or fetched, and what it says of itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.environments.locked import Env, Environments
from bench.files import expanded, replacing
from bench.places import EXPORTERS
from bench.reasons import CellProblem, Problems, Reason, Remark, UsageError
from bench.wall.confinement import CONFINED, Confinement
from bench.wall.worker import Worker

EXPORTER = EXPORTERS / "checkpoint.py"
ENVIRONMENT = "export-torch"
# What ultralytics publishes by name: yolo11n.pt, yolov8s.pt, yolov5mu.pt ...
_OFFICIAL = re.compile(r"^yolo(v\d+|\d+)[a-z]{0,2}\d*[a-z]?\.pt$")
_SECONDS = 300.0
TASK, CHANNELS = "detect", 3
"""What is benched: detection in images of red, green and blue."""
_MOVES_TOLD = 8
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
# How the user's programs reach the network.  A proxy's variable is read in either case of letters.
_NETWORK = (
    *_PROXIES,
    *(name.lower() for name in _PROXIES),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)


@dataclass(frozen=True)
class Checkpoint:
    """An Ultralytics checkpoint, and what it says of itself.

    `name` is its file stem, `names` its classes by index, `stride` the px of the network input that its coarsest
    outputs are apart: an image size is a multiple of it.  `raw` says whether its head gives boxes and scores per
    anchor, `end2end` whether it chooses among them itself, `dual` whether it has a branch that would, `channels` those
    of its images (None: no convolution takes them), `imgsz` the size it was trained at, `written` by which Ultralytics
    and when, as far as it says.
    """

    path: Path
    name: str
    sha256: str
    names: Mapping[int, str]
    stride: int
    task: str = TASK
    head: str = "Detect"
    raw: bool = True
    end2end: bool = False
    dual: bool = False
    channels: int | None = CHANNELS
    parameters: int = 0
    architecture: str = ""
    imgsz: int | None = None
    written: str = ""

    def require_usable(self) -> None:
        """Raise Problems unless it is a detector of colour images whose raw outputs can be decoded here."""
        found = []
        if self.task != TASK:
            found.append(f"is a model for '{self.task}'; this bench measures detection ('{TASK}') only")
        elif self.end2end:
            found.append(
                "has an end-to-end head (YOLO26, YOLOv10), whose output is final detections, and the bench compares "
                "raw outputs and decodes them itself; give a model without that head, such as YOLO11 or YOLOv8"
            )
        elif not self.raw:
            found.append(f"has the head {self.head}; only Detect, as in YOLO11, can be decoded here")
        if self.channels is not None and self.channels != CHANNELS:
            found.append(
                f"takes images of {self.channels} channel{'s' * (self.channels > 1)}; the bench gives every network "
                f"{CHANNELS}, red, green and blue"
            )
        if found:
            raise Problems(f"{self.path} {text}" for text in found)

    def require_classes(self, names: Mapping[int, str], data: Path) -> None:
        """Raise UsageError unless the data file names as many classes as the model has, none in another's place."""
        if len(names) != len(self.names):
            remedy = "give the data file that the model was trained with"
            if len(self.names) == 1:
                remedy += (
                    "; where that is this one and training was told single_cls=True, which takes all objects for one "
                    f"class, give a copy of it with `names: [{next(iter(self.names.values()))}]` whose label rows all "
                    "begin with 0"
                )
            raise UsageError(
                f"{self.path.name} detects {len(self.names)} classes ({_some(self.names)}), but {data} names "
                f"{len(names)} ({_some(names)}): {remedy}"
            )
        own, theirs = _places(self.names), _places(names)
        moved = [name for name in own if theirs.get(name, own[name]) != own[name]]
        if moved:
            first = moved[0]
            order = "in another order" if set(own) == set(theirs) else "at other indices"
            raise UsageError(
                f"{data} names classes of {self.path.name} {order}: '{self.names[own[first]]}' is class "
                f"{own[first]} of the model and class {theirs[first]} of the data file, and {len(moved)} of "
                f"{len(names)} are elsewhere ({_moves(own, theirs, moved)}). Labels would count for other classes: "
                f"bring 'names', and labels that follow it, into the model's order ({_some(self.names)})"
            )

    def renamed(self, names: Mapping[int, str]) -> Remark | None:
        """On classes that a data file, whose `names` are told apart, calls something else; None without any."""
        other = [
            index
            for index, name in sorted(self.names.items())
            if names[index].casefold() not in (name.casefold(), f"{name} ({index})".casefold())
        ]
        if not other:
            return None
        first = other[0]
        text = (
            f"Classes are matched by index: {len(other)} of {len(names)} have another name in the data file than in "
            f"{self.path.name} (class {first} is '{names[first]}' there and '{self.names[first]}' in the model)."
        )
        return Remark("renamed_classes", len(other), text)

    def second_branch(self) -> Remark | None:
        """On a head with a branch that is not benched; None for one without."""
        if not self.dual or self.end2end:
            return None
        text = (
            f"{self.path.name} has an end-to-end branch beside the one whose boxes are suppressed afterwards; the "
            "latter is benched, as Ultralytics exports it unless told otherwise."
        )
        return Remark("dual_head", 1, text)

    def require_sizes(self, sizes: Iterable[int]) -> None:
        """Raise UsageError unless image sizes, in px, are multiples of the stride."""
        wrong = sorted(size for size in sizes if size % self.stride)
        if wrong:
            raise UsageError(
                f"imgsz {', '.join(map(str, wrong))}: {self.path.name} takes multiples of {self.stride} px; "
                "choose others with --imgsz"
            )


def told(models: Mapping[str, Checkpoint]) -> dict[str, str]:
    """The facts `model` and `model_sha256` of a run of these: several in order of their names, commas between them."""
    names = sorted(models)
    return {"model": ", ".join(names), "model_sha256": ", ".join(models[name].sha256 for name in names)}


def require_different(models: Mapping[str, Checkpoint]) -> None:
    """Raise UsageError where two of them have one content: they would be measured twice, and compared for nothing."""
    first: dict[str, Checkpoint] = {}
    for one in models.values():
        other = first.setdefault(one.sha256, one)
        if other is not one:
            raise UsageError(f"--model: {other.path} and {one.path} hold the same model; leave one of them out")


def resolve(given: str, environments: Environments, cache: Path) -> Checkpoint:
    """The checkpoint `given` as `look` finds it.  Raises as that does, and Problems for one that cannot be benched."""
    found = look(given, environments, cache)
    found.require_usable()
    return found


def look(given: str, environments: Environments, cache: Path) -> Checkpoint:
    """The checkpoint `given` as a path or an official name; an official name is fetched by ultralytics.

    Reading a checkpoint runs Python code that is stored in it (pickle), so it happens in a guest, once per content.
    Raises UsageError when there is no such file, it cannot be read or fetched, or it is no Ultralytics checkpoint;
    CellProblem where the guest that looks into it cannot be installed or dies, which is not the checkpoint's fault.
    """
    path = expanded("--model", given)
    content = _content(path)
    if content is None:
        if not _OFFICIAL.match(given):
            raise UsageError(
                f"--model {given}: no such file. Give the path of an Ultralytics detect checkpoint (.pt), or leave "
                "--model and --data out to use the embedded demo model"
            )
        path = _fetch(given, environments, cache)
        content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return described(path.resolve(), digest, _inspect(path.resolve(), digest, environments, cache))


def described(path: Path, digest: str, facts: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint at `path`, whose SHA-256 is `digest`, by the facts that it says of itself."""
    return Checkpoint(
        path=path,
        name=path.stem,
        sha256=digest,
        names={int(index): str(name) for index, name in facts["names"].items()},
        stride=max(facts["strides"]),
        task=facts["task"],
        head=facts["head"],
        raw=facts["raw"],
        end2end=facts["end2end"],
        dual=facts["dual"],
        channels=facts["channels"],
        parameters=facts["params"],
        architecture=facts["architecture"],
        imgsz=facts["imgsz"] if isinstance(facts["imgsz"], int) else None,
        written=" ".join(filter(None, (facts["ultralytics"], facts["date"][:10]))),
    )


def _content(path: Path) -> bytes | None:
    """The bytes of a file, None where there is none.  Raises UsageError for one that cannot be read."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise UsageError(
            f"--model {path}: cannot be read: {error.strerror}. Check the path and the permissions of its folders"
        ) from error


def _inspect(path: Path, digest: str, environments: Environments, cache: Path) -> dict[str, Any]:
    """What the checkpoint says of itself, kept in the cache by content and by the code that asked."""
    kept = _memory(digest, environments, cache)
    known = _kept(kept) or _kept(_brought(digest, cache))
    if known is not None:
        return known
    env = environments.ensure(ENVIRONMENT)
    try:
        facts = _call(env, environments.variables(), CONFINED, "inspect", {"weights": str(path)})
    except CellProblem as problem:
        if problem.reason is not Reason.EXPORT_FAILED:
            raise CellProblem(problem.reason, f"looking into {path}: {problem.text}", problem.status) from problem
        raise UsageError(
            f"{path} cannot be used: {problem.text}\n"
            "Give an Ultralytics detect checkpoint (.pt), or leave --model and --data out for the embedded demo model"
        ) from problem
    with suppress(OSError), replacing(kept) as sink:  # a cache that cannot be written costs the next run a minute
        sink.write(json.dumps(facts).encode())
    return facts


def carry(digest: str, environments: Environments, cache: Path, target: Path) -> None:
    """Bring what is kept of a checkpoint that was looked into to another cache, for machines that cannot look.

    Raises OSError.
    """
    with replacing(_brought(digest, target)) as sink:
        sink.write(_memory(digest, environments, cache).read_bytes())


def _memory(digest: str, environments: Environments, cache: Path) -> Path:
    """Where the cache keeps what a checkpoint says, by what looks."""
    code = hashlib.sha256(EXPORTER.read_bytes() + environments.identity(ENVIRONMENT).encode()).hexdigest()
    return cache / "checkpoints" / f"{digest[:24]}-{code[:12]}.json"


def _brought(digest: str, cache: Path) -> Path:
    """Where it keeps what another machine found."""
    return cache / "checkpoints" / f"{digest[:24]}-carried.json"


def _kept(path: Path) -> dict[str, Any] | None:
    """What the cache keeps of a checkpoint; None where there is nothing, or nothing of use."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        names = {int(index): str(name) for index, name in facts["names"].items()}
        strides = [int(stride) for stride in facts["strides"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return {**facts, "names": names, "strides": strides} if names and strides else None


def _fetch(name: str, environments: Environments, cache: Path) -> Path:
    """An official checkpoint in the cache, downloaded now if need be, as the user's programs reach the network."""
    target = cache / "checkpoints" / name
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"--model {name}: cannot make {target.parent}: {error.strerror}; choose another --cache"
        raise UsageError(text) from error
    env = environments.ensure(ENVIRONMENT)
    network = {key: os.environ[key] for key in _NETWORK if key in os.environ}
    variables = environments.variables() | network | {"YOLO_OFFLINE": "false"}
    downloading = Confinement(network=True, writable=(target.parent,))
    try:
        _call(env, variables, downloading, "fetch", {"name": name, "output": str(target)})
    except CellProblem as problem:
        raise UsageError(
            f"--model {name}: no such file here, and ultralytics could not download it: {problem.text}\n"
            "Check the network, the proxy (HTTPS_PROXY) and its certificate (REQUESTS_CA_BUNDLE); or copy the "
            "checkpoint here and give its path, or leave --model and --data out to use the embedded demo model"
        ) from problem
    return target


def _call(
    env: Env, variables: Mapping[str, str], confinement: Confinement, function: str, arguments: Mapping[str, str]
) -> dict[str, Any]:
    with Worker(env.python, EXPORTER, variables=variables, confinement=confinement) as guest:
        return guest.call(function, arguments, timeout=_SECONDS)


def _some(names: Mapping[int, str]) -> str:
    shown = ", ".join(list(names.values())[:4])
    return shown + (", ..." if len(names) > 4 else "")


def _moves(own: Mapping[str, int], theirs: Mapping[str, int], moved: Sequence[str]) -> str:
    """The permutation found, by index: model's 0, 1 = data file's 1, 0."""
    told = moved[:_MOVES_TOLD]
    more = ", ..." if len(moved) > len(told) else ""
    ours, others = (", ".join(str(places[name]) for name in told) for places in (own, theirs))
    order = "; the data file's names are in alphabetical order" * (list(theirs) == sorted(theirs))
    return f"the model's {ours}{more} are the data file's {others}{more}{order}"


def _places(names: Mapping[int, str]) -> dict[str, int]:
    """Index of every name that only one class has, without regard to case, in their order."""
    folded = {index: name.strip().casefold() for index, name in names.items()}
    times = Counter(folded.values())
    return {name: index for index, name in sorted(folded.items()) if times[name] == 1}
