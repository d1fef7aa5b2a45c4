"""Writes the demo set to disk as an Ultralytics detection data set: PNG images, YOLO label files, one demo.yaml.

`prepare(cache)` returns the path of the data file and renders only what is not there yet.  A data set is one directory
whose name holds the generator's version, a hash over the generator's source and the splits with their sizes; it is
rendered beside its place and moved there by one rename, so a directory of that name is always whole.

The evaluation splits are `val` (images the accuracy is measured on) and `calib` (images INT8 calibration may see).
Ultralytics' data files know no calibration split and insist on a training one, so without the `train` split the
`train` key of demo.yaml points at the calibration images; the key `calib` names them in either case.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import cv2
import yaml
from filelock import Timeout

from bench.demo import raster, render, shapes
from bench.files import locked
from bench.reasons import UsageError

# First seed of each split; a split may not grow into the next one's range.
FIRST_SEED = {"val": 1_000_000, "calib": 2_000_000, "train": 3_000_000}
SPLIT_CAPACITY = 1_000_000
DEFAULT_COUNTS = {"val": 256, "calib": 128, "train": 3000}
LOCK_SECONDS = 600.0

Progress = Callable[[int, int], None]


def fingerprint() -> str:
    """First 12 hex digits of the SHA-256 over the generator's source: any change of it makes a new data set."""
    digest = hashlib.sha256()
    for module in (raster, shapes, render):
        assert module.__file__ is not None  # plain modules of this package always have a file
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()[:12]


def prepare(
    cache: Path,
    splits: Iterable[str] = ("val", "calib"),
    *,
    counts: dict[str, int] | None = None,
    size: int = 320,
    workers: int = 1,
    on_progress: Progress | None = None,
) -> Path:
    """Render the data set into `cache` unless it is there, and return the absolute path of its demo.yaml.

    `splits` are names of FIRST_SEED, `counts` overrides DEFAULT_COUNTS (images), `size` is the nominal side in px,
    `workers` the rendering processes.  `on_progress(done, total)` is called after each image, and not at all when the
    data set is already there.  Safe to call from several processes at once.  Raises UsageError for an unknown split,
    a count out of range, or a cache that cannot be written.
    """
    wanted = _wanted(splits, {**DEFAULT_COUNTS, **(counts or {})})
    name = f"demo-v{render.GENERATOR_VERSION}-{fingerprint()}-{size}px-" + "-".join(
        f"{s}{n}" for s, n in wanted.items()
    )
    cache = cache.expanduser().resolve()
    target = cache / name
    try:
        with locked(target, LOCK_SECONDS):
            if not target.is_dir():
                _build(target, wanted, size, workers, on_progress)
            return _data_file(target, wanted)
    except Timeout as error:
        raise UsageError(
            f"{error.lock_file} has been held for {LOCK_SECONDS:.0f} s by another run that renders the demo set; "
            "wait for it, or end it, then run again"
        ) from error
    except OSError as error:
        raise UsageError(
            f"cannot write the demo set to {target}: {error}; free some space or choose another cache"
        ) from error


def _wanted(splits: Iterable[str], counts: dict[str, int]) -> dict[str, int]:
    """Images of each split asked for, in the order of FIRST_SEED."""
    asked = set(splits)
    unknown = sorted((asked | set(counts)) - set(FIRST_SEED))
    if unknown or not {"val", "calib"} <= asked:
        raise UsageError(
            f"demo splits are val and calib, and train if wanted; got {', '.join(sorted(asked)) or 'none'}"
        )
    for split in sorted(asked):
        if not 1 <= counts[split] <= SPLIT_CAPACITY:
            raise UsageError(f"demo split {split} takes 1 to {SPLIT_CAPACITY} images, not {counts[split]}")
    return {split: counts[split] for split in FIRST_SEED if split in asked}


def _build(target: Path, wanted: dict[str, int], size: int, workers: int, on_progress: Progress | None) -> None:
    """Render everything into a temporary directory beside `target`, then rename it.  The caller holds the lock."""
    for stale in target.parent.glob(f".{target.name}-*"):
        shutil.rmtree(stale)  # left by a run that was killed; the lock says that none is at work
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        jobs: list[tuple[str, int]] = []
        for split, count in wanted.items():
            (staging / "images" / split).mkdir(parents=True)
            (staging / "labels" / split).mkdir(parents=True)
            jobs += [(split, FIRST_SEED[split] + k) for k in range(count)]
        write = partial(_write_image, staging, size)
        if workers > 1:
            # spawn: the caller may hold threads, and a forked OpenCV with threads can hang
            with multiprocessing.get_context("spawn").Pool(workers) as pool:
                _count(pool.imap_unordered(write, jobs, chunksize=16), len(jobs), on_progress)
        else:
            _count(map(write, jobs), len(jobs), on_progress)
        staging.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _count(done: Iterable[None], total: int, on_progress: Progress | None) -> None:
    for number, _ in enumerate(done, start=1):
        if on_progress is not None:
            on_progress(number, total)


def _write_image(root: Path, size: int, job: tuple[str, int]) -> None:
    """Render one image and its label file.  A label line is class, then box centre and size over the image's size."""
    split, seed = job
    image, boxes = render.render(seed, size)
    height, width = image.shape[:2]
    encoded, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not encoded:
        raise OSError(f"OpenCV could not encode image {seed} as PNG")
    (root / "images" / split / f"{seed}.png").write_bytes(data.tobytes())
    lines: list[str] = []
    for box in boxes:
        x, y = (box.x + box.w / 2) / width, (box.y + box.h / 2) / height
        lines.append(f"{box.category} {x:.7f} {y:.7f} {box.w / width:.7f} {box.h / height:.7f}\n")
    (root / "labels" / split / f"{seed}.txt").write_text("".join(lines), encoding="ascii")


def _data_file(target: Path, wanted: dict[str, int]) -> Path:
    """Write demo.yaml, which holds the absolute path, when it is absent or the directory has been moved since."""
    path = target / "demo.yaml"
    content = yaml.safe_dump(
        {
            "path": str(target),
            "train": f"images/{'train' if 'train' in wanted else 'calib'}",
            "val": "images/val",
            "calib": "images/calib",
            "names": dict(enumerate(render.NAMES)),
        },
        sort_keys=False,
    )
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        staging = path.with_suffix(".tmp")
        staging.write_text(content, encoding="utf-8")
        staging.replace(path)
    return path
