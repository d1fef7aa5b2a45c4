"""What a model and its data are, on the terminal: tables of facts, then warnings, then problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.words.numbers import clean, count, number

PROBLEMS_SHOWN = 50
NAMES_SHOWN = 8


def print_inspection(facts: Mapping[str, Any], console: Console) -> None:
    """Print the facts of `bench.measure.inspection.facts`.  Nothing in them is markup."""
    model, data = facts["model"], facts["data"]
    _print("Model", _model(model) if model else [("", "not read: see the problems below")], console)
    _print("Data", _data(data, facts["calibration"]) if data else [("", "not read: see the problems below")], console)
    warnings = facts["warnings"]
    if warnings:
        rows = [(one["name"], f"{number(one['count'], 0):>6}  {one['text']}") for one in warnings]
        _print(f"Warnings: {len(warnings)}", rows, console)
    problems = facts["problems"]
    if problems:
        console.print(Text(f"\nProblems: {len(problems)}", style="bold red"))
        for problem in problems[:PROBLEMS_SHOWN]:
            console.print(Text(f"  {clean(problem)}"), soft_wrap=True)
        if len(problems) > PROBLEMS_SHOWN:
            console.print(f"  ... and {len(problems) - PROBLEMS_SHOWN} more; --format json has them all")
    else:
        console.print(Text("\nNothing stands in the way of a run.", style="bold green"))


def _print(title: str, rows: Iterable[tuple[str, str]], console: Console) -> None:
    console.print(Text(f"\n{title}", style="bold"))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(f"  {name}"), Text(clean(text)))
    console.print(table)


def _model(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    channels = model["channels"]
    head = f"{model['head']}, end-to-end" if model["end_to_end"] else model["head"]
    size = f", trained at {model['trained_imgsz']} px" if model["trained_imgsz"] else ""
    sides = f"multiples of {model['stride']} px{size}"
    taken = sides if channels is None else f"{count(channels, 'channel')}, {sides}"
    about = [model["architecture"], f"{model['parameters'] / 1e6:.1f} M parameters" if model["parameters"] else ""]
    about.append(f"written by Ultralytics {model['written_by']}" if model["written_by"] else "")
    yield "file", model["file"]
    yield "task", f"{model['task']} (head {head})"
    yield "classes", _names(model["classes"])
    yield "input", taken
    yield "network", ", ".join(filter(None, about))
    yield "SHA-256", model["sha256"]


def _data(data: Mapping[str, Any], calibration: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    images, sizes = data["images"], data["sizes"]
    kinds = ", ".join(f"{kind} in {count(files, 'file')}" for kind, files in data["label_files"].items())
    without = images["read"] - images["with_objects"]
    told = without and data["annotations"] is None
    said = f", {images['empty_label_file']} of them by an empty label file" if told else ""
    smallest, largest = (" x ".join(map(str, sizes[name])) for name in ("smallest", "largest"))
    seen = [f"{name} {objects}" for name, objects in data["seen"].items()]
    yield "file", data["file"]
    yield "images", f"{number(images['found'], 0)} in {data['split']}, {number(images['read'], 0)} of them read"
    if data["annotations"] is not None:
        crowds = count(data["crowd_regions"], "crowd region")
        yield "annotations", f"{count(data['objects'], 'annotation')}, {crowds} among them; {data['annotations']}"
    else:
        yield "labels", f"{count(data['objects'], 'object')}; {kinds or 'no label file with a row'}"
    yield "background", f"{count(without, 'image')} without objects{said}"
    yield "classes", f"{len(seen)} of {data['classes']} seen{': ' if seen else ''}{_names(seen)}"
    yield "upright sizes", f"{smallest} to {largest} px, {number(sizes['different'], 0)} different"
    if calibration is not None:
        shared = f", {calibration['evaluated_too']} of them evaluated too" if calibration["evaluated_too"] else ""
        there = count(calibration["images"], "train image")
        yield "calibration", f"{number(calibration['taken'], 0)} of {there}{shared}"
    yield "SHA-256", data["sha256"] or "none, since some labels could not be read"


def _names(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
