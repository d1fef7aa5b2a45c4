"""Upright sizes of images, each decoded once: what a file's content decoded to is remembered from run to run."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import PIL
from pydantic import BaseModel, PositiveInt, ValidationError

from bench.files import replacing
from bench.reasons import Collector
from bench.tasks import images
from bench.tasks.images import file_content, upright_size

# Decoded images wait in memory, so that the number of readers is not that of the cores.
_READERS = 4


@dataclass(frozen=True, slots=True)
class Size:
    """Of an image: `width` and `height` in px of its upright pixels, `content` the SHA-256 of its file."""

    width: int
    height: int
    content: str


class _Kept(BaseModel):
    """The remembered sizes of a split: (width, height) by content, and what decoded them."""

    decoder: str
    sizes: dict[str, tuple[PositiveInt, PositiveInt]]


class Sizes:
    """Reads sizes, and remembers them in a file where one is given.

    An image that cannot be used is not remembered: it is looked at, and told, every time.
    """

    def __init__(self, kept: Path | None = None) -> None:
        """Take what is remembered in `kept`; a damaged file, or one that other decoders made, holds nothing."""
        self._kept = kept
        self._decoder = _decoder()
        self._known: dict[str, tuple[int, int]] = {}
        self._learnt = False
        if kept is not None:
            with suppress(OSError, ValidationError):
                read = _Kept.model_validate_json(kept.read_bytes())
                if read.decoder == self._decoder:
                    self._known = dict(read.sizes)

    def of(self, paths: Sequence[Path], problems: Collector) -> list[Size | None]:
        """Sizes of images in their order; None for those that cannot be used, each of which is one of the `problems`.

        Several are read at once.
        """
        pool = ThreadPoolExecutor(_READERS)
        try:
            with warnings.catch_warnings():
                # What Pillow thinks of headers: of large images, which are fine here, and of damaged EXIF data.
                warnings.filterwarnings("ignore", module=r"PIL\.")
                looks = [pool.submit(self._look, path) for path in paths]
                found = [problems.of(look.result) for look in looks]
        finally:
            pool.shutdown(cancel_futures=True)
        self._remember()
        return found

    def _look(self, path: Path) -> Size:
        data = file_content(path)
        content = hashlib.sha256(data).hexdigest()
        known = self._known.get(content)
        if known is None:
            known = upright_size(path, data)
            self._known[content] = known
            self._learnt = True
        return Size(*known, content)

    def _remember(self) -> None:
        if self._kept is None or not self._learnt:
            return
        text = _Kept(decoder=self._decoder, sizes=self._known).model_dump_json()
        with suppress(OSError), replacing(self._kept) as sink:  # it only costs decoding them again
            sink.write(text.encode())
        self._learnt = False


def _decoder() -> str:
    """What decides an image's size: the libraries that decode it, and our own code."""
    code = hashlib.sha256(Path(images.__file__).read_bytes()).hexdigest()
    return f"OpenCV {cv2.__version__}, Pillow {PIL.__version__}, {code}"
