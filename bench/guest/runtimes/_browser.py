"""A headless Chromium: how it is started, how its page is spoken to, and what its processes cost.

The page is `page.html` beside this file and one script per runtime; `_page_server.py` serves it.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Error, Playwright, sync_playwright

from ..refusals import TargetAbsent
from ._page_server import Server

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    # The page is asked for by its address: no name is looked up, for the browser either.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-first-run",
)
# How each target's browser is started: the ways to reach a GPU in turn, the last one draws in software.
FLAGS: dict[str, tuple[tuple[str, ...], ...]] = {
    "browser-cpu": (("--disable-gpu",),),
    "browser-wasm": (("--disable-gpu",),),
    "browser-webgl": (
        ("--ignore-gpu-blocklist",),
        ("--use-angle=vulkan", "--enable-features=Vulkan", "--ignore-gpu-blocklist"),
        ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
    ),
    "browser-webgpu": (
        ("--enable-unsafe-webgpu", "--enable-features=Vulkan", "--ignore-gpu-blocklist"),
        (
            "--enable-unsafe-webgpu",
            "--use-webgpu-adapter=swiftshader",
            "--enable-features=Vulkan",
            "--use-vulkan=swiftshader",
            "--enable-unsafe-swiftshader",
            "--ignore-gpu-blocklist",
        ),
    ),
}
_VERSION_S = 30.0
# Names that renderers without a GPU give themselves.
SOFTWARE = ("swiftshader", "llvmpipe", "softpipe", "basic render", "software")


class Page:
    """A browser with one page open, and the server behind it."""

    def __init__(
        self, executable: Path, flags: Sequence[str], folders: Mapping[str, Path], script: str, *, processors: int = 1
    ) -> None:
        """Start the browser and open the page with `script`, a path of the server.

        Raises TargetAbsent for a browser that cannot be started here, playwright's Error where it ends meanwhile.
        `processors` is how many logical processors the page is told it has.
        """
        here = Path(__file__).parent
        self.server = Server({**folders, "page": here})
        self._driver = driver()
        arguments = [*QUIET, *flags]
        try:
            self._browser = self._driver.chromium.launch(executable_path=executable, args=arguments, headless=True)
        except Error as error:
            if _works(executable):  # something ended it, of which playwright's words tell what is known
                raise
            raise TargetAbsent(f"{executable} cannot be started: {str(error).splitlines()[0]}") from error
        self.version: str = self._browser.version
        self._page = self._browser.new_page()
        self._heard: list[str] | None = None
        self._page.on("console", lambda message: self._note(message.text))
        self._page.on("pageerror", lambda error: print(error))  # noqa: T201, PLW0108 - playwright counts parameters
        self._page.goto(f"{self.server.url}/page/page.html?script={script}&processors={processors}")

    def ask(self, function: str, argument: Any = None) -> Any:
        """What the page's function `bench.<function>(argument)` resolves to.  Raises playwright's Error."""
        return self._page.evaluate(f"argument => ready.then(() => bench.{function}(argument))", argument)

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[str]]:
        """What the page writes to its console meanwhile, which is then not written into the guest's log."""
        self._heard = []
        try:
            yield self._heard
        finally:
            self._heard = None

    def _note(self, text: str) -> None:
        if self._heard is None:
            print(text)  # noqa: T201 - into the guest's log
        else:
            self._heard.append(text)

    @property
    def workers(self) -> int:
        """Web workers of the page: each is a thread of WebAssembly beside the page's own."""
        return len(self._page.workers)

    def processes(self) -> list[psutil.Process]:
        """The browser's processes; the driver between them and this one is not counted."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # a helper that ended meanwhile
                if "playwright" not in Path(process.exe()).parts:
                    found.append(process)
        return found

    def close(self) -> None:
        """End the browser and the server; the page is gone."""
        self._browser.close()
        self.server.shutdown()
        self.server.server_close()


@functools.cache
def driver() -> Playwright:
    """Playwright's driver, one per process: it holds the event loop of this thread."""
    return sync_playwright().start()


def open_page(
    target: str, folders: Mapping[str, Path], script: str, asked: Mapping[str, Any], *, processors: int
) -> tuple[Page, dict[str, Any]]:
    """A page in which the runtime has started, and what its `start(asked)` said: `active`, `renderer`, ...

    The first way to start the browser that reaches a GPU is taken, else the last one.  Raises TargetAbsent where the
    runtime is not active in that one either.
    """
    executable = find_browser()
    ways = FLAGS[target]
    for flags in ways:
        page = Page(executable, flags, folders, script, processors=processors)
        found: dict[str, Any] = page.ask("start", asked)
        if found["active"] and (flags is ways[-1] or not is_software(found["renderer"])):
            return page, found
        page.close()
    raise TargetAbsent(f"Chromium {page.version} ({executable}) has no {target.removeprefix('browser-')} here.")


def find_browser() -> Path:
    """Chromium or Chrome of the system, else the one that playwright fetched.  Raises TargetAbsent."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    own = Path(driver().chromium.executable_path)
    if found is None and not own.is_file():
        raise TargetAbsent(
            f"No {', '.join(NAMES)} is on PATH and playwright has fetched no browser. Install Chromium from your "
            f"system's packages, or run `python -m playwright install chromium`."
        )
    return Path(found) if found else own


def _works(executable: Path) -> bool:
    """Whether a browser can be started at all: it says its version."""
    try:
        done = subprocess.run([executable, "--version"], capture_output=True, timeout=_VERSION_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def cpu_ns(processes: Sequence[psutil.Process]) -> int:
    """CPU time that processes have used so far, in ns; those that ended meanwhile count nothing."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return round(total * 1e9)


def footprint(processes: Sequence[psutil.Process]) -> dict[str, int]:
    """Peak resident bytes and threads of processes together.

    Each process's own peak, less what it shares with the others now, so that the browser's code counts once and not
    once per process.  Their peaks need not coincide: the sum is an upper bound.
    """
    total = {"peak_rss_bytes": 0, "threads": 0}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            total["peak_rss_bytes"] += _peak(process)
            total["threads"] += process.num_threads()
    return total


def _peak(process: psutil.Process) -> int:
    """Peak resident bytes of one process; where the system keeps none (macOS), what is resident now."""
    folder = Path(f"/proc/{process.pid}")
    if not Path("/proc/self/status").exists():
        return int(process.memory_info().rss)
    peak = _kibibytes(folder / "status", "VmHWM:")
    try:
        shared = _kibibytes(folder / "smaps_rollup", "Rss:") - _kibibytes(folder / "smaps_rollup", "Pss:")
    except PermissionError:  # a sandboxed process shows its maps to nobody
        shared = 0
    return (peak - shared) * 1024


def _kibibytes(path: Path, name: str) -> int:
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def is_software(renderer: str) -> bool:
    """Whether a renderer's own description names one that draws on the CPU."""
    return any(name in renderer.lower() for name in SOFTWARE)
