"""Writes small runs with the true schema, for the tests of the report.

The numbers are invented but consistent with each other: ratios and percentiles are computed from the samples that
are written beside them, and the detections are the same scenes seen with more or less jitter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench import store

CLASSES = ["gear", "bolt", "washer", "bracket", "spring", "valve", "hinge", "clamp"]
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
IMAGES = 24
ROUNDS = 24
LAUNCHES = 12
PER_TURN = 6

# option, precision, compute, speed-up, mAP delta, size MB, environment MB, RSS MB, load ms
MEASURED: list[tuple[str, str, str, float, float | None, float, float, float, float]] = [
    ("pytorch", "fp32", "f32", 1.00, 0.0, 5.5, 1012.4, 412.0, 210.0),
    ("torchscript", "fp32", "f32", 1.05, 0.0, 11.0, 951.2, 398.5, 180.0),
    ("onnx", "fp32", "f32", 1.62, -0.0001, 10.7, 155.3, 141.2, 62.0),
    ("onnx", "fp16", "f32", 1.58, -0.0002, 5.4, 155.3, 149.9, 71.0),
    ("onnx", "int8", "i8", 0.82, -0.0121, 3.1, 155.3, 128.4, 96.0),
    ("openvino", "fp32", "f32", 1.79, -0.0001, 10.8, 253.1, 201.7, 240.0),
    ("openvino", "fp16", "f32", 1.78, -0.0003, 5.6, 253.1, 188.2, 236.0),
    ("openvino", "int8", "i8", 3.41, -0.0064, 3.3, 253.1, 176.9, 310.0),
    ("openvino", "bf16", "bf16", 1.31, -0.0018, 10.8, 253.1, 214.0, 251.0),
]


def cell_id(option: str, precision: str, target: str = "cpu") -> str:
    """Identity as the bench writes it."""
    return f"demo/{option}-{precision}-{target}-320-b1-t2"


def write_run(
    run_dir: Path,
    *,
    options: tuple[str, ...] = ("pytorch", "torchscript", "onnx", "openvino"),
    problems: bool = True,
    deltas: bool = True,
    intervals: bool = True,
    hostile: bool = False,
    images_dir: Path | None = None,
) -> Path:
    """Write a run of the given options; without `deltas` or `intervals` those columns are null."""
    generator = np.random.Generator(np.random.PCG64(11))
    chosen = [row for row in MEASURED if row[0] in options]
    samples, timings = _samples(chosen, generator, LAUNCHES if intervals else 1)  # one launch gives none
    cells = [_measured(row, timings[cell_id(row[0], row[1])], deltas, intervals) for row in chosen]
    cells += _problems() if problems else []
    truth, detections = _scenes(chosen, generator)
    environment = _environment(images_dir)
    if hostile:
        for cell in cells:
            cell["model"] = HOSTILE
            if cell["option"] == "openvino":
                cell["option"] = f"$\\frac{{1}}{{$ {HOSTILE}"
            cell["reproduce"] = f"bench run -k '{HOSTILE}'"
            if cell["status"] != "measured":
                cell["reason"] = f"{HOSTILE} $\\frac{{1}}{{$ \x1b[31m\u202e"
            else:
                cell["map_per_class"] = [(HOSTILE, 0.5), ("$x_$", 0.4)]
                cell["attested"] = json.dumps({"provider": HOSTILE, HOSTILE: [1, 2]})
        environment.append({"scope": "machine", "key": HOSTILE, "value": HOSTILE})
    store.write_table(run_dir, "cells", cells)
    store.write_table(run_dir, "samples", samples)
    store.write_table(run_dir, "detections", detections)
    store.write_table(run_dir, "ground_truth", truth)
    store.write_table(run_dir, "environment", environment)
    return run_dir


def write_images(folder: Path) -> Path:
    """Draw the scenes of `write_run` as PNG files, so that a photograph is there to draw boxes on."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(IMAGES):
        ramp = np.linspace(70, 150, 320, dtype=np.uint8)
        image = np.repeat(np.repeat(ramp[None, :, None], 240, axis=0), 3, axis=2)
        for category, (x, y, w, h) in _objects(index):
            colour = tuple(int(v) for v in np.random.Generator(np.random.PCG64(category)).integers(30, 230, 3))
            cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), colour, -1)
            cv2.circle(image, (int(x + w / 2), int(y + h / 2)), int(min(w, h) / 4), (20, 20, 20), -1)
        cv2.imwrite(str(folder / f"scene-{index:03d}.png"), image)
    return folder


def _objects(index: int) -> list[tuple[int, tuple[float, float, float, float]]]:
    generator = np.random.Generator(np.random.PCG64(1000 + index))
    objects = []
    for _ in range(3 + index % 7):
        w, h = generator.uniform(18, 90, 2)
        x, y = generator.uniform(0, 320 - w), generator.uniform(0, 240 - h)
        objects.append((int(generator.integers(0, len(CLASSES))), (float(x), float(y), float(w), float(h))))
    return objects


