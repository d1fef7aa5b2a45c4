"""How examples of inputs are made: real ones in which something was changed, and texts that somebody means ill by."""

from __future__ import annotations

import io
import json
import math
import tomllib
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from bench.grid import selfcheck, tolerances
from bench.guest.server import PROTOCOL
from bench.places import MATRICES
from bench.store.parquet import read

_ILL = (
    "!!python/object/apply:os.system ['touch {canary}']",
    "!!python/object/new:subprocess.Popen [[touch, {canary}]]",
    "$(touch {canary})",
    "`touch {canary}`",
    "; touch {canary} #",
    "'; open('{canary}', 'w'); '",
    "__import__('os').system('touch {canary}')",
    "{{{{ cycler.__init__.__globals__.os.system('touch {canary}') }}}}",
    "{{% for x in ().__class__.__base__.__subclasses__() %}}{{{{ x }}}}{{% endfor %}}",
    "cos\nsystem\n(S'touch {canary}'\ntR.",
    "[bold red]{canary}[/",
    "</script><script>fetch('file://{canary}')</script>",
    "../../../../../../etc/passwd",
    "%s%n%x",
    "\x1b]0;title\x07\x1b[2J",
    "\u202e\u0000\ufeff",
    "\ud800",
    "=cmd|'/c touch {canary}'!A0",
    "NaN",
    "-1e999",
    "9" * 5000,
    "a" * 300,
)


def ill(canary: str) -> SearchStrategy[str]:
    """Texts that would make the file `canary` if anything executed them, or that break what is careless with texts."""
    return st.sampled_from([text.format(canary=canary) for text in _ILL])


def values(canary: str) -> SearchStrategy[Any]:
    """Anything that JSON, YAML and TOML can hold."""
    numbers = st.integers(-(2**70), 2**70) | st.floats() | st.booleans()
    leaves = numbers | st.text(max_size=12) | ill(canary) | st.sampled_from(["*", "", "cpu", "onnx", "fp32", 0, 1, -1])
    inner = st.recursive(
        leaves,
        lambda more: st.lists(more, max_size=4) | st.dictionaries(st.text(max_size=6) | ill(canary), more, max_size=3),
        max_leaves=6,
    )
    return st.none() | inner


@st.composite
def changed(draw: DrawFn, value: Any, canary: str) -> Any:
    """A value in which one to three things at any depth are another, are gone, or are there twice."""
    for _ in range(draw(st.integers(1, 3))):
        value = _changed_once(draw, value, canary)
    return value


def _changed_once(draw: DrawFn, value: Any, canary: str) -> Any:
    deeper = isinstance(value, dict | list) and len(value) > 0 and draw(st.integers(0, 4)) > 0
    if not deeper:
        return draw(values(canary))
    if isinstance(value, dict):
        key = draw(st.sampled_from(sorted(value, key=str)))
        rest = {name: one for name, one in value.items() if name != key}
        match draw(st.integers(0, 5)):
            case 0:
                return rest
            case 1:
                return rest | {draw(st.text(max_size=8) | ill(canary)): value[key]}
            case 2:
                return value | {draw(st.text(max_size=8) | ill(canary)): draw(values(canary))}
            case _:
                return value | {key: _changed_once(draw, value[key], canary)}
    place = draw(st.integers(0, len(value) - 1))
    match draw(st.integers(0, 3)):
        case 0:
            return value[:place] + value[place + 1 :]
        case 1:
            return [*value, value[place]]
        case _:
            return [*value[:place], _changed_once(draw, value[place], canary), *value[place + 1 :]]


