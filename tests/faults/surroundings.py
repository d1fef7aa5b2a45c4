"""Faults of what is around a whole run: disks, folders, caches, clocks, images, another run."""

from __future__ import annotations

import contextlib
import resource
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random

from faults import machine
from faults.going import KEPT, UNTIMED, going, judged, moment
from faults.kinds import Kind, Outcome, Setting

from bench.demo import CHECKPOINT


def full(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Results on a small disk."""
    scratch = setting.scratch()
    kib = random.choice([20, 60, 100, 140, 180, 220, 300])
    with machine.small_disk(scratch / "disk", kib) as disk, going(setting, scratch, *UNTIMED, results=disk) as one:
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2})]


def read_only(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Results on a disk that becomes read-only."""
    scratch = setting.scratch()
    with machine.small_disk(scratch / "disk", 20_000) as disk, going(setting, scratch, *UNTIMED, results=disk) as one:
        one.wait(moment(setting, random, timed=False))
        machine.make_read_only(disk)
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2}, tidy=False)]


def never_writable(setting: Setting, _random: Random) -> Sequence[Outcome]:
    """Results in a folder that cannot be written from the beginning."""
    scratch = setting.scratch()
    with machine.small_disk(scratch / "disk", 1000) as disk:
        machine.make_read_only(disk)
        with going(setting, scratch, *UNTIMED, results=disk) as one:
            one.follow(lambda: False)
            return [judged(one, scratch, {2}, names=[str(disk)])]


def moved(setting: Setting, random: Random) -> Sequence[Outcome]:
    """The run's folder is moved elsewhere while it goes on."""
    scratch = setting.scratch()
    with going(setting, scratch, *UNTIMED) as one:
        one.wait(moment(setting, random, timed=False))
        with contextlib.suppress(FileNotFoundError):  # it was not there yet
            one.watched.run.rename(scratch / "elsewhere")
            one.watched.run = scratch / "elsewhere"
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2}, tidy=False)]


def cleaned(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Artifacts, or what else the cache keeps beside environments, are deleted while a run goes on."""
    scratch = setting.scratch()
    cache = scratch / "cache"
    shutil.copytree(setting.cache, cache, symlinks=True)
    with going(setting, scratch, *UNTIMED, cache=cache) as one:
        one.wait(moment(setting, random, timed=False))
        for place in (cache / "artifacts", cache / "home"):
            shutil.rmtree(place, ignore_errors=True)
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2})]


def short_files(setting: Setting, random: Random) -> Sequence[Outcome]:
    """No file of the run may be longer than so much, from some moment on."""
    scratch = setting.scratch()
    with going(setting, scratch, *UNTIMED) as one:
        one.wait(moment(setting, random, timed=False))
        with contextlib.suppress(OSError):
            machine.limit(one.process.pid, resource.RLIMIT_FSIZE, random.randrange(1_000, 60_000))
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2})]


def no_room(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Temporary files on a small disk."""
    scratch = setting.scratch()
    kib = random.choice([4, 100, 320, 400, 640])
    with machine.small_disk(scratch / "tmp", kib) as disk, going(setting, scratch, *UNTIMED, temporary=disk) as one:
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2})]


def read_only_cache(setting: Setting, _random: Random) -> Sequence[Outcome]:
    """A cache that is all there and cannot be written."""
    scratch = setting.scratch()
    with machine.small_disk(scratch / "cache", 60_000) as disk:
        shutil.copytree(setting.cache, disk, symlinks=True, dirs_exist_ok=True)
        machine.make_read_only(disk)
        with going(setting, scratch, *UNTIMED, cache=disk) as one:
            one.follow(lambda: False)
            return [judged(one, scratch, {0, 1, 2})]


def jumping(setting: Setting, random: Random) -> Sequence[Outcome]:
    """The wall clock jumps, far forward or back."""
    scratch = setting.scratch()
    by = random.choice([-400 * 86_400, -3_600, 3_600, 86_400, 3_650 * 86_400])
    variables = {
        "LD_PRELOAD": str(machine.clock_library(setting.folder)),
        "JUMP_AFTER": str(random.randrange(1, 15)),
        "JUMP_BY": str(by),
    }
    with going(setting, scratch, *UNTIMED, variables=variables) as one:
        one.follow(lambda: False)
        return [judged(one, scratch, {0})]


def other_monotonic(setting: Setting, random: Random) -> Sequence[Outcome]:
    """The monotonic clock counts from elsewhere."""
    scratch = setting.scratch()
    ahead = str(random.randrange(10, 10**9))
    prefix = ["unshare", "--time", "--monotonic", ahead, "--boottime", ahead]
    with going(setting, scratch, *UNTIMED, prefix=prefix) as one:
        one.follow(lambda: False)
        return [judged(one, scratch, {0})]


