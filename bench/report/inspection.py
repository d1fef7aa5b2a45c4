"""What models and their data are, on the terminal: tables of facts, then warnings, then problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.words.locale import Locale
from bench.words.messages import messages
from bench.words.numbers import clean, number

PROBLEMS_SHOWN = 50
NAMES_SHOWN = 8


def print_inspection(facts: Mapping[str, Any], console: Console, t: Locale) -> None:
    """Print the facts of `bench.measure.inspection.facts`.  Nothing in them is markup."""
    say = messages(t.language)
    models, data = facts["models"], facts["data"]
    unread = [("", t("inspect.unread"))]
    for model in models:
        title = t("inspect.model") if len(models) == 1 else t("inspect.one_model", name=clean(model["name"]))
        _print(title, _model(model, t), console)
    if not models:
        _print(t("inspect.model"), unread, console)
    _print(t("inspect.data"), _data(data, facts["calibration"], t) if data else unread, console)
    warnings = facts["warnings"]
    if warnings:
        rows = [(one["name"], f"{number(one['count'], 0):>6}  {say(one['text'])}") for one in warnings]
        _print(t("inspect.warnings", n=len(warnings)), rows, console)
    problems = facts["problems"]
    if problems:
        console.print(Text(f"\n{t('inspect.problems', n=len(problems))}", style="bold red"))
        for problem in problems[:PROBLEMS_SHOWN]:
            console.print(Text(f"  {clean(say(problem))}"), soft_wrap=True)
        if len(problems) > PROBLEMS_SHOWN:
            console.print(f"  {t('inspect.more', n=len(problems) - PROBLEMS_SHOWN)}")
    else:
        console.print(Text(f"\n{t('inspect.ready')}", style="bold green"))


def _print(title: str, rows: Iterable[tuple[str, str]], console: Console) -> None:
    console.print(Text(f"\n{title}", style="bold"))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(f"  {name}"), Text(clean(text)))
    console.print(table)


def _model(model: Mapping[str, Any], t: Locale) -> Iterator[tuple[str, str]]:
    channels = model["channels"]
    taken = t("inspect.sides", stride=model["stride"])
    if model["trained_imgsz"]:
        taken = t("inspect.trained", sides=taken, imgsz=model["trained_imgsz"])
    if channels is not None:
        taken = t(_one("inspect.channels", channels), n=number(channels, 0), sides=taken)
    about = [model["architecture"]]
    about.append(t("inspect.parameters", n=f"{model['parameters'] / 1e6:.1f}") if model["parameters"] else "")
    about.append(t("inspect.written", version=model["written_by"]) if model["written_by"] else "")
    head = "inspect.head_whole" if model["end_to_end"] else "inspect.head"
    yield t("inspect.file"), model["file"]
    yield t("inspect.task"), t(head, task=model["task"], head=model["head"])
    yield t("inspect.classes"), _names(model["classes"], t)
    yield t("inspect.input"), taken
    yield t("inspect.network"), t("separator").join(filter(None, about))
    yield t("inspect.sha256"), model["sha256"]


def _data(data: Mapping[str, Any], calibration: Mapping[str, Any] | None, t: Locale) -> Iterator[tuple[str, str]]:
    images, sizes = data["images"], data["sizes"]
    bare = images["read"] - images["with_objects"]
    without = t(_one("inspect.without", bare), n=number(bare, 0))
    told = bare and data["annotations"] is None
    smallest, largest = (" x ".join(map(str, sizes[name])) for name in ("smallest", "largest"))
    seen = [f"{name} {objects}" for name, objects in data["seen"].items()]
    read = {"found": number(images["found"], 0), "split": data["split"], "read": number(images["read"], 0)}
    many = {"seen": len(seen), "classes": data["classes"]}
    yield t("inspect.file"), data["file"]
    yield t("inspect.images"), t("inspect.found", **read)
    yield _objects(data, t)
    yield (
        t("inspect.background"),
        t("inspect.empty", without=without, n=images["empty_label_file"]) if told else without,
    )
    yield (
        t("inspect.classes"),
        t("inspect.seen_names", **many, names=_names(seen, t)) if seen else t("inspect.seen", **many),
    )
    yield t("inspect.upright"), t("inspect.sizes", smallest=smallest, largest=largest, n=number(sizes["different"], 0))
    if calibration is not None:
        there = calibration["images"]
        taken = t(_one("inspect.taken", there), taken=number(calibration["taken"], 0), n=number(there, 0))
        shared = calibration["evaluated_too"]
        yield t("inspect.calibration"), t("inspect.shared", taken=taken, n=shared) if shared else taken
    yield t("inspect.sha256"), data["sha256"] or t("inspect.no_hash")


def _objects(data: Mapping[str, Any], t: Locale) -> tuple[str, str]:
    """What annotates the images: label files, of some kinds, or a file of official annotations."""
    many, shown = data["objects"], number(data["objects"], 0)
    if data["annotations"] is not None:
        crowds = data["crowd_regions"]
        among = t(_one("inspect.crowds", crowds), n=number(crowds, 0))
        told = t(_one("inspect.annotated", many), n=shown, crowds=among, file=data["annotations"])
        return t("inspect.annotations"), told
    say, files = messages(t.language), data["label_files"].items()
    kinds = t("separator").join(t(_one("inspect.kind", n), kind=say(kind), n=number(n, 0)) for kind, n in files)
    return t("inspect.labels"), t(_one("inspect.objects", many), n=shown, kinds=kinds or t("inspect.no_rows"))


def _one(key: str, n: int) -> str:
    """The key of a text about so many."""
    return f"{key}_one" if n == 1 else key


def _names(names: Sequence[str], t: Locale) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return t("inspect.names", names=shown, n=len(names)) if len(names) > NAMES_SHOWN else shown
