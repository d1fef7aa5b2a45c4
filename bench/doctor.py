"""What a run needs, what of it is here, and how to get the rest."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import envs, installers, launch, machine, matrix
from bench.reasons import UsageError

# Environments, artifacts and images of the four options of the smallest sweep, with room to build them.
DISK_BYTES_NEEDED = 6 * 10**9


def examine(request: launch.Request, console: Console) -> bool:
    """Print the state of this machine; returns whether a run can be made here."""
    read = matrix.load(request.matrices)
    checks = [_python(), _installer(), _disk(request.cache)]
    table = Table(title="This machine", title_justify="left", show_header=False)
    for name, good, text in checks:
        table.add_row(name, "[green]ok[/]" if good else "[red]missing[/]", escape(text))
    console.print(table)
    console.print(_targets(read))
    console.print(_environments(read, request.cache))
    console.print(f"Cache: {request.cache} (change it with --cache or ${launch.CACHE_VARIABLE})", soft_wrap=True)
    return all(good for _, good, _ in checks)


def _python() -> tuple[str, bool, str]:
    version = platform.python_version()
    if sys.version_info[:2] == tuple(map(int, installers.PYTHON_VERSION.split("."))):
        return "Python", True, version
    uv = installers.find_uv()
    text = f"{version}; the environments use {installers.PYTHON_VERSION}, which " + (
        f"uv finds or fetches ({uv})" if uv else f"must be installed: this Python is not {installers.PYTHON_VERSION}"
    )
    return "Python", uv is not None, text


def _installer() -> tuple[str, bool, str]:
    uv = installers.find_uv()
    if uv:
        return "Installer", True, f"uv: {uv}"
    try:
        return "Installer", True, f"{' '.join(installers.find_pip(sys.executable))} (slower than uv: `pip install uv`)"
    except UsageError as error:
        return "Installer", False, str(error)


def _disk(cache: Path) -> tuple[str, bool, str]:
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / 1e9:.0f} GB free for {cache}; a first run needs up to {DISK_BYTES_NEEDED / 1e9:.0f} GB"
    return "Disk", free > DISK_BYTES_NEEDED, text


def _targets(read: matrix.Matrix) -> Table:
    table = Table(title="Targets", title_justify="left")
    for name in ("Target", "Here", "What was seen, or what it needs"):
        table.add_column(name)
    for name, target in read.targets.items():
        presence = machine.detect(target)
        table.add_row(name, "[green]yes[/]" if presence.found else "no", escape(presence.text))
    return table


def _environments(read: matrix.Matrix, cache: Path) -> Table:
    table = Table(title="Environments (made on first use)", title_justify="left")
    for name in ("Environment", "Used by", "State"):
        table.add_column(name)
    users: dict[str, list[str]] = {}
    for option in read.options.values():
        for family in dict.fromkeys((option.environment, *option.environments.values())):
            users.setdefault(family, []).append(f"{option.name} (run)")
        users.setdefault(option.export.environment, []).append(f"{option.name} (export)")
    built = envs.Environments(read.directory, cache)
    for family, names in users.items():
        env = built.existing(family)
        state = "not built yet"
        if env is not None:
            state = "yours, not locked" if env.bytes is None else f"built, {env.bytes / 1e6:.0f} MB"
        table.add_row(family, ", ".join(names), state)
    return table
