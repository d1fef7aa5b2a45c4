"""Browsers without a window: how each is found and started, and the page in it that a runtime works in.

The page is `page.html` beside this file and one script per runtime; `_page_server.py` serves it.  Playwright drives
Chromium, and a WebKit or Firefox that it fetched; `_webdriver.py` and `_firefox.py` drive those of the system.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Browser, Error, Playwright, sync_playwright

from ..refusals import TargetAbsent
from . import _firefox, _webdriver
from ._page_server import Server


@dataclass(frozen=True)
class Engine:
    """A browser engine: its name, as playwright calls it, programs of it, and the packages that bring those.

    A program that can be started at all answers what is `asked`.  `system` drives those of the system where playwright
    does not; those that it fetched are started with `variables` besides the guest's own.
    """

    name: str
    key: str
    programs: tuple[str, ...]
    packages: str
    asked: str = "--version"
    system: Callable[[Path], Driven] | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


CHROMIUM = Engine(
    "Chromium", "chromium", ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"), "Chromium"
)
FIREFOX = Engine(
    "Firefox",
    "firefox",
    ("firefox", "firefox-esr"),
    "Firefox",
    system=_firefox.Firefox,
    variables=_firefox.VARIABLES,
)
WEBKIT = Engine(
    "WebKit",
    "webkit",
    (_webdriver.PROGRAM,),
    "webkit2gtk-driver and weston",
    "--help",
    system=_webdriver.WebKit,
    variables=_webdriver.VARIABLES,
)
ENGINES = {"firefox-wasm": FIREFOX, "webkit-wasm": WEBKIT}
"""Of the targets that are not Chromium's."""
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    # The page is asked for by its address: no name is looked up, for the browser either.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-first-run",
)
# How each target's Chromium is started: the ways to reach a GPU in turn, the last one draws in software.
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


class Tab:
    """One page of a browser that playwright drives."""

    def __init__(self, browser: Browser) -> None:
        """Open it; what it writes to its console goes into the guest's log."""
        self._browser = browser
        self._page = browser.new_page()
        self._page.on("console", lambda message: print(message.text))  # noqa: T201 - likewise
        self._page.on("pageerror", lambda error: print(error))  # noqa: T201, PLW0108 - playwright counts parameters
        self.version: str = browser.version

    def visit(self, address: str) -> None:
        """Load a page."""
        self._page.goto(address)

    def evaluate(self, function: str, argument: Any) -> Any:
        """What a function of JavaScript resolves to.  Raises playwright's Error."""
        return self._page.evaluate(function, argument)

    def close(self) -> None:
        """End the browser."""
        self._browser.close()


Driven = Tab | _webdriver.WebKit | _firefox.Firefox
"""A browser with one page, whoever drives it: `version`, `visit`, `evaluate`, `close`."""


class Page:
    """A browser with one page open, and the server behind it."""

    def __init__(
        self, engine: Engine, flags: Sequence[str], folders: Mapping[str, Path], script: str, *, processors: int = 1
    ) -> None:
        """Start the browser and open the page with `script`, a path of the server.

        Raises TargetAbsent for a browser that cannot be started here, playwright's Error where it ends meanwhile.
        `processors` is how many logical processors the page is told it has.
        """
        self._tab = _start(engine, flags)
        self.browser = f"{engine.name} {self._tab.version}"
        self.server = Server({**folders, "page": Path(__file__).parent})
        self._tab.visit(f"{self.server.url}/page/page.html?script={script}&processors={processors}")

    def ask(self, function: str, argument: Any = None) -> Any:
        """What the page's function `bench.<function>(argument)` resolves to.  Raises the driver's error."""
        return self._tab.evaluate(f"argument => ready.then(() => bench.{function}(argument))", argument)

    def processes(self) -> list[psutil.Process]:
        """The browser's processes; the driver between them and this one is not counted."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # a helper that ended meanwhile
                program = Path(process.exe())
                if "playwright" not in program.parts and not program.name.startswith(_webdriver.BESIDE):
                    found.append(process)
        return found

    def close(self) -> None:
        """End the browser and the server; the page is gone."""
        self._tab.close()
        self.server.shutdown()
        self.server.server_close()


@functools.cache
def driver() -> Playwright:
    """Playwright's driver, one per process: it holds the event loop of this thread."""
    return sync_playwright().start()


def open_page(
    target: str, folders: Mapping[str, Path], script: str, asked: Mapping[str, Any], *, processors: int
) -> tuple[Page, dict[str, Any]]:
    """A page in which the runtime has started, and what its `start(asked)` said: `active`, `adapter`, `threads`.

    The first way to start the browser that reaches a GPU is taken, else the last one.  Raises TargetAbsent where the
    runtime is not active in that one either.
    """
    engine = ENGINES.get(target, CHROMIUM)
    ways = FLAGS.get(target, ((),))
    for flags in ways:
        page = Page(engine, flags, folders, script, processors=processors)
        found: dict[str, Any] = page.ask("start", asked)
        if found["active"] and (flags is ways[-1] or not is_software(found.get("adapter"))):
            return page, found
        page.close()
    raise TargetAbsent(f"{page.browser} has no {target.partition('-')[2]} here.")


def _start(engine: Engine, flags: Sequence[str]) -> Driven:
    """The browser with an empty page.  Raises TargetAbsent where there is none that can be started, else Error."""
    executable, own = find_browser(engine)
    given: dict[str, Any] = {"env": {**os.environ, **engine.variables}}
    if engine is CHROMIUM:
        given["args"] = [*QUIET, *flags]
    elif engine is FIREFOX:
        given["firefox_user_prefs"] = _firefox.PREFERENCES
    try:
        if engine.system is not None and not own:
            return engine.system(executable)
        return Tab(getattr(driver(), engine.key).launch(executable_path=executable, headless=True, **given))
    except (Error, _webdriver.PageError) as error:
        if _works(executable, engine.asked):  # something ended it, of which the error's words tell what is known
            raise
        said = str(error).splitlines()[0].removeprefix(f"{executable} cannot be started: ")
        raise TargetAbsent(f"{executable} cannot be started: {said}") from error


def find_browser(engine: Engine = CHROMIUM) -> tuple[Path, bool]:
    """A program of the system, else what playwright fetched, and whether it is that.  Raises TargetAbsent."""
    found = next((path for name in engine.programs if (path := shutil.which(name))), None)
    if found:
        return Path(found), False
    own = Path(getattr(driver(), engine.key).executable_path)
    if not own.is_file():
        raise TargetAbsent(
            f"No {', '.join(engine.programs)} is on PATH and playwright has fetched no {engine.name}. Install "
            f"{engine.packages} from your system's packages, or run `python -m playwright install {engine.key}`."
        )
    return own, True


def _works(executable: Path, asked: str) -> bool:
    """Whether a browser can be started at all: it answers the simplest question."""
    try:
        done = subprocess.run([executable, asked], capture_output=True, timeout=_VERSION_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def is_software(adapter: Mapping[str, Any] | None) -> bool:
    """Whether what draws says that it does so on the CPU: by WebGPU's own mark, or by the name that it has."""
    if not adapter:
        return False
    return bool(adapter.get("fallback")) or any(name in adapter["renderer"].lower() for name in SOFTWARE)
