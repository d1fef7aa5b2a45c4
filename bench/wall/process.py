"""A guest process: started in a session of its own, spoken to in lines of JSON, ended without leaving anything behind.

Whatever ends it - a signal, an exit code, the deadline of a call, memory, an answer that is no protocol - becomes a
`CellProblem` with the right reason code and the last lines the guest wrote.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol, Self

from bench.guest import refusals
from bench.guest.forking import LOG
from bench.guest.server import PROTOCOL
from bench.reasons import CellProblem, Reason, Status
from bench.wall.forked import UNKNOWN, Forked, pipes

_TAIL_LINES = 20
_TAIL_BYTES = 16_384
_MAX_ANSWER = 16 * 1024 * 1024  # bytes; far above any honest answer, far below what would hurt the core
_POLL_S = 0.25  # how often a wait for an answer also looks whether the process is still there
_GRACE_S = 2.0  # how long a guest may take to end after it was asked to

# A guest names the class of what it raised.  These say that a cell cannot exist rather than that it failed ...
_REFUSALS = {
    refusals.PrecisionUnsupported.__name__: Reason.PRECISION_UNSUPPORTED,
    refusals.BatchUnsupported.__name__: Reason.BATCH_UNSUPPORTED,
    refusals.TargetAbsent.__name__: Reason.TARGET_ABSENT,
    refusals.TargetUnsupported.__name__: Reason.TARGET_UNSUPPORTED,
}
# ... and the message of these says all there is to say; a traceback would only bury it.
_EXPLAINED = (refusals.CheckpointError.__name__, refusals.ExportRefused.__name__)
_LIBRARY = re.compile(r"(?P<name>lib[\w.+-]+\.so[\d.]*): cannot open shared object file")
_MEMORY_KINDS = ("MemoryError", "OutOfMemoryError")
_MEMORY_WORDS = (
    "std::bad_alloc",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "failed to allocate memory",
)

_LIVE: weakref.WeakSet[GuestProcess] = weakref.WeakSet()
_LIVE_LOCK = threading.Lock()
"""Held while `_LIVE` changes or is gone through: artifacts are exported by several threads."""


class Process(Protocol):
    """What a guest needs of its process: `subprocess.Popen` has it."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def poll(self) -> int | None:
        """How it ended, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended.  Raises TimeoutExpired."""

    def kill(self) -> None:
        """Kill it, unless it has ended."""


