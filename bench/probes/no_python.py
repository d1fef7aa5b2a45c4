"""TorchScript without Python: a C++ program against the libtorch that is inside the torch package.

The program (cpp/detect.cpp) is built with the system's compiler and run with an empty environment, no PATH, and no
Python library linked or loaded: it lists what is mapped into it after its inference.  Its raw output must be that of
the TorchScript option's own guest on the same images, and the detections made of it the same.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.environments.locked import Env
from bench.places import PACKAGE
from bench.probes.context import Context, Tensor, difference
from bench.probes.observation import Observation, Unavailable, verdict
from bench.tasks.detect.boxes import Detections, decode
from bench.tasks.letterbox import Letterbox

OPTION = "torchscript"
SOURCE = PACKAGE / "probes" / "cpp" / "detect.cpp"
LIBRARIES = ("torch", "torch_cpu", "c10")
_PYTHON = re.compile(r"(^|/)(lib(torch_)?python[^/]*\.so[^/]*|python[\d.]*)$", re.IGNORECASE)
# c10::detail::torchCheckFail(const char*, const char*, uint32_t, const std::__cxx11::basic_string&), as far as needed.
_NEW_ABI_SYMBOL = b"_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx11"
_LOAD_S, _INFER_S, _BUILD_S = 300.0, 120.0, 1800.0


def observe(context: Context) -> Iterator[Observation]:
    """One row: `yes` with equal detections and no Python mapped.  Raises Unavailable, CellProblem."""
    subject = context.subject(OPTION, "fp32", ("cpu", "arm-cpu"))
    inputs = context.inputs(subject.cell.imgsz, subject.cell.batch)
    program = build(context, context.environment(subject.cell.environment))
    model = subject.artifact.directory / subject.artifact.manifest["entry"]
    with context.runtime(subject) as guest:
        guest.load(context.spec(subject), _LOAD_S)
        theirs = [guest.infer(x, _INFER_S) for x in inputs]
    with context.scratch() as folder:
        runs = [run(program, model, x, folder) for x in inputs]
    mapped = sorted({library for _, libraries in runs for library in libraries})
    yield judge(inputs, [output for output, _ in runs], theirs, mapped)


def judge(
    inputs: Sequence[Tensor], mine: Sequence[Tensor], theirs: Sequence[Tensor], mapped: Sequence[str]
) -> Observation:
    """The row; `mapped` are the libraries in the program's process."""
    python = [path for path in mapped if _PYTHON.search(path)]
    gap = difference(mine, theirs)
    counts = [len(found) for found in detections(inputs, mine)]
    same = bool(np.isfinite(gap.box_px)) and equal_detections(inputs, mine, theirs)
    text = f"A C++ program on libtorch, run without PATH or environment: {'equal' if same else 'other'} detections "
    text += f"({sum(counts)} on {len(inputs)} images; raw output differs by at most {gap}). "
    text += f"{len(mapped)} libraries mapped, {len(python)} of Python{': ' + ', '.join(python) if python else ''}."
    value = gap.box_px if np.isfinite(gap.box_px) else None
    return Observation(OPTION, "libtorch", verdict(same and not python), text, value, "px")


def detections(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Detections]:
    """What the bench's decoder finds in raw outputs, each image taken as the whole network input."""
    found = []
    for x, output in zip(inputs, outputs, strict=True):
        height, width = x.shape[2:]
        box = Letterbox(1.0, 0, 0, width, height)
        found += [decode(image, box) for image in output]
    return found


def equal_detections(inputs: Sequence[Tensor], mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Whether both outputs give the same boxes, scores and classes, all of them, in the same order."""
    pairs = zip(detections(inputs, mine), detections(inputs, theirs), strict=True)
    return all(
        np.array_equal(a.boxes, b.boxes)
        and np.array_equal(a.scores, b.scores)
        and np.array_equal(a.categories, b.categories)
        for a, b in pairs
    )


def build(context: Context, env: Env) -> Path:
    """The compiled program, from the cache or built now (a minute).  Raises Unavailable without a compiler."""
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        raise Unavailable("A C++ compiler is needed (Debian and Ubuntu: apt install g++); none is on PATH.")
    torch = env.site_packages / "torch"
    if not (torch / "include" / "torch").is_dir():
        raise Unavailable(f"The torch package in {env.family} comes without libtorch's headers.")
    # The libraries are bound by path, so the environment's folder belongs to the key.
    key = hashlib.sha256(SOURCE.read_bytes() + str(torch).encode() + "\n".join(env.freeze()).encode()).hexdigest()[:16]
    program = context.cache / "probes" / f"detect-{key}"
    if program.is_file():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    temporary = program.with_suffix(".part")
    with context.progress.timed("", "building the C++ program"):
        line = command(compiler, torch, temporary)
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=_BUILD_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{compiler} did not finish within {_BUILD_S:.0f} s.") from error
    if done.returncode:
        lines = done.stderr.splitlines()
        told = next((line for line in lines if "error" in line), lines[0] if lines else "without a word")
        raise Unavailable(f"{Path(compiler).name} ended with {done.returncode}: {told[:300]}")
    temporary.replace(program)
    return program


def command(compiler: str, torch: Path, program: Path) -> list[str]:
    """The compiler's command line; `_GLIBCXX_USE_CXX11_ABI` must be that of the package."""
    include, libraries = torch / "include", torch / "lib"
    line = [compiler, "-std=c++20", "-O1", f"-D_GLIBCXX_USE_CXX11_ABI={int(has_new_abi(libraries))}", str(SOURCE)]
    line += ["-o", str(program), f"-isystem{include}", f"-isystem{include / 'torch' / 'csrc' / 'api' / 'include'}"]
    # The linker drops libraries that are used only through registration, and with them the operators.
    return [*line, f"-L{libraries}", "-Wl,--no-as-needed", *(f"-l{n}" for n in LIBRARIES), f"-Wl,-rpath,{libraries}"]


def has_new_abi(libraries: Path) -> bool:
    """Whether libtorch was built with libstdc++'s C++11 strings: a function that takes one is then exported so."""
    return any(_NEW_ABI_SYMBOL in path.read_bytes() for path in libraries.glob("libc10.so*"))


def run(program: Path, model: Path, x: Tensor, folder: Path) -> tuple[Tensor, list[str]]:
    """Raw output of the program for `x`, and the libraries mapped into it.  Raises Unavailable with its own words."""
    source, sink = folder / "input", folder / "output"
    x.tofile(source)
    line = [str(program), str(model), str(source), str(sink), *map(str, x.shape)]
    done = subprocess.run(line, env={}, cwd=folder, capture_output=True, text=True, timeout=_INFER_S, check=False)
    if done.returncode:
        raise Unavailable(f"The C++ program ended with {done.returncode}: {done.stderr[:1500]}")
    shape, *mapped = done.stdout.splitlines()
    return np.fromfile(sink, np.float32).reshape([int(side) for side in shape.split()]), mapped