@st.composite
def spliced(draw: DrawFn, content: bytes, canary: str) -> bytes:
    """Bytes with something in the place of a part of them."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 40)))
    between = draw(st.binary(max_size=20) | ill(canary).map(_bytes) | st.just(b"[" * 3000))
    return content[:start] + between + content[end:]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def changed_json(value: Any, canary: str) -> SearchStrategy[bytes]:
    """A JSON document in which something was changed, as text or as bytes."""
    whole = json.dumps(value).encode()
    return changed(value, canary).map(lambda one: json.dumps(one).encode()) | spliced(whole, canary)


# -- matrices ----------------------------------------------------------------------------------------------------------


@cache
def _real() -> Mapping[str, tuple[bytes, dict[str, Any]]]:
    """Content of the real files by name, as bytes and read."""
    names = ["targets.toml", "parity.toml", tolerances.FILE, selfcheck.FILE]
    names += [
        str(path.relative_to(MATRICES)) for folder in ("options", "sweeps") for path in (MATRICES / folder).iterdir()
    ]
    contents = {name: (MATRICES / name).read_bytes() for name in sorted(names)}
    return {name: (content, tomllib.loads(content.decode())) for name, content in contents.items()}


def matrix_files(canary: str) -> SearchStrategy[tuple[str, bytes]]:
    """A file of the matrix, by its name, in which something was changed."""

    def file(name: str) -> SearchStrategy[tuple[str, bytes]]:
        content, parsed = _real()[name]
        either = changed(parsed, canary).map(lambda value: _toml(value).encode("utf-8", "surrogatepass"))
        return st.tuples(st.just(name), either | spliced(content, canary))

    return st.sampled_from(sorted(_real())).flatmap(file)


def _toml(value: Any) -> str:
    """A value as TOML, without tables of their own; what it has no way to say, TOML's parser refuses."""
    if not isinstance(value, dict):
        return f"value = {_inline(value)}\n"
    return "".join(f"{_inline(str(key))} = {_inline(one)}\n" for key, one in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_inline(str(key))} = {_inline(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)


# -- data sets ---------------------------------------------------------------------------------------------------------

_DATA: Mapping[str, Any] = {
    "path": ".",
    "train": "images/train",
    "val": ["images/val", "list.txt"],
    "nc": 2,
    "names": {0: "one", 1: "two"},
    "kpt_shape": [2, 3],
    "channels": 3,
    "download": "touch",
}
_YAML = (
    "val: 2024-13-45\nnames: [a]\n",
    "val: !!bool perhaps\nnames: [a]\n",
    "val: !!timestamp never\nnames: [a]\n",
    'val: "images\\0/val"\nnames: [a]\n',
    'val: images/val\nnames: ["\\ud800"]\n',
    "val: &a [*a]\nnames: *a\n",
    "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
    "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
    "e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e]\n"
    "g: &g [*f, *f, *f, *f, *f, *f, *f, *f, *f]\nh: &h [*g, *g, *g, *g, *g, *g, *g, *g, *g]\nval: *h\nnames: *h\n",
    "val: images/val\nnc: 999999999999\n",
    "val: images/val\nnames: {1e400: a}\n",
    "? [a, b]\n: c\nval: images/val\nnames: [a]\n",
    "val: /etc\nnames: [a]\n",
    "val: /dev\nnames: [a]\n",
    "--- a\n--- b\n",
)


def small_set(folder: Path) -> None:
    """A set of two images with labels, and a third that is no image."""
    for name in ("images/val", "images/train", "labels/val", "labels/train"):
        (folder / name).mkdir(parents=True)
    pixels = np.full((16, 20, 3), 90, np.uint8)
    for split in ("val", "train"):
        for stem in ("a", "b"):
            cv2.imwrite(str(folder / "images" / split / f"{stem}.png"), pixels)
            (folder / "labels" / split / f"{stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n", encoding="ascii")
    (folder / "list.txt").write_text("images/val/a.png\n", encoding="ascii")


def data_files(canary: str) -> SearchStrategy[bytes]:
    """A data file in which something was changed; some hold tags that would construct objects."""
    dumped = changed(dict(_DATA), canary).map(
        lambda value: _bytes(yaml.safe_dump(value, allow_unicode=True, sort_keys=False))
    )
    whole = yaml.safe_dump(dict(_DATA)).encode()
    tagged = ill(canary).map(lambda text: _bytes(f"path: .\nval: images/val\nnames: {text}\n"))
    return dumped | spliced(whole, canary) | tagged | st.sampled_from([text.encode() for text in _YAML])


def label_files(canary: str) -> SearchStrategy[tuple[bytes, int, int]]:
    """Content of a label file, number of classes, and columns of keypoints behind each box."""
    odd = ["nan", "inf", "-0", "1e308", "1_0", "0x1", "\uff11", "1e-400", "1,5", "+.5", "--1", "1e5000"]
    number = st.floats(-0.2, 1.2).map(lambda value: f"{value:.6g}") | st.integers(-1, 90).map(str)
    token = number | st.sampled_from(odd) | ill(canary) | st.text(max_size=5)
    row = st.lists(st.sampled_from(["0", "1"]) | token, min_size=0, max_size=12).map(" ".join)
    good = st.tuples(st.integers(0, 1), *[st.floats(0.2, 0.4)] * 4).map(lambda one: " ".join(map(str, one)))
    text = st.lists(good | row, max_size=6).map("\n".join).map(_bytes)
    return st.tuples(text | st.binary(max_size=60), st.integers(1, 90), st.sampled_from([0, 0, 0, 6, 51]))


def image_lists(canary: str) -> SearchStrategy[bytes]:
    """Content of a list of images."""
    real = st.sampled_from(["images/val/a.png", "./images/val/b.png", "images/val", "images/val/a.png ", "list.txt"])
    odd = [
        "\0a.png",
        "a" * 300 + ".png",
        "/dev/zero.png",
        "/proc/self/mem.jpg",
        "~/a.png",
        "https://x/a.jpg",
        "a.png,0",
    ]
    line = real | st.sampled_from(odd) | ill(canary) | ill(canary).map(lambda text: f"{text}.png") | st.text(max_size=8)
    return st.lists(line, max_size=5).map("\n".join).map(_bytes) | st.binary(max_size=40)


# -- results -----------------------------------------------------------------------------------------------------------


def kept_facts(canary: str) -> SearchStrategy[bytes]:
    """What the cache keeps of a checkpoint."""
    return changed_json({"names": {"0": "one", "1": "two"}, "strides": [8, 16, 32], "task": "detect"}, canary)


def tables(run: Path, canary: str) -> SearchStrategy[tuple[str, pa.Table]]:
    """A table of the run in which values, or a column's type, are others; its metadata stay."""
    names = sorted(path.stem for path in run.glob("*.parquet") if path.stem in _SHOWN)
    return st.sampled_from(names).flatmap(lambda name: _table(name, read(run / f"{name}.parquet"), canary))


_SHOWN = ("cells", "environment", "samples", "detections", "ground_truth")


@st.composite
def _table(draw: DrawFn, name: str, table: pa.Table, canary: str) -> tuple[str, pa.Table]:
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, table.num_columns - 1))  # by which it is found also where two are of one name
        field = table.schema.field(place)
        match draw(st.integers(0, 7)):
            case 0:
                table = table.remove_column(place)
            case 1:
                table = table.append_column(pa.field(draw(st.text(max_size=5)), field.type), table.column(place))
            case 2:
                texts = pa.array([draw(_texts(canary))] * len(table), pa.string())
                table = table.set_column(place, field.name, texts)
            case _:
                rows = table.column(place).to_pylist()
                if rows:
                    rows[draw(st.integers(0, len(rows) - 1))] = draw(_of_kind(field.type, canary))
                table = table.set_column(place, field, pa.array(rows, field.type))
        if not table.column_names:
            break
    return name, table