class GuestProcess:
    """One guest and the pipe to it.  Threads may share it; a call waits for its answer, and others for that."""

    def __init__(self, name: str, process: Process, log: Path, log_start: int) -> None:
        """A process that runs and appends its standard error to `log`, from `log_start` on."""
        self._name = name
        self._log_path = log
        self._log_start = log_start
        self._buffer = bytearray()
        self._calls = 0
        self._process = process
        self._asking = threading.Lock()
        with _LIVE_LOCK:
            _LIVE.add(self)

    @classmethod
    def start(cls, name: str, command: Sequence[str], variables: Mapping[str, str], cwd: Path, log: Path) -> Self:
        """Start `command` with exactly `variables`; its standard error is appended to `log`.

        Raises CellProblem(ENVIRONMENT_FAILED) when the interpreter cannot be started.
        """
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as sink:
                start = sink.tell()
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=sink,
                    env=dict(variables),
                    cwd=cwd,
                    start_new_session=True,
                )
        except OSError as error:
            raise CellProblem(Reason.ENVIRONMENT_FAILED, f"cannot start {command[0]}: {error}") from error
        return cls(name, process, log, start)

    def fork(self, name: str, folder: Path, changed: Mapping[str, Any], timeout: float = 60.0) -> GuestProcess:
        """A child of this guest, which must have loaded nothing: what a new process is once it has imported.

        It works in `folder`, in which the guest may write, and which keeps what it writes to standard error.  `changed`
        is what it has otherwise than its parent: `adapter`, and the folders (`writable`) that it keeps of those that
        the parent may write to.  Raises CellProblem.
        """
        try:
            ends = pipes(folder)
        except OSError as error:
            raise CellProblem(Reason.ENVIRONMENT_FAILED, f"cannot make pipes in {folder}: {error}") from error
        try:
            fields = {"folder": str(folder), **changed}
            pid = int(self.exchange("fork", fields, timeout, Reason.CRASHED)["pid"])
            process = Forked(pid, ends, self._reap)
        except BaseException as error:
            for end in ends:
                end.close()
            if isinstance(error, (KeyError, TypeError, ValueError, OSError)):
                self.fail(Reason.PROTOCOL, f"forked no process ({error!r})")
            raise
        return GuestProcess(name, process, folder / LOG, 0)

    def _reap(self, pid: int) -> int | None:
        """How a child of this guest has ended, as `Popen.returncode` has it.  Raises CellProblem."""
        if self._process.stdin is None or self._process.stdin.closed:
            raise CellProblem(Reason.CRASHED, f"{self._name} is gone, and with it who knows how {pid} ended")
        code = self.exchange("reap", {"pid": pid}, _GRACE_S, Reason.CRASHED)["code"]
        return None if code is None else int(code)

    @property
    def pid(self) -> int:
        """Process id, which is also the id of the guest's process group."""
        return self._process.pid

    def greet(self, timeout: float) -> dict[str, str]:
        """Wait until the adapter is imported; what the guest says that was taken from it.

        Raises CellProblem, LOAD_FAILED when the import raised.
        """
        answer = self._answer(0, "import", time.monotonic() + timeout, timeout, _oom_kills(), Reason.LOAD_FAILED)
        if answer.get("protocol") != PROTOCOL:
            self.fail(Reason.PROTOCOL, f"speaks protocol {answer.get('protocol')!r}, not {PROTOCOL}")
        confined = answer.get("confined")
        if not isinstance(confined, dict):
            self.fail(Reason.PROTOCOL, f"does not say what it may reach, but {str(confined)[:200]}")
        return {str(what): str(said) for what, said in confined.items()}

    def exchange(self, verb: str, fields: Mapping[str, Any], timeout: float, reason: Reason) -> dict[str, Any]:
        """Send one request and wait for its answer; `reason` is the code of an error that the guest reports."""
        assert self._process.stdin is not None
        with self._asking:  # what it forks is asked for, and asked about, by several threads
            deadline = time.monotonic() + timeout
            self._calls += 1
            oom_before = _oom_kills()
            try:
                self._process.stdin.write(json.dumps({"id": self._calls, "verb": verb, **fields}).encode() + b"\n")
                self._process.stdin.flush()
            except OSError:
                self._died(verb, oom_before)
            return self._answer(self._calls, verb, deadline, timeout, oom_before, reason)

    def _answer(
        self, number: int, verb: str, deadline: float, timeout: float, oom_before: int, reason: Reason
    ) -> dict[str, Any]:
        try:
            line = self._line(verb, deadline, timeout, oom_before)
        except BaseException:  # Ctrl-C too: a guest with an unread answer is of no further use
            self.kill()
            raise
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):  # a thousand brackets are one line too
            answer = None
        if not isinstance(answer, dict) or answer.get("id") != number:
            self.fail(Reason.PROTOCOL, f"answered '{verb}' with {line[:200]!r}")
        error = answer.get("error")
        if error is not None:
            self._raise(verb, error, reason)
        return answer

    def _line(self, verb: str, deadline: float, timeout: float, oom_before: int) -> bytes:
        """The next line of the guest, read as it comes and never waited for past the deadline."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            end = self._buffer.find(b"\n")
            while end < 0:
                left = deadline - time.monotonic()
                # What is there already is read even then: this process may have been stopped, and not the guest.
                if not selector.select(min(max(left, 0.0), _POLL_S)):
                    if left <= 0:
                        self.kill()
                        self.fail(Reason.TIMED_OUT, f"did not answer '{verb}' within {timeout:g} s and was ended")
                    if self._process.poll() is not None and not selector.select(0):
                        self._died(verb, oom_before)  # a child of it still holds the pipe open
                    continue
                chunk = os.read(descriptor, 1 << 16)
                if not chunk:
                    self._died(verb, oom_before)
                end = chunk.find(b"\n")
                if end >= 0:
                    end += len(self._buffer)
                self._buffer += chunk
                if end < 0 and len(self._buffer) > _MAX_ANSWER:
                    self.fail(Reason.PROTOCOL, f"answered '{verb}' with {len(self._buffer)} bytes and no end of line")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def close(self) -> None:
        """End the guest and its children.  Safe to call twice."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        if process.poll() is None:
            with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):  # it is killed below
                process.stdin.write(b'{"id": -1, "verb": "quit"}\n')
                process.stdin.flush()
                process.wait(_GRACE_S)
        self.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # unsent bytes for a process that is gone
                pipe.close()
        with _LIVE_LOCK:
            _LIVE.discard(self)

    def log_tail(self) -> str:
        """The last lines of what this guest wrote to standard error (and to standard output, which goes there)."""
        try:
            with self._log_path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, end - _TAIL_BYTES))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_TAIL_LINES:])

    def _raise(self, verb: str, error: Any, reason: Reason) -> NoReturn:
        """Turn an error that the guest reported into a CellProblem."""
        if not isinstance(error, dict) or not {"kind", "message"} <= error.keys():
            self.fail(Reason.PROTOCOL, f"answered '{verb}' with the malformed error {str(error)[:200]!r}")
        kind, message = str(error["kind"]), str(error["message"])
        if kind in _REFUSALS:
            raise CellProblem(_REFUSALS[kind], message, Status.SKIPPED)
        if kind in _EXPLAINED:
            raise CellProblem(reason, message)
        text = f"{self._name}: '{verb}' raised {kind}: {message}"
        if kind in _MEMORY_KINDS or any(words in message.lower() for words in _MEMORY_WORDS):
            raise CellProblem(Reason.OUT_OF_MEMORY, text)
        if (library := _LIBRARY.search(message)) is not None:
            # A package of Debian's is called by the library: libgomp.so.1 is in libgomp1, libGL.so.1 in libgl1.
            package = library["name"].lower().replace(".so.", "").replace(".so", "")
            text += f" (a library of the system: install what holds it; on Debian and Ubuntu apt-get install {package})"
        raise CellProblem(reason, f"{text}\n{error.get('traceback', '')}".rstrip())

    def _died(self, verb: str, oom_before: int) -> NoReturn:
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.fail(Reason.PROTOCOL, f"closed its output during '{verb}' but went on running")
        if code == -signal.SIGKILL and _oom_kills() > oom_before:
            self.fail(Reason.OUT_OF_MEMORY, f"was killed by the kernel for memory during '{verb}'")
        if code == UNKNOWN:
            self.fail(Reason.CRASHED, f"ended during '{verb}'; what it was forked from is gone and cannot say how")
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            self.fail(Reason.CRASHED, f"died of {name} during '{verb}'")
        self.fail(Reason.CRASHED, f"ended with exit code {code} during '{verb}'")

    def fail(self, reason: Reason, what: str) -> NoReturn:
        """End the guest and raise, with the last lines it wrote."""
        self.kill()
        tail = self.log_tail()
        raise CellProblem(reason, f"{self._name} {what}" + (f". Its last lines:\n{tail}" if tail else ""))

    def kill(self) -> None:
        """Kill the guest's whole process group and reap the guest."""
        # On macOS a group that holds only a zombie is a PermissionError.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # one that has just been forked has no group of its own yet
        self._process.wait()


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory, on this machine and in this control group."""
    files = [Path("/proc/vmstat")]
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        own = [line[3:].lstrip("/") for line in groups if line.startswith("0::")]
        files += [Path("/sys/fs/cgroup") / group / "memory.events" for group in own]
    except OSError:
        pass  # not Linux
    total = 0
    for file in files:
        try:
            for line in file.read_text(encoding="ascii").splitlines():
                if line.startswith("oom_kill "):
                    total += int(line.split()[1])
        except OSError:
            continue  # this kernel does not count them there
    return total


def kill_all() -> None:
    """Kill every guest of this process at once; whoever waits for an answer of one is told that it died."""
    for guest in _live():
        guest.kill()


@atexit.register
def _end_all() -> None:
    """No guest outlives the core (SIGKILL of the core is covered by the guest, which ends when its input does)."""
    for guest in _live():
        guest.close()


def _live() -> list[GuestProcess]:
    with _LIVE_LOCK:
        return list(_LIVE)
