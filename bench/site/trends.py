"""Pages of the history: what moved lately, each cell's figures night by night, and each night's runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from markupsafe import Markup

from bench.history.drift import Drift, Gone, Moved, Night, Trend, Version, is_relative, of_place
from bench.history.series import PACE, Place
from bench.site.charts import chart
from bench.words.locale import Locale
from bench.words.numbers import MISSING, TIMES, megabytes, number, significant

SHOWN_RUNS = 400
"""Runs of a series that a page shows: the newest ones."""
SHOWN_STEPS = 100
"""Steps that the first of these pages lists: the newest ones."""


@dataclass(frozen=True)
class Told:
    """A step in words: where and when it is, its levels, and what changed beside it."""

    path: str
    anchor: str
    place: Place
    machine_name: str
    target: str
    metric: str
    day: str
    night: str
    change: str
    before: str
    after: str
    worse: bool
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Figure:
    """A metric of a cell: its chart, its newest value, and its steps."""

    metric: str
    target: str
    anchor: str
    newest: str
    chart: Markup
    told: tuple[Told, ...]


@dataclass(frozen=True)
class Standing:
    """A machine with one of its sweeps: its newest run, and the cells that went missing."""

    night: Night
    runs: int
    first: str
    gone: tuple[Gone, ...]
    pages: tuple[tuple[str, str], ...]


def trend_path(place: Place) -> str:
    """The page of a cell of a machine in its language's folder; of the machine itself where the place has no cell."""
    words = _word(place.cell or f"{place.sweep}-{PACE}")
    told = hashlib.sha256(f"{place.sweep}\n{place.cell}".encode()).hexdigest()[:6]
    return f"trends/{_word(place.machine)}/{words[:100]}-{told}.html"


def night_path(day: str) -> str:
    """The page of a day in its language's folder."""
    return f"nights/{day}.html"