def _texts(canary: str) -> SearchStrategy[str]:
    known = ["measured", "failed", "", "{}", "[]", "[1]", '{"a": 1}', "null", "cpu", "pytorch", "fp32", "crashed"]
    whole = ill(canary).filter(lambda text: "\ud800" not in text)  # Arrow holds no half of a character
    return st.sampled_from(known) | whole | st.text(max_size=10)


def _of_kind(kind: pa.DataType, canary: str) -> SearchStrategy[Any]:
    if pa.types.is_floating(kind):
        return st.none() | st.floats(width=32 if kind == pa.float32() else 64)
    if pa.types.is_integer(kind):
        bits, low = kind.bit_width, 0 if pa.types.is_unsigned_integer(kind) else 1
        top = 2 ** (bits - low) - 1
        return st.none() | st.integers(-(top + 1) * low, top) | st.sampled_from([0, 1, top])
    if pa.types.is_boolean(kind):
        return st.none() | st.booleans()
    if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        return st.none() | _texts(canary)
    return st.none()


_BASELINE: Mapping[str, Any] = {
    "model_sha256": "0" * 64, "images": "8", "data_sha256": "1" * 64, "sweep": "smoke", "model": "m", "data": "d",
    "task": "detect", "commit": "", "house": "2" * 64, "run_id": "r", "cpu": "c", "name": "main", "machine": "machine",
    "who": "w", "when": "2026-01-01T00:00:00Z", "why": "because",
    "identities": {"m/onnx": {"lock": "a", "artifact": "b", "adapter": "c", "options": "[]", "device": "d"}},
}  # fmt: skip
_CHECK: Mapping[str, Any] = {
    "regressed": False, "machine": "machine", "notes": ["n"], "operators": {}, "against": "main", "seconds": 1.0,
    "noise": {"m/onnx": {"deviation": 0.01, "seconds": 2.0}}, "lines": [{"cell": "m/onnx", "metric": "status",
    "verdict": "same", "base": "measured", "candidate": "measured", "why": ""}],
}  # fmt: skip


