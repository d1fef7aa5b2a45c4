"""TF.js in a page that may do little: no eval, nothing from other origins, the browser's own sandbox on.

The least Content-Security-Policy under which the page still infers is searched: from one that allows what backends of
TF.js are known to ask for, permissions are taken away one by one as long as the output stays that of the option's own
guest.  A page that evaluates a string, under the same policy, shows that the policy is enforced.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.places import GUEST_PROBES
from bench.probes.context import Context, Subject, Tensor, as_given, as_raw, difference
from bench.probes.observation import Observation, Unavailable, unavailable, verdict
from bench.reasons import CellProblem, Reason
from bench.wall.confinement import UNCONFINED
from bench.wall.worker import Worker

OPTION = "tfjs"
GUEST = GUEST_PROBES / "sandbox.py"
TARGETS = {"browser-wasm": "wasm", "browser-cpu": "cpu"}
BASE = (("default-src", "'none'"), ("script-src", "'self'"), ("connect-src", "'self'"))
# What a backend may ask for beyond its own origin, the most far-reaching first: the search takes that away first.
PERMISSIONS = (
    ("script-src", "blob:"),
    ("script-src", "'wasm-unsafe-eval'"),
    ("worker-src", "blob:"),
    ("worker-src", "'self'"),
    ("connect-src", "blob:"),
    ("connect-src", "data:"),
)
EVAL = ("script-src", "'unsafe-eval'")
# Chromium refuses its sandbox to root, and starts with it for any other user that may make namespaces.
NOT_ROOT = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
_SECONDS, _AT_LEAST_S = 300.0, 10.0

Permission = tuple[str, str]


def observe(context: Context) -> Iterator[Observation]:
    """Per backend the least policy; then whether the browser's sandbox was on.  Raises Unavailable, CellProblem."""
    subject = context.subject(OPTION, "fp32", tuple(TARGETS))
    x = context.inputs(subject.cell.imgsz)[0]
    with context.runtime(subject) as guest:
        guest.load(context.spec(subject), _SECONDS)
        expected = guest.infer(x, _SECONDS)
    with context.guest(GUEST, subject.cell.environment) as guest, context.scratch() as folder:
        visitor = Visitor(context, subject, guest, x, folder)
        for target, backend in TARGETS.items():
            visitor.forget()
            with context.progress.timed(backend, "least policy"):
                yield backend_policy(backend, functools.partial(visitor.matches, target, expected))
        blocked = visitor.blocks_eval()
        said = "A page that evaluates a string fails" if blocked else "A page evaluated a string despite the policy"
        yield Observation(OPTION, "policy enforced", verdict(blocked), said)
    try:
        yield browser_sandbox(context, subject, x, expected)
    except (Unavailable, CellProblem) as problem:
        yield unavailable(OPTION, "browser sandbox", problem)


def backend_policy(backend: str, works: Callable[[str], bool]) -> Observation:
    """`yes` with the least policy that works and has no eval; `no` where the page needs eval, or other origins."""
    subject = f"content-security-policy {backend}"
    if not works(policy(PERMISSIONS)):
        needs = works(policy((*PERMISSIONS, EVAL)))
        text = "needs 'unsafe-eval'" if needs else "does not work under a policy of its own origin, even with eval"
        return Observation(OPTION, subject, verdict(False), f"TF.js with its {backend} backend {text}.")
    least = least_permissions(works)
    text = f"Works under: {policy(least)}"
    return Observation(OPTION, subject, verdict(True), text, float(len(least)), "permissions beyond its own origin")


def least_permissions(works: Callable[[str], bool]) -> tuple[Permission, ...]:
    """What is left of PERMISSIONS, of which all together work, when none can be taken away any more."""
    kept = list(PERMISSIONS)
    for permission in PERMISSIONS:
        fewer = [other for other in kept if other != permission]
        if works(policy(fewer)):
            kept = fewer
    return tuple(kept)


def policy(permissions: Sequence[Permission]) -> str:
    """A Content-Security-Policy: nothing but the own origin's scripts and connections, and `permissions`."""
    directives: dict[str, list[str]] = {}
    for name, value in (*BASE, *permissions):
        directives.setdefault(name, []).append(value)
    return "; ".join(f"{name} {' '.join(values)}" for name, values in directives.items())