def two_at_once(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Two runs of one name, started together: one has it."""
    scratch = setting.scratch()
    with ExitStack() as stack:
        both = []
        for _ in range(2):
            both.append(stack.enter_context(going(setting, scratch, "-k", "export or footprint")))
            time.sleep(random.choice([0.0, random.uniform(0, 0.5)]))
        for one in both:
            one.follow(lambda: False)
        codes = [one.end().code for one in both]
        broken = [] if sorted(codes) == [0, 2] else [f"exit codes {codes}: one run has the name, the other has not"]
        found = [judged(one, scratch, {0, 2}) for one in both]
    return [Outcome(f"exit {codes}", tuple(dict.fromkeys([*broken, *(text for one in found for text in one.broken)])))]


def beside(setting: Setting, random: Random) -> Sequence[Outcome]:
    """Two runs of different names on one cache and one machine: both are made."""
    scratch = setting.scratch()
    with going(setting, scratch, *UNTIMED) as one:
        one.wait(random.uniform(0, 3.0))
        with going(setting, scratch, *UNTIMED, name="other") as other:
            for each in (one, other):
                each.follow(lambda: False)
            found = [judged(each, scratch, {0}) for each in (one, other)]
    return [found[0].worse(found[1].broken)]


def vanishing(setting: Setting, random: Random) -> Sequence[Outcome]:
    """An image is deleted or replaced while it is evaluated."""
    scratch = setting.scratch()
    data = shutil.copytree(setting.data.parent, scratch / "data") / setting.data.name
    images = sorted(data.parent.glob("images/val/*.png"))
    arguments = ("--model", str(CHECKPOINT), "--data", str(data), "--images", str(len(images)))
    with going(setting, scratch, *UNTIMED, *arguments) as one:
        one.wait(moment(setting, random, timed=False))
        path = random.choice(images)
        path.unlink()
        if random.random() < 0.5:
            shutil.copy(Path(__file__), path)
        one.follow(lambda: False)
        return [judged(one, scratch, {0, 1, 2}, names=[path.name])]


def healed(setting: Setting, random: Random) -> Sequence[Outcome]:
    """A cached artifact that is damaged is exported again, and the run says so."""
    scratch = setting.scratch()
    cache = scratch / "cache"
    shutil.copytree(setting.cache, cache, symlinks=True)
    artifact = setting.artifacts["pytorch"]
    path = cache / "artifacts" / artifact.key / artifact.manifest["entry"]
    path.write_bytes(path.read_bytes()[: random.randrange(path.stat().st_size)])
    with going(setting, scratch, "-k", "pytorch and footprint", cache=cache) as one:
        one.follow(lambda: False)
        found = judged(one, scratch, {0})
        said = one.output.read_text(encoding="utf-8", errors="replace")
    told = () if "was damaged" in said else ("the run does not say that an artifact was damaged",)
    return [found.worse(told)]


KINDS = (
    Kind("full disk", "results on a file system of 20 to 300 KiB", f"one line, exit code 2; {KEPT}", full, full=6,
         lacks=machine.lacks_mounts),
    Kind("disk becomes read-only", "results on a file system that is remounted", f"one line, exit code 2; {KEPT}",
         read_only, full=4, lacks=machine.lacks_mounts),
    Kind("read-only results", "results on a file system that was never writable", "one line names it, exit code 2",
         never_writable, full=2, lacks=machine.lacks_mounts),
    Kind("results moved", "the run's folder is renamed at a random moment", f"one line, or it goes on; {KEPT}", moved,
         full=4),
    Kind("run's files cut short", "RLIMIT_FSIZE of 1 to 60 kB, at a random moment", f"one line, exit code 2; {KEPT}",
         short_files, full=6, lacks=machine.lacks_limits),
    Kind("no room for temporary files", "TMPDIR on a file system of 4 to 640 KiB", f"reasons or one line; {KEPT}",
         no_room, full=4, lacks=machine.lacks_mounts),
    Kind("read-only cache", "a whole cache on a file system that cannot be written", f"reasons or one line; {KEPT}",
         read_only_cache, full=2, lacks=machine.lacks_mounts),
    Kind("cache cleaned", "artifacts and the guests' home are deleted at a random moment", f"reasons or one line; "
         f"{KEPT}", cleaned, full=4),
    Kind("wall clock jumps", "an hour to ten years, forward or back, at a random moment", f"exit code 0; {KEPT}",
         jumping, full=6, lacks=machine.lacks_clocks),
    Kind("monotonic clock from elsewhere", "a time namespace", f"exit code 0; {KEPT}", other_monotonic, full=3,
         lacks=machine.lacks_time_namespaces),
    Kind("two runs of one name", "started at once", "one has it, the other is told so with exit code 2", two_at_once,
         full=4),
    Kind("two runs beside each other", "of different names, started at once", f"exit code 0 of both; {KEPT}", beside,
         full=4),
    Kind("image vanishes", "deleted or replaced at a random moment of a run", f"one line names it; {KEPT}", vanishing,
         full=4),
    Kind("damaged artifact in a run", "cut short in the cache", "it is exported again, and the run says so", healed,
         full=2),
)  # fmt: skip
