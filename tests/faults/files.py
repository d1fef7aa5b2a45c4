"""Faults of files: what a disk, a copy that was cut short or another program leaves in the place of one of ours."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from faults.holds import asked, ended
from faults.kinds import Kind, Outcome, Setting
from running import Done

from bench.environments.locked import Environments
from bench.reasons import CellProblem, StoreError, UsageError
from bench.store.tables import read_table
from bench.tasks.detect.task import DETECT
from bench.wall.artifacts import MANIFEST, Artifacts

Damage = Callable[[bytes, Random], bytes]


def truncated(data: bytes, random: Random) -> bytes:
    """Cut short anywhere, also before the first byte."""
    return data[: random.randrange(max(len(data), 1))]


def flipped(data: bytes, random: Random) -> bytes:
    """One bit is another."""
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


def zeroed(data: bytes, random: Random) -> bytes:
    """A block of zeros, as a file system leaves where it lost one."""
    start = random.randrange(len(data))
    end = min(len(data), start + random.randrange(1, 513))
    return data[:start] + bytes(end - start) + data[end:]


def scrambled(data: bytes, random: Random) -> bytes:
    """A block of anything."""
    start = random.randrange(len(data))
    end = min(len(data), start + random.randrange(1, 513))
    return data[:start] + random.randbytes(end - start) + data[end:]


def doubled(data: bytes, _random: Random) -> bytes:
    """Appended to itself."""
    return data + data


def other(_data: bytes, random: Random) -> bytes:
    """Something else altogether."""
    return random.choice(
        [b"", b"\0" * 100, b"{}", b"[]", b"null", b"[" * 100_000, "# 模型\n".encode("gbk"), b"PAR1PAR1"]
    )


DAMAGES: Sequence[Damage] = (truncated, flipped, zeroed, scrambled, doubled, other)


def damage(path: Path, random: Random) -> None:
    """Damage a file, or put something that is no file in its place."""
    kind = random.randrange(len(DAMAGES) + 3)
    if kind < len(DAMAGES):
        data = path.read_bytes()
        path.write_bytes(DAMAGES[kind](data, random) if data else b"?")
        return
    path.unlink()
    match kind - len(DAMAGES):
        case 0:
            path.mkdir()
        case 1:
            path.symlink_to(path.with_name("nowhere"))
        case 2:
            path.symlink_to(path)


def tables(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A table of a run that is shown, reported, and asked what to deploy."""
    run = shutil.copytree(setting.run, setting.scratch() / "run")
    path = random.choice(sorted(run.glob("*.parquet")))
    whole = read_table(setting.run, path.stem)
    damage(path, random)
    done = random.choice([_show, _show, _recommend, _report])(run)
    broken = ended(done, {0, 1, 2}, [path.name])
    try:
        now = read_table(run, path.stem)
    except StoreError as error:
        broken += _one_line(error, path)
        return [Outcome("refused", tuple(broken))]
    if not now.equals(whole):
        broken.append(f"{path.name} holds something else now, and nobody is told")
    return [Outcome("as it was", tuple(broken))]


def _show(run: Path) -> Done:
    return asked("show", run)


def _report(run: Path) -> Done:
    return asked("report", run, "--out", run.parent / "report.html")


def _recommend(run: Path) -> Done:
    return asked("recommend", run)