class Visitor:
    """Opens the probe's page with an input, in one guest."""

    def __init__(self, context: Context, subject: Subject, guest: Worker, x: Tensor, folder: Path) -> None:
        """Write the input in the layout of the artifact; nothing is opened yet."""
        self._guest = guest
        self._limit = context.settings.parity
        self._runtime = subject.cell.runtime
        self._manifest = subject.artifact.manifest
        self._imgsz = subject.cell.imgsz
        self._patience: float = _SECONDS / 3
        self._input = folder / "input"
        as_given(self._manifest, x).tofile(self._input)
        spec = context.spec(subject)
        self._folders = {"js": spec["javascript_dir"], "model": spec["artifact_dir"]}

    def visit(self, target: str, allowed: str, *, sandbox: bool = False, function: str = "visit") -> dict[str, Any]:
        """What the page reports; `allowed` is the policy, empty for none.  Raises CellProblem without a browser."""
        shape = ",".join(map(str, self._manifest["input"]["shape"]))
        query = {
            "runtime": f"/page/{self._runtime}.js", "backend": target.removeprefix("browser-"),
            "threads": "1", "shape": shape, "model": f"/model/{self._manifest['entry']}",
        }  # fmt: skip
        arguments = {
            "folders": self._folders, "policy": allowed, "query": query, "input": str(self._input), "target": target,
            "sandbox": sandbox, "seconds": self._patience,
        }  # fmt: skip
        return self._guest.call(function, arguments, _SECONDS, Reason.INFERENCE_FAILED)

    def matches(self, target: str, expected: Tensor, allowed: str) -> bool:
        """Whether the page infers under the policy `allowed`, with the expected output."""
        started = time.monotonic()
        same = self.equals(self.visit(target, allowed), expected)
        if same:  # some refusals leave a page waiting for ever; one that works has now said how long it takes
            self._patience = min(self._patience, max(_AT_LEAST_S, 5 * (time.monotonic() - started)))
        return same

    def equals(self, seen: dict[str, Any], expected: Tensor) -> bool:
        """Whether a page's output is the expected raw output (1, 4 + classes, anchors), boxes in px."""
        if not seen["output"] or not seen["shape"]:
            return False
        raw = np.fromfile(seen["output"], np.float32).reshape(seen["shape"])
        return difference([as_raw(self._manifest, self._imgsz, raw)], [expected]).within(self._limit)

    def forget(self) -> None:
        """Wait as long as at first: the next backend may be slower."""
        self._patience = _SECONDS / 3

    def blocks_eval(self) -> bool:
        """Whether a page that evaluates a string fails under the widest policy without eval, and runs with it."""
        without = self.visit("browser-cpu", policy(PERMISSIONS), function="evaluated")
        having = self.visit("browser-cpu", policy((*PERMISSIONS, EVAL)), function="evaluated")
        return bool(without["error"]) and not having["error"]


def browser_sandbox(context: Context, subject: Subject, x: Tensor, expected: Tensor) -> Observation:
    """`yes` where every renderer ran under a system-call filter and the output was the expected one."""
    wrapper = NOT_ROOT if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
    if wrapper:
        if shutil.which("unshare") is None:
            raise Unavailable(
                "Chromium's sandbox refuses root; run as another user, or install util-linux (`unshare`)."
            )
        done = subprocess.run([*wrapper, "true"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"Chromium's sandbox refuses root, and no user namespace is given: {done.stderr.strip()}")
    # The browser confines its renderers itself, which takes rights that a confined guest has not.
    guest = context.guest(GUEST, subject.cell.environment, wrapper=wrapper, confinement=UNCONFINED)
    with guest, context.scratch() as folder:
        folder.chmod(0o755)
        visitor = Visitor(context, subject, guest, x, folder)
        seen = visitor.visit("browser-wasm", policy(PERMISSIONS), sandbox=True)
        same = visitor.equals(seen, expected)
    filtered, free = seen["sandboxed"]
    output = "as expected" if same else f"not as expected: {seen['error']}"
    text = (
        f"Chromium {seen['version']} with its sandbox: {filtered} of {filtered + free} renderers under a seccomp "
        f"filter; output {output}"
    )
    text += " (as another user in a namespace, since root may not)" if wrapper else ""
    return Observation(OPTION, "browser sandbox", verdict(same and filtered > 0 and free == 0), text, float(filtered))