def _samples(
    rows: list[Any], generator: np.random.Generator, launches: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    samples: list[dict[str, Any]] = []
    by_round: dict[str, list[np.ndarray]] = {cell_id(row[0], row[1]): [] for row in rows}
    for turn in range(ROUNDS):
        disturbed = turn == 7
        drift = 1 + 0.08 * np.sin(turn / 3)
        for order, row in enumerate(rows):
            identity = cell_id(row[0], row[1])
            base = 24.0 / row[3] * drift * (3.0 if disturbed else 1.0)
            times = base * (1 + generator.gamma(2.0, 0.02, PER_TURN))
            if not disturbed:
                by_round[identity].append(times)
            for index, value in enumerate(times):
                samples.append(
                    {
                        "cell_id": identity,
                        "window": 0,
                        "launch": turn * launches // ROUNDS,
                        "round": turn,
                        "order": order,
                        "index": index,
                        "latency_ms": float(value),
                        "cpu_per_wall": 1.9,
                        "steal": 0.0,
                        "contaminated": disturbed,
                    }
                )
    reference = by_round[cell_id(rows[0][0], rows[0][1])]
    timings = {}
    for identity, rounds in by_round.items():
        ratios = np.array([np.median(a) / np.median(b) for a, b in zip(reference, rounds, strict=True)])
        draws = np.median(generator.choice(ratios, (400, ratios.size)), axis=1)
        low, high = np.quantile(draws, [0.025, 0.975])
        timings[identity] = (np.concatenate(rounds), float(np.median(ratios)), float(low), float(high))
    return samples, timings


def _measured(row: Any, timing: Any, deltas: bool, intervals: bool) -> dict[str, Any]:
    option, precision, compute, _, delta, size, environment, rss, load = row
    times, ratio, low, high = timing
    score = 0.7132 + delta
    spread = 0.0004 + abs(delta) * 0.4
    attested = {
        "device": "cpu",
        "provider": {"onnx": "CPUExecutionProvider", "openvino": "CPU"}.get(option, "torch"),
        "compute": compute,
        "threads": 2,
        "input_shape": [1, 3, 320, 320],
        "version": {"onnx": "1.32.0", "openvino": "2026.4.1"}.get(option, "2.13.0"),
    }
    reference = option == "pytorch"
    return {
        "run_id": "demo-run",
        "cell_id": cell_id(option, precision),
        "model": "demo",
        "option": option,
        "precision": precision,
        "target": "cpu",
        "imgsz": 320,
        "batch": 1,
        "threads": 2,
        "reference_id": cell_id("pytorch", "fp32"),
        "status": "measured",
        "reason_code": "",
        "reason": "",
        "map50_95": score,
        "map50": score + 0.17,
        "map75": score + 0.06,
        "map_small": 0.512 + 2 * delta,
        "map_medium": 0.744 + delta,
        "map_large": None if option == "torchscript" else 0.861 + delta / 2,
        "map_per_class": [(name, 0.55 + 0.04 * i + delta * (1 + i % 3)) for i, name in enumerate(CLASSES)],
        "map_delta": delta if deltas else None,
        "map_delta_low": delta - spread * (not reference) if deltas and intervals else None,
        "map_delta_high": delta + spread * (not reference) if deltas and intervals else None,
        "images": IMAGES,
        "evaluator": "hotcoco 1.3.0",
        "latency_p50_ms": float(np.median(times)),
        "latency_p90_ms": float(np.quantile(times, 0.9)),
        "latency_p99_ms": None,
        "latency_ratio": 1.0 if reference else ratio,
        "latency_ratio_low": (1.0 if reference else low) if intervals else None,
        "latency_ratio_high": (1.0 if reference else high) if intervals else None,
        "latency_samples": int(times.size),
        "latency_launches": LAUNCHES if intervals else 1,
        "latency_rounds": ROUNDS - 1,
        "latency_rounds_contaminated": 1,
        "latency_stop": "interval",
        "size_bytes": int(size * 1e6),
        "env_bytes": int(environment * 1e6),
        "import_ms": load * 2.5,
        "load_ms": load,
        "first_inference_ms": float(np.median(times)) * 3,
        "rss_after_load_bytes": int(rss * 0.8e6),
        "peak_rss_bytes": int(rss * 1e6),
        "parity_images": 8,
        "parity_box_max": 0.0 if reference else (2.31 if compute != "f32" else 1.4e-4),
        "parity_box_mean": 0.0 if reference else 1e-5,
        "parity_box_p999": 0.0 if reference else (0.82 if compute != "f32" else 6.1e-5),
        "parity_score_max": 0.0 if reference else (0.021 if compute != "f32" else 1.2e-6),
        "attested": json.dumps(attested),
        "expected": json.dumps({"device": "cpu", "compute": compute, "threads": 2}),
        "compute": compute,
        "artifact_key": "0" * 64,
        "artifact_sha256": "1" * 64,
        "export_seconds": 4.2,
        "calibration": "train, 64 images" if precision == "int8" else "",
        "reproduce": f"nox -s bench -- -k {option}-{precision}-cpu-320",
        "seconds": 31.5,
    }


def _problems() -> list[dict[str, Any]]:
    def problem(option: str, precision: str, target: str, status: str, code: str, text: str) -> dict[str, Any]:
        return {
            "run_id": "demo-run",
            "cell_id": cell_id(option, precision, target),
            "model": "demo",
            "option": option,
            "precision": precision,
            "target": target,
            "imgsz": 320,
            "batch": 1,
            "threads": 2,
            "reference_id": cell_id("pytorch", "fp32", "cpu" if target.startswith("cpu") else target),
            "status": status,
            "reason_code": code,
            "reason": text,
            "reproduce": f"nox -s bench -- -k {option}-{precision}-{target}-320",
        }

    absent = "No CUDA device: nvidia-smi was not found and /dev/nvidia0 does not exist."
    invalid = problem(
        "openvino", "auto", "cpu", "invalid", "attestation_mismatch", "Asked for f32 arithmetic; the runtime ran bf16."
    )
    invalid["attested"] = json.dumps({"device": "CPU", "compute": "bf16", "threads": 2})
    # What a runtime measured before its attestation contradicted the request: stored, and never to be shown.
    invalid |= {"latency_ratio": 9.87, "latency_ratio_low": 9.86, "latency_ratio_high": 9.88, "map50_95": 0.987}
    invalid["expected"] = json.dumps({"device": "CPU", "compute": "f32", "threads": 2})
    crash = "The guest was killed by SIGSEGV.\nLast lines of its output:\n  ncnn: layer 14 has no batch dimension"
    return [
        problem("ncnn", "fp32", "cpu", "failed", "crashed", crash),
        invalid,
        problem("pytorch", "fp32", "cuda", "skipped", "target_absent", absent),
        problem("pytorch", "fp16", "cuda", "skipped", "target_absent", absent),
        problem("onnx", "fp32", "cuda", "skipped", "target_absent", absent),
        problem(
            "torchscript", "int8", "cpu", "skipped", "precision_unsupported", "TorchScript has no INT8 export on CPU."
        ),
    ]


def _scenes(rows: list[Any], generator: np.random.Generator) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    truth: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in range(IMAGES):
        objects = _objects(image)
        for category in sorted({category for category, _ in objects}):
            n = sum(category == other for other, _ in objects)
            name = f"scene-{image:03d}.png"
            truth.append({"image_id": image, "file_name": name, "category_id": category, "objects": n})
        for option, precision, compute, *_ in rows:
            jitter = 0.4 if compute == "f32" else 4.0
            for category, box in objects:
                noisy = np.array(box) + generator.normal(0, jitter, 4)
                score = float(np.clip(generator.normal(0.75, 0.15), 0.05, 0.99))
                detections.append(_detection(cell_id(option, precision), image, category, score, noisy, 0b1111111))
            if compute != "f32":
                stray = np.array([200.0, 150.0, 40.0, 30.0])
                detections.append(_detection(cell_id(option, precision), image, 0, 0.41, stray, 0))
    return truth, detections


def _detection(identity: str, image: int, category: int, score: float, box: Any, matched: int) -> dict[str, Any]:
    x, y, w, h = (float(value) for value in box)
    return {
        "cell_id": identity,
        "image_id": image,
        "category_id": category,
        "score": score,
        "x": x,
        "y": y,
        "w": w,
        "h": h,
        "matched": matched,
        "ignored": 0,
    }


def _environment(images_dir: Path | None) -> list[dict[str, str]]:
    facts = [
        ("run", "task", "detect"),
        ("run", "report_image_id", "6"),
        ("run", "model_classes", json.dumps(CLASSES)),
        ("run", "seed", "0"),
        ("machine", "cpu", "Example CPU"),
        ("machine", "memory_bytes", "24000000000"),
        ("machine", "cpu_cores_logical", "2"),
        ("machine", "system", "Linux 6.1 x86-64"),
        ("time", "export", "61.2"),
        ("time", "latency", "90.5"),
        ("time", "total", "180.0"),
        ("core", "numpy", "2.4.0"),
        ("core", "hotcoco", "1.3.0"),
        ("env:onnx", "packages", json.dumps(["onnxruntime==1.32.0", "numpy==2.4.0"])),
        ("env:openvino", "packages", json.dumps(["openvino==2026.4.1", "numpy==2.4.0"])),
    ]
    if images_dir is not None:
        facts.append(("run", "images_dir", str(images_dir)))
    return [{"scope": scope, "key": key, "value": value} for scope, key, value in facts]


def write_pages(files: Mapping[str, str], out: Path) -> Path:
    """Write the pages of a site, by their names, into a folder; returns that."""
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text, "utf-8")
    return out
