"""Reading what people write in `matrices/`: TOML checked by a model, with errors a newcomer can act on."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.reasons import UsageError


class Entry(BaseModel):
    """An entry of a file in `matrices/`: unknown keys are refused, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read(path: Path) -> dict[str, Any]:
    """The content of a TOML file.  Raises UsageError when it cannot be read or is not valid TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # tomllib's own errors are ValueErrors, as those of its numbers are
        raise UsageError(f"{path}: not valid TOML: {error}") from error


Model = TypeVar("Model", bound=BaseModel)


def parse(kind: type[Model], value: Any, source: Path | str, prefix: str = "") -> Model:
    """`value` as a `kind`.  Raises UsageError with a line per fault: source, prefix and key, and what is allowed."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in ((prefix,) if prefix else ()) + problem["loc"])
            text = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                text = f"unknown key; allowed: {', '.join(_allowed(kind, problem['loc'][:-1]))}"
            lines.append(f"{source}: {key or 'file'}: {text}")
        raise UsageError("\n".join(lines)) from error


def _allowed(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys allowed at a place in a model, following nested models and tables of models."""
    current: Any = kind
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            current = current.model_fields[str(part)].annotation
        elif getattr(current, "__args__", None):
            current = current.__args__[-1]
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []
