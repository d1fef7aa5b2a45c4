"""Where a session runs."""

from __future__ import annotations

from ..refusals import TargetUnsupported

PROVIDERS = {"cpu": "CPUExecutionProvider", "arm-cpu": "CPUExecutionProvider"}


def provider(target: str) -> str:
    """The execution provider of a target.  Raises TargetUnsupported."""
    if target not in PROVIDERS:
        raise TargetUnsupported(f"The ORT format is run on {', '.join(PROVIDERS)} here, not on {target}.")
    return PROVIDERS[target]