def baseline_files(canary: str) -> SearchStrategy[tuple[str, bytes]]:
    """A file of a baseline, of a check, or of a self-check, by its name."""
    promotion = json.dumps({name: _BASELINE[name] for name in ("name", "machine", "who", "when", "why", "run_id")})
    lines = st.lists(spliced(promotion.encode(), canary) | st.just(promotion.encode()), max_size=3).map(b"\n".join)
    return st.one_of(
        st.tuples(st.just("baseline.json"), changed_json(dict(_BASELINE), canary)),
        st.tuples(st.just("promotions.jsonl"), lines),
        st.tuples(st.just("house.zip"), spliced(_house(), canary) | st.binary(max_size=40)),
        st.tuples(st.just("check.json"), changed_json(dict(_CHECK), canary)),
        st.tuples(st.just("facts.json"), changed_json(dict(_CHECK), canary)),
        st.tuples(st.sampled_from(["self.parquet", "calibration.parquet"]), spliced(_parquet(), canary)),
    )


@cache
def _house() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("matrices/targets.toml", "[cpu]\n" * 20)
        archive.writestr("guest/server.py", "print()\n" * 20)
    return sink.getvalue()


@cache
def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"cell": ["a", "b"], "round": [1, 2]}), sink)
    return bytes(sink.getvalue())


# -- guests ------------------------------------------------------------------------------------------------------------

PARROT: Mapping[str, Any] = {
    "artifact_dir": "unused",
    "manifest": {"output": {"layout": "channels_first", "units": "px", "shape": [1, 6, 0]}},
    "target": "cpu", "threads": 1, "precision": "fp32", "imgsz": 8, "batch": 1, "options": {},
}  # fmt: skip
_TALK: tuple[Mapping[str, Any], ...] = (
    {"id": 0, "protocol": PROTOCOL, "python": "3.11.0", "confined": {}},
    {"id": 1, "import_ms": 10.0, "load_ms": 5.0, "emulated": ""},
    {"id": 2, "samples_ns": [1000, 1100], "cpu_ns": 2000, "wall_ns": 2100, "threads": 1},
    {"id": 3, "operators": [{"name": "a", "type": "Conv", "ms": 0.5}]},
    {
        "id": 4,
        "peak_rss_bytes": 1000,
        "threads": 1,
        "huge_bytes": 0,
        "fixed_addresses": False,
        "attested": {"device": "cpu"},
    },
    {"id": 5, "result": {"files": []}},
    {
        "id": 6,
        "replies": {"output": {"path": "x", "dtype": "float32", "shape": [1, 6, 0]}},
        "infer_ns": 1000,
        "cpu_ns": 1000,
        "wall_ns": 1000,
    },
)
_ERROR: Mapping[str, Any] = {"error": {"kind": "RuntimeError", "message": "no", "traceback": "x"}}


@st.composite
def answers(draw: DrawFn, canary: str) -> bytes:
    """What a guest says from its first line to its last, somewhere not what it should say."""
    place = draw(st.integers(0, len(_TALK) - 1))
    before = _TALK[:place]
    wrong = dict(_TALK[place])
    match draw(st.integers(0, 5)):
        case 0:
            wrong = {"id": place} | {"error": draw(changed(dict(_ERROR["error"]), canary))}
        case 1:
            line = draw(spliced(json.dumps(wrong).encode(), canary))
            return _lines(before) + line + b"\n" + _lines(_TALK[place + 1 :])
        case _:
            kept = wrong.pop("id")
            wrong = draw(changed(wrong, canary))
            wrong = {"id": kept, **wrong} if isinstance(wrong, dict) else wrong
    return _lines(before) + json.dumps(wrong).encode() + b"\n" + _lines(_TALK[place + 1 :])


def _lines(said: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in said)
