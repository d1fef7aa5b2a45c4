"""A worker whose guest another worker's guest forks, once it has imported its adapter and before it loads anything."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from bench.guest.forking import LOG
from bench.guest.server import FOLDER
from bench.wall.confinement import Confinement
from bench.wall.worker import Worker, own_folders


class Child(Worker):
    """What a worker with a new process is once that has imported the adapter, a second or more sooner.

    It has its parent's CPUs and threads, and may outlive it.
    """

    def __init__(
        self,
        parent: Worker,
        place: Path | None = None,
        log_path: Path | None = None,
        *,
        adapter: Path | None = None,
        confinement: Confinement | None = None,
    ) -> None:
        """Nothing is forked yet; `parent` must run then.

        It works in `place`, which the parent's guest may write to and which goes with this one, or in a new folder
        inside the parent's own, and must then end before it.  `log_path` is as for any worker.

        It serves an `adapter` of its own where one is given, and what the parent has imported is there already.
        `confinement` is what it keeps of what its parent may reach; by default all of that.
        """
        vars(self).update(vars(parent))
        self._parent = parent
        self._scratch = place
        self._log_path = log_path
        self._changed: dict[str, str] = {}
        self._keeps = confinement
        self._guest = None
        self._expected = {}
        self.first_inference_ms = self.last_inference_ms = None
        if adapter is not None:
            self._name = adapter.stem
            self._changed["adapter"] = str(adapter)

    def _work_in(self) -> Path:
        return self._scratch or Path(tempfile.mkdtemp(prefix=FOLDER, dir=self._parent.folder))

    def _begin(self) -> None:
        kept = self._keeps.folders(own_folders(self.folder, self._variables)) if self._keeps is not None else []
        self._guest = self._parent.fork(self._name, self.folder, {**self._changed, "writable": kept})

    def close(self) -> None:
        """End the guest and remove its files; what it wrote to standard error, in its folder alone, joins the log."""
        if self._guest is not None and self._scratch is not None and self._log_path is not None:
            self._guest.close()
            with contextlib.suppress(OSError), self._log_path.open("ab") as log:
                log.write((self._scratch / LOG).read_bytes())
        super().close()
