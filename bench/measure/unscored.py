"""What a cell predicts until it is scored: on disk, a shard of images at a time, where a stopped run finds it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.store.shards import Shards
from bench.tasks.task import AnyTask

FOLDER = "unscored"
"""Of a run: a folder for each cell that is being evaluated."""
IMAGES = 64
"""Images of a shard: so many predictions are in memory at most, and lost with a process that is killed."""


class Unscored:
    """Predictions of one cell, by image id.  Left as a context, it has written what it holds, also after an error."""

    def __init__(self, run: Path, cell_id: str, task: AnyTask, artifact_sha256: str) -> None:
        """Take up what is there of the very artifact; predictions of another are deleted.  Raises StoreError."""
        folder = run / FOLDER / cell_id.replace("/", "-")
        self._task = task
        self._shards = Shards(folder, artifact_sha256)
        self._held: dict[int, Any] = {}
        self.done: set[int] = set()
        """Ids of the images that there are predictions of."""
        for shard in self._shards.read(["image_id"]):
            self.done.update(shard["image_id"].to_pylist())

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is held."""
        self.flush()

    def add(self, found: Mapping[int, Any]) -> None:
        """Take predictions of images, of which those that are there already stay.  Raises StoreError."""
        self._held |= {image: one for image, one in found.items() if image not in self.done}
        self.done |= found.keys()
        if len(self._held) >= IMAGES:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a shard.  Raises StoreError."""
        if self._held:
            self._shards.add(self._task.pack(self._held))
            self._held = {}

    def predictions(self) -> dict[int, Any]:
        """All of them, in memory: what a cell's score is computed from.  Raises StoreError."""
        self.flush()
        return {image: one for shard in self._shards.read() for image, one in self._task.unpack(shard).items()}

    def remove(self) -> None:
        """Delete them: they were scored and stored.  Raises StoreError."""
        self._held = {}
        self._shards.remove()