def cached(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A file of an artifact in the cache, or its manifest: found damaged before anything loads it."""
    artifact = random.choice(sorted(setting.artifacts.values(), key=lambda one: one.key))
    cache = setting.scratch()
    copy = shutil.copytree(artifact.directory, cache / "artifacts" / artifact.key)
    listed = [copy / file["path"] for file in artifact.manifest["files"]]
    path = random.choice([copy / MANIFEST, *listed])
    damage(path, random)
    try:
        found = Artifacts(cache, Environments(setting.matrices, cache)).find(artifact.key)
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is looked for
        return [Outcome(type(error).__name__, (f"{path.name}: {error!r}",))]
    if found is None:
        return [Outcome("found damaged")]
    same = found.sha256 == artifact.sha256 and found.manifest["entry"] == artifact.manifest["entry"]
    described = all(found.manifest[name] == artifact.manifest[name] for name in ("input", "output", "key"))
    told = () if same and described else (f"{path.name} was damaged and is taken for whole",)
    return [Outcome("as it was", told)]


def matrices(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A file of the matrix."""
    folder = setting.scratch() / "matrices"
    shutil.copytree(setting.matrices, folder, ignore=shutil.ignore_patterns("claims", "packages", "published"))
    wanted = [*folder.glob("options/*.toml"), *folder.glob("sweeps/*.toml"), folder / "targets.toml"]
    path = random.choice(sorted([*wanted, folder / "parity.toml"]))
    damage(path, random)
    sweep = path.stem if path.parent.name == "sweeps" else "smoke"
    done = asked("list", "--sweep", sweep, "--matrices", folder)
    named = [path.name, path.stem, "matrices"]  # an option that is gone is missed by others
    return [Outcome("refused" if done.code else "listed", tuple(ended(done, {0, 2}, named)))]


def markers(setting: Setting, random: Random) -> Sequence[Outcome]:
    """What says of a built environment that it is whole."""
    cache = setting.scratch()
    family = random.choice(["onnx", "pytorch", "export-torch"])
    env = Environments(setting.matrices, setting.cache).existing(family)
    if env is None:
        return [Outcome("not built")]
    real = env.python.parents[1]
    folder = cache / "envs" / real.name
    folder.mkdir(parents=True)
    for path in real.iterdir():
        if path.name != "complete.json":
            (folder / path.name).symlink_to(path)
    shutil.copy(real / "complete.json", folder)
    damage(folder / "complete.json", random)
    try:
        found = Environments(setting.matrices, cache).existing(family)
    except (UsageError, CellProblem) as error:
        return [Outcome("refused", tuple(_one_line(error, folder)))]
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is looked for
        return [Outcome(type(error).__name__, (f"complete.json of {family}: {error!r}",))]
    return [Outcome("built anew" if found is None else "as it was")]


def images(setting: Setting, random: Random) -> Sequence[Outcome]:
    """An image, a label file or the data file of a set."""
    folder = shutil.copytree(setting.data.parent, setting.scratch() / "data")
    path = random.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    damage(path, random)
    try:
        DETECT.load(folder / setting.data.name)
    except UsageError as error:
        return [Outcome("refused", tuple(_one_line(error, path)))]
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is looked for
        return [Outcome(type(error).__name__, (f"{path.name}: {error!r}",))]
    return [Outcome("loaded")]


def _one_line(error: Exception, path: Path) -> list[str]:
    """What is wrong with an error's words: they name the file and are no traceback."""
    text = str(error)
    return (
        [] if path.name in text or path.parent.name in text else [f"the error does not name {path.name}: {text[:300]}"]
    )


KINDS = (
    Kind(
        "damaged table",
        "a Parquet file of a run is cut, flipped, overwritten or replaced, then shown, reported or asked for advice",
        "what is read is what was written, or one line names the file",
        tables,
        full=340,
        short=8,
    ),
    Kind(
        "damaged artifact",
        "a file of a cached artifact, or its manifest, likewise",
        "it is found damaged and not loaded",
        cached,
        full=160,
        short=6,
    ),
    Kind(
        "damaged matrix",
        "an option, target, sweep or limit, likewise, then `list`",
        "one line names the file, or it still says what it said",
        matrices,
        full=100,
        short=4,
    ),
    Kind(
        "damaged environment marker",
        "what says that an environment is whole, likewise",
        "the environment is as it was, or is made anew",
        markers,
        full=40,
        short=3,
    ),
    Kind(
        "damaged data set",
        "an image, a label file or the data file, likewise",
        "one line names the file, or the set is loaded",
        images,
        full=110,
        short=5,
    ),
)