class Trends:
    """The pages of a history; what is the same in every language is made once."""

    def __init__(self, drift: Drift) -> None:
        """Take what was found in the history."""
        self.drift = drift
        self._runs = {night.run_id: night for night in drift.nights}
        self._names = {night.machine: night.machine_name for night in drift.nights}
        self._places = of_place(drift)
        self._figures = {place: tuple(map(self._figure, trends)) for place, trends in self._places.items()}
        told = (one for figures in self._figures.values() for figure in figures for one in figure.told)
        self._told = sorted(told, key=lambda one: (one.day, one.path, one.anchor), reverse=True)
        self._before = _previous(drift.nights)

    def pages(self, t: Locale) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Path, template and values of each page.  Links are from a page's own folder, as `base` leads out of it."""
        days = sorted({night.day for night in self.drift.nights}, reverse=True)
        yield (
            "trends.html",
            "trends",
            {
                "standings": self._standings(),
                "told": self._told[:SHOWN_STEPS],
                "total": len(self._told),
                "days": days,
                "undated": self.drift.undated,
            },
        )
        for place, figures in self._figures.items():
            yield (
                trend_path(place),
                "trend",
                {
                    "place": place,
                    "machine_name": self._names[place.machine],
                    "title": place.cell or t("trends.pace_of", sweep=place.sweep),
                    "figures": figures,
                    "nights": self._nights_of(place),
                },
            )
        by_day: dict[str, list[Night]] = {}
        for night in self.drift.nights:
            by_day.setdefault(night.day, []).append(night)
        for place_in_time, day in enumerate(days):
            yield (
                night_path(day),
                "night",
                {
                    "day": day,
                    "nights": [(night, self._newly_gone(night)) for night in by_day[day]],
                    "told": [one for one in self._told if one.day == day],
                    "before": days[place_in_time + 1] if place_in_time + 1 < len(days) else "",
                    "after": days[place_in_time - 1] if place_in_time else "",
                },
            )

    def _figure(self, trend: Trend) -> Figure:
        series = trend.series
        first = max(0, len(series.runs) - SHOWN_RUNS)
        anchor = _word(f"{series.metric}-{series.target}" if series.metric == PACE else series.metric)
        told = tuple(self._tell(trend, moved, anchor) for moved in trend.moved)
        steps = [
            (moved.step.at - first, f"../../{one.night}")
            for moved, one in zip(trend.moved, told, strict=True)
            if moved.step.at > first
        ]
        drawn = chart(
            np.array([self._runs[run].started.timestamp() / 86400 for run in series.runs[first:]]),
            series.values[first:],
            steps,
            lambda value: shown(value, series.metric),
            (self._runs[series.runs[first]].day, self._runs[series.runs[-1]].day),
            f"{series.metric}: {len(series.runs)}",
        )
        return Figure(series.metric, series.target, anchor, shown(float(series.values[-1]), series.metric), drawn, told)

    def _tell(self, trend: Trend, moved: Moved, anchor: str) -> Told:
        series, step = trend.series, moved.step
        day = self._runs[moved.after].day
        change = (
            f"{number(100 * (step.after / step.before - 1), 1, sign=True)} %"
            if is_relative(series.metric)
            else number(step.after - step.before, 4, sign=True)
        )
        return Told(
            path=trend_path(series.place),
            anchor=anchor,
            place=series.place,
            machine_name=self._names[series.place.machine],
            target=series.target,
            metric=series.metric,
            day=day,
            night=night_path(day),
            change=change,
            before=shown(step.before, series.metric),
            after=shown(step.after, series.metric),
            worse=moved.worse,
            versions=moved.versions,
        )

    def _standings(self) -> list[Standing]:
        newest: dict[tuple[str, str], list[Night]] = {}
        for night in self.drift.nights:
            newest.setdefault((night.machine, night.sweep), []).append(night)
        pages: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for place in self._places:
            pages.setdefault((place.machine, place.sweep), []).append((place.cell, trend_path(place)))
        return [
            Standing(
                nights[-1],
                len(nights),
                nights[0].day,
                self.drift.gone[nights[-1].run_id],
                tuple(pages.get(key, ())),
            )
            for key, nights in sorted(newest.items())
        ]

    def _nights_of(self, place: Place) -> list[Night]:
        """Nights that a place's figures are from, newest first."""
        runs = {run for trend in self._places[place] for run in trend.series.runs}
        return [self._runs[run] for run in sorted(runs, key=self._when, reverse=True)[:SHOWN_RUNS]]

    def _when(self, run: str) -> tuple[datetime, str]:
        return self._runs[run].started, run

    def _newly_gone(self, night: Night) -> list[Gone]:
        """Cells that the run before, of the same machine and sweep, still had measured."""
        before = self._before.get(night.run_id)
        return [one for one in self.drift.gone[night.run_id] if one.last == before]


def _previous(nights: Sequence[Night]) -> dict[str, str]:
    """The run of the same machine and sweep that came before each."""
    last: dict[tuple[str, str], str] = {}
    found = {}
    for night in nights:
        key = (night.machine, night.sweep)
        if key in last:
            found[night.run_id] = last[key]
        last[key] = night.run_id
    return found


def shown(value: float, metric: str) -> str:
    """A value of a metric as the pages write it, with its unit."""
    if metric.endswith("_bytes"):
        return f"{significant(megabytes(value), 4)}\N{NO-BREAK SPACE}MB"
    if metric == PACE:
        return f"{number(value, 3)}{TIMES}"
    return number(value, 4) if not is_relative(metric) else f"{significant(value, 4)}\N{NO-BREAK SPACE}ms"


def versions_of(told: Sequence[Version]) -> str:
    """What changed beside a step, on one line: `env:onnx onnxruntime 1.25.1 → 1.26.0`."""
    return "; ".join(
        f"{one.scope} {one.name} {_short(one.before)} \N{RIGHTWARDS ARROW} {_short(one.after)}" for one in told
    )


def _short(value: str) -> str:
    """A hash by its beginning; nothing as a dash."""
    return value[:10] if re.fullmatch(r"[0-9a-f]{40,64}(\+changes)?", value) else value or MISSING


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
