"""The tools that build environments, uv or pip, told to take packages from where the user takes them.

pip reads its configuration itself.  uv does not read pip's, so `find-links`, `index-url`, `extra-index-url` and `cert`
are handed on to it.  On Linux, PyPI's torch is a CUDA build of several gigabytes; unless one of the find-links folders
offers the pinned torch, uv is told `--torch-backend cpu`.  The environment variable BENCH_TORCH_BACKEND overrides that
(`cu128`, `auto`, ...); pip has no such switch and installs what its index serves.  A family for GPUs names cuDNN among
its packages, and that is how it is told: it gets PyPI's build, also where a folder offers one for the CPU.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.interrupts import running
from bench.reasons import CellProblem, Reason, UsageError

PYTHON_VERSION = "3.11"  # the guests' interpreter: the one version that every family publishes wheels for
TORCH_PIN = re.compile(r"^torch==([^+\s;]+)", re.MULTILINE)
OVERRIDES = Path(__file__).with_name("overrides.txt")
_HEADLESS = re.compile(r"^opencv-python-headless\b", re.MULTILINE)
_FOR_GPU = re.compile(r"^nvidia-cudnn-", re.MULTILINE)
_ERROR_LINES = 20
_ELSEWHERE = {"VIRTUAL_ENV", "UV_SYSTEM_PYTHON", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "PYTHONHOME"}
# The first two put byte code where no guest looks for it, which makes importing a runtime slower; the others change
# what the installers' own Python finds, or end it.
_OTHERWISE = {"PYTHONOPTIMIZE", "PYTHONPYCACHEPREFIX", "PYTHONSAFEPATH", "PYTHONPLATLIBDIR", "PYTHONWARNINGS"}

OnOutput = Callable[[str], None]


def find_uv() -> str | None:
    """Path of uv: the one installed beside this Python, else on PATH."""
    if importlib.util.find_spec("uv") is not None:
        import uv

        try:
            return os.fspath(uv.find_uv_bin())
        except FileNotFoundError:
            return shutil.which("uv")
    return shutil.which("uv")


def find_pip(base: str) -> list[str]:
    """The command that runs pip: this Python's or that of the interpreter `base`.  Raises UsageError."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    asked = [base, "-m", "pip", "--version"]
    if subprocess.run(asked, env=clean(os.environ), capture_output=True, check=False).returncode == 0:
        return [base, "-m", "pip"]
    raise UsageError(
        "Neither uv nor pip was found to build environments with; run `python -m ensurepip` or install uv."
    )


def base_python() -> str | None:
    """The interpreter this process runs on, outside any venv, when its version is the guests'."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON_VERSION:
        return None
    return str(getattr(sys, "_base_executable", "") or sys.executable)


def clean(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables for an installer: without those that redirect it into another environment, or change what it writes."""
    return {name: value for name, value in variables.items() if name not in _ELSEWHERE | _OTHERWISE}


def uv_variables(text: str = "") -> dict[str, str]:
    """Variables for uv, with what pip is configured to use; a setting the user made for uv itself wins.

    `text` is the lock or its source: for a family for GPUs, folders that offer torch for the CPU are left out.
    """
    variables = clean(os.environ)
    pip = _pip_settings()
    for name, option, separator in (  # pip separates by spaces
        ("UV_FIND_LINKS", "find-links", ","),
        ("UV_DEFAULT_INDEX", "index-url", ""),
        ("UV_INDEX", "extra-index-url", " "),
        ("SSL_CERT_FILE", "cert", " "),
    ):
        if option in pip and name not in variables:
            variables[name] = separator.join(pip[option].split())
            if name == "UV_INDEX":
                # pip takes the best version over all indexes; uv's own default stops at the first that has the name.
                variables.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    if for_gpu(text) and "UV_FIND_LINKS" in variables:
        kept = [folder for folder in variables["UV_FIND_LINKS"].split(",") if not _wheels(folder, "torch-*+cpu-*.whl")]
        variables["UV_FIND_LINKS"] = ",".join(kept)
    return variables


def _wheels(folder: str, pattern: str) -> list[Path]:
    """Wheels of that pattern in a find-links folder; none in an address."""
    return list(Path(folder.removeprefix("file://")).glob(pattern)) if folder else []


def _pip_settings() -> dict[str, str]:
    """pip's effective options by name: its configuration files, then PIP_* variables, which win."""
    settings: dict[str, str] = {}
    pip = shutil.which("pip")
    if pip is not None:
        done = subprocess.run(
            [pip, "config", "list"], env=clean(os.environ), capture_output=True, text=True, check=False
        )
        found: dict[str, dict[str, str]] = {"global": {}, "install": {}}
        for line in done.stdout.splitlines() if done.returncode == 0 else ():
            name, _, value = line.partition("=")
            section, _, option = name.partition(".")
            if section in found:
                found[section][option] = str(ast.literal_eval(value))
        settings = {**found["global"], **found["install"]}
    for option in ("find-links", "index-url", "extra-index-url", "cert"):
        name = f"PIP_{option.upper().replace('-', '_')}"
        if os.environ.get(name):
            settings[option] = os.environ[name]
    return settings


