"""Runs the `run` steps of a workflow's job on this machine, in order and as they stand, as a runner of GitHub's does.

Of its expressions it knows what the project's workflows use in steps: names of contexts, texts in quotes, `==`, `!=`,
`&&` and `!cancelled()`.  Whatever else stands there raises KeyError.  Of a step that uses an action is told that its
turn came, and with what: the checkout is the folder, and there is nowhere to upload to.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.places import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"
_UNLESS_CANCELLED = "!cancelled()"


def read(name: str) -> dict[str, Any]:
    """A workflow of the project; YAML itself takes its key `on` for a truth value."""
    found = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in found.items()}


def jobs(name: str) -> list[dict[str, Any]]:
    """Jobs of a workflow that have steps of their own; the others call a workflow."""
    return [job for job in read(name)["jobs"].values() if "uses" not in job]


def expanded(text: object, contexts: Mapping[str, Any]) -> str:
    """A value of a workflow with its expressions in their places."""
    return re.sub(r"\$\{\{ (.+?) \}\}", lambda found: _value(found[1], contexts), str(text))


def holds(condition: str, contexts: Mapping[str, Any]) -> bool:
    """Whether a step's condition holds, while nothing was cancelled."""
    bare = condition.removeprefix("${{ ").removesuffix(" }}")
    return all(_compared(part, contexts) for part in bare.split(" && "))


def _compared(part: str, contexts: Mapping[str, Any]) -> bool:
    if part == _UNLESS_CANCELLED:
        return True
    left, operator, right = part.split(" ")
    return (_value(left, contexts) == _value(right, contexts)) == {"==": True, "!=": False}[operator]


def _value(term: str, contexts: Mapping[str, Any]) -> str:
    """A text in quotes, or what stands under a dotted name; what a known context lacks is empty, as on GitHub."""
    if term.startswith("'"):
        return term.strip("'")
    root, *names = term.split(".")
    here: Any = contexts[root]
    for name in names:
        here = here.get(name, {})
    return str(here or "")


@dataclass
class Night:
    """What one run of a job left: whether it failed, the steps that ran, its summary, what they printed.

    `used` are the actions whose turn came, by name without owner and version, each with what it was given.
    """

    failed: bool = False
    ran: list[str] = field(default_factory=list)
    used: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    summary: str = ""
    said: str = ""


@dataclass(frozen=True)
class Runner:
    """A machine that runs jobs: its checkout, its folder for a job's temporary files, its own variables."""

    checkout: Path
    temp: Path
    variables: Mapping[str, str]

    def run(self, job: Mapping[str, Any], contexts: Mapping[str, Any], wanted: Callable[[str], bool] = bool) -> Night:
        """Run a job's steps whose scripts are `wanted`, as far as their conditions and earlier failures let them."""
        shutil.rmtree(self.temp, ignore_errors=True)
        self.temp.mkdir()
        files = {name: self.temp / name for name in ("env", "path", "output", "summary")}
        for path in files.values():
            path.write_text("", encoding="utf-8")
        night, outputs = Night(), dict[str, Any]()
        known = {**contexts, "steps": outputs, "runner": {"temp": str(self.temp)}}
        for step in job["steps"]:
            condition = str(step.get("if", ""))
            if night.failed and _UNLESS_CANCELLED not in condition:
                continue
            if condition and not holds(condition, known):
                continue
            if "uses" in step:
                named = re.fullmatch(r"[\w-]+/([\w-]+)@.*", step["uses"])
                here = {**known, "env": {**job.get("env", {}), **_pairs(files["env"])}}
                given = {name: expanded(value, here) for name, value in step.get("with", {}).items()}
                night.used.append((named[1] if named else step["uses"], given))
                continue
            if not wanted(step["run"]):
                continue
            files["output"].write_text("", encoding="utf-8")
            done = self._step(step, {**job.get("env", {}), **step.get("env", {})}, known, files)
            night.failed |= done.returncode != 0
            night.ran.append(step.get("name", step["run"]))
            night.said += done.stdout
            outcome = "failure" if done.returncode else "success"
            outputs[step.get("id", "")] = {"outputs": _pairs(files["output"]), "outcome": outcome}
        night.summary = files["summary"].read_text(encoding="utf-8")
        return night

    def _step(
        self, step: Mapping[str, Any], env: Mapping[str, str], known: Mapping[str, Any], files: Mapping[str, Path]
    ) -> subprocess.CompletedProcess[str]:
        script = self.temp / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        variables = {
            **self.variables,
            "GITHUB_SHA": known["github"]["sha"],
            "GITHUB_REF_NAME": "main",
            "GITHUB_RUN_ID": known["github"].get("run_id", ""),
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_ENV": str(files["env"]),
            "GITHUB_PATH": str(files["path"]),
            "GITHUB_OUTPUT": str(files["output"]),
            "GITHUB_STEP_SUMMARY": str(files["summary"]),
            **{name: expanded(value, known) for name, value in env.items()},
            **_pairs(files["env"]),
        }
        added = files["path"].read_text(encoding="utf-8").split()
        variables["PATH"] = ":".join([*reversed(added), variables["PATH"]])
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        return subprocess.run(
            command,
            cwd=self.checkout,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def _pairs(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


GH = '''
"""Stands for GitHub: at most one issue is open, and every call is recorded with the text that it brings."""
import json, pathlib, sys
home = pathlib.Path(__file__).parent
words = sys.argv[1:]
body = pathlib.Path(words[words.index("--body-file") + 1]).read_text() if "--body-file" in words else ""
with (home / "gh.jsonl").open("a") as calls:
    calls.write(json.dumps({"words": words, "body": body}) + "\\n")
issue = home / "open-issue"
match words[:2]:
    case ["issue", "create"]:
        issue.write_text("7")
    case ["issue", "close"]:
        issue.unlink()
    case ["issue", "list"]:
        print(issue.read_text() if issue.exists() else "")
'''