def overrides(text: str) -> list[str]:
    """uv's option that keeps opencv-python out of an environment whose lock or source names the one without windows."""
    return ["--override", str(OVERRIDES)] if _HEADLESS.search(text) else []


def alone(text: str) -> list[str]:
    """pip's option to the same end: it has no overrides, so the lock is installed as it stands."""
    return ["--no-deps"] if _HEADLESS.search(text) else []


def for_gpu(text: str) -> bool:
    """Whether a lock or its source is that of a family for GPUs."""
    return _FOR_GPU.search(text) is not None


def torch_backend(text: str, asked: str) -> list[str]:
    """uv's option that chooses the build of torch; empty when the lock has no torch or a folder offers the build."""
    pin = TORCH_PIN.search(text)
    if pin is None:
        return []
    if asked:
        return ["--torch-backend", asked]
    if for_gpu(text):
        return []
    folders = uv_variables().get("UV_FIND_LINKS", "").split(",")
    offered = any(_wheels(folder, f"torch-{pin[1]}[+-]*.whl") for folder in folders)
    return [] if offered or sys.platform != "linux" else ["--torch-backend", "cpu"]


def torch_build(text: str, asked: str) -> str:
    """Version of torch, with the label of its build, that installing a lock gives; empty for a lock without torch.

    As `install_venv` chooses it: what is asked for, else the build that a find-links folder offers.  PyPI's builds have
    no label, whatever they are for.
    """
    pin = TORCH_PIN.search(text)
    if pin is None:
        return ""
    chosen = torch_backend(text, asked) if find_uv() is not None else []
    if chosen:
        return f"{pin[1]}+{chosen[-1]}"
    folders = uv_variables(text).get("UV_FIND_LINKS", "").split(",")
    offered = [path.name.split("-")[1] for folder in folders for path in _wheels(folder, f"torch-{pin[1]}[+-]*.whl")]
    return max(offered, default=pin[1])


def version(*command: str) -> str:
    """What a tool prints about its version."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()


def install_venv(
    family: str, directory: Path, requirements: Path, text: str, backend: str, arguments: Sequence[str], say: OnOutput
) -> str:
    """Make a venv in `directory` and install a lock into it; `arguments` go to the installer.

    Returns the installer's version.  Raises UsageError (no usable Python), CellProblem(ENVIRONMENT_FAILED).
    """
    uv, base = find_uv(), base_python()
    python = str(directory / "bin" / "python")
    if uv is not None:
        venv = [uv, "venv", "--python", base or PYTHON_VERSION, "--allow-existing", str(directory)]
        run(family, venv, uv_variables(), directory, say, python_error=base is None)
        install = [uv, "pip", "install", "--python", python, "--compile-bytecode", *overrides(text)]
        install += torch_backend(text, backend)
        run(family, [*install, *arguments, "-r", str(requirements)], uv_variables(text), directory, say)
        return version(uv, "--version")
    if base is None:
        raise UsageError(
            f"The environments need Python {PYTHON_VERSION}; this is {platform.python_version()}. Run the bench with "
            f"Python {PYTHON_VERSION}, or install uv (`python -m pip install uv`), which fetches it."
        )
    pip = find_pip(base)
    variables = clean(os.environ)
    run(family, [base, "-m", "venv", "--without-pip", str(directory)], variables, directory, say)
    # pip stays outside: what is installed is then what the lock says and nothing else.
    install = [*pip, "--python", python, "install", "--disable-pip-version-check"]
    run(family, [*install, *alone(text), *arguments, "-r", str(requirements)], variables, directory, say)
    return version(*pip, "--version").split(" from ")[0]


def run(
    family: str, command: list[str], variables: dict[str, str], cwd: Path, say: OnOutput, *, python_error: bool = False
) -> None:
    """Run one installer command line by line.  Ctrl-C ends it too; nothing marks the environment as complete."""
    tail: deque[str] = deque(maxlen=_ERROR_LINES)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with running(command, cwd=cwd, env=variables, text=True, errors="replace", **pipes) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line.rstrip())
            say(line.rstrip())
        code = process.wait()
    if code == 0:
        return
    said = "\n".join(tail)
    if python_error:
        raise UsageError(
            f"The environments need Python {PYTHON_VERSION} and uv found none: install it (for example "
            f"`uv python install {PYTHON_VERSION}`) or run the bench with Python {PYTHON_VERSION}.\n{said}"
        )
    raise CellProblem(
        Reason.ENVIRONMENT_FAILED,
        f"the environment '{family}' could not be installed ({Path(command[0]).name} ended with {code}). Check the "
        "network, the proxy (HTTPS_PROXY), its certificate (SSL_CERT_FILE) and the package index (`pip config list`), "
        f"then run again; packages fetched so far are kept.\n{said}",
    )
