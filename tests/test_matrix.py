"""The grid: wrong files are told apart by file, key and allowed values; a sweep expands to the cells it says."""

from __future__ import annotations

import platform
import re
import shutil
from pathlib import Path

import pytest

from bench.grid import machine, matrix
from bench.grid.request import Request, expand
from bench.grid.schema import Signs, Target
from bench.places import MATRICES
from bench.reasons import UsageError
from bench.words.messages import messages


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return shutil.copytree(MATRICES, tmp_path / "matrices")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_project_matrix_is_valid_and_every_sweep_expands() -> None:
    read = matrix.load()
    assert {"pytorch", "torchscript", "onnx", "openvino"} <= set(read.options)
    assert {"smoke", "nightly", "full"} <= set(read.sweeps)
    for name in read.sweeps:
        cells = read.cells("model", read.sweep(name))
        assert len({cell.cell_id for cell in cells}) == len(cells)
        assert len({cell.id for cell in cells}) == len(cells)


def test_every_cell_has_its_reference_in_the_grid() -> None:
    read = matrix.load()
    sweep = matrix.override(read.sweep("full"), "test", options=["openvino"])
    cells = read.cells("model", sweep)
    ids = {cell.cell_id for cell in cells}
    assert {read.reference_of(cell).cell_id for cell in cells} <= ids
    assert any(cell.is_reference and cell.batch == 4 and cell.threads == 2 for cell in cells)


@pytest.mark.parametrize(("machine", "yardstick"), [("x86_64", "cpu"), ("AMD64", "cpu"), ("aarch64", "arm-cpu")])
def test_what_pytorch_has_no_target_for_is_compared_with_this_machines_processor(
    machine: str, yardstick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    read = matrix.load()
    for target, option in (("coreml-mil", "coreml"), ("edgetpu-proxy", "edgetpu"), ("browser-wasm", "tfjs")):
        sweep = matrix.override(read.sweep("all"), "test", options=[option], targets=[target])
        cells = read.cells("m", sweep)
        assert {(cell.option.id, cell.target) for cell in cells} == {("pytorch", yardstick), (option, target)}
        assert {read.reference_of(cell).target for cell in cells} == {yardstick}
    assert read.reference_target("cpu") == "cpu"
    assert read.reference_target("arm-cpu") == "arm-cpu"


def test_cell_ids_leave_defaults_out() -> None:
    read = matrix.load()
    sweep = matrix.override(read.sweep("smoke"), "test", options=["onnx"], precisions=["int8"], targets=["cpu"])
    assert "onnx-int8-cpu-320" in [cell.id for cell in read.cells("m", sweep)]
    sweep = matrix.override(sweep, "test", batch=[8], threads=[2])
    assert "onnx-int8-cpu-320-b8-t2" in [cell.id for cell in read.cells("m", sweep)]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("options/onnx.toml", 'compute = "f32"', 'compute = "f64"', ["onnx.toml", "compute", "'f32'", "'bf16'"]),
        ("options/onnx.toml", "order = 3", "orderr = 3", ["options/onnx.toml", "orderr", "unknown key", "order"]),
        ("options/onnx.toml", '"cpu"', '"cpuu"', ["onnx.toml", "targets", "unknown cpuu (did you mean cpu?)", "arm"]),
        ("options/onnx.toml", 'id = "onnx"', 'id = "onx"', ["options/onnx.toml", "'onx'", "file's name"]),
        ("options/onnx.toml", 'environment = "onnx"', 'environment = "x"', ["environment", "envs/x.txt", "openvino"]),
        ("options/onnx.toml", 'format = "onnx"', 'format = "engine"', ["'onnx' is called engine too", "aliases"]),
        ("options/openvino.toml", 'artifact = "fp32"', 'artifact = "fp31"', ["bf16", "fp31", "allowed", "fp16"]),
        ("options/onnx.toml", 'environment = "onnx"\n', "", ["options/onnx.toml", "needs environment", "lacks"]),
        ("options/hailo.toml", "targets", 'environment = "onnx"\ntargets', ["hailo.toml", "lacks", "environment"]),
        ("options/hailo.toml", "lacks =", "#", ["hailo.toml", "needs environment, runtime, export; or lacks"]),
        ("options/graphdef.toml", "sources", 'source = "onnx"\nsources', ["source and source_environment", "both"]),
        ("options/graphdef.toml", ":export-tf", ":x", ["export, before it saved_model", "envs/x.txt is missing"]),
        ("options/onnx.toml", "order = 3", "order = ", ["options/onnx.toml", "not valid TOML", "line"]),
        ("targets.toml", 'device = "cpu"', "", ["targets.toml", "cpu.device", "required"]),
        ("targets.toml", "detect.machine", "detect.mashine", ["targets.toml", "cpu.detect.mashine", "machine"]),
        ("parity.toml", "[f32]", "[f64]", ["parity.toml", "limits", "unknown f64 (did you mean f16?);", "tf32"]),
        ("parity.toml", "box_max = 1.0", "box_max = 0", ["parity.toml", "f32.box_max", "greater than 0"]),
        ("sweeps/smoke.toml", "imgsz = [320]", "imgsz = [321]", ["sweeps/smoke.toml", "imgsz", "32"]),
        ("sweeps/smoke.toml", "max_launches = 5", "max_launches = 2", ["smoke.toml", "latency", "max_launches (2)"]),
        ("sweeps/smoke.toml", '"openvino"]', '"openvinO"]', ["sweeps/smoke.toml: options: unknown openvinO"]),
        ("sweeps/smoke.toml", '["fp32"', '["fp33"', ["sweeps/smoke.toml: precisions: unknown fp33"]),
        ("sweeps/smoke.toml", "pytorch-fp16", "pytorch-fp61", ["sweeps/smoke.toml: exclude: unknown pytorch-fp61"]),
    ],
)  # fmt: skip
def test_wrong_entry_is_named(copied: Path, file: str, old: str, new: str, said: list[str]) -> None:
    edit(copied / file, old, new)
    with pytest.raises(UsageError) as caught:
        matrix.load(copied).sweep("smoke")
    for part in said:
        assert part in str(caught.value)


def test_unknown_names_on_the_command_line_list_what_is_allowed() -> None:
    read = matrix.load()
    with pytest.raises(UsageError, match=r"no sweep 'smok' in .* \(did you mean smoke\?\).*smoke"):
        read.sweep("smok")
    sweep = matrix.override(read.sweep("smoke"), "test", options=["onxx"])
    with pytest.raises(UsageError, match=r"options: unknown onxx \(did you mean onnx\?\); allowed: pytorch, tor"):
        read.cells("m", sweep)
    sweep = matrix.override(read.sweep("smoke"), "test", options=["torchscript"], precisions=["int8"])
    with pytest.raises(UsageError, match="no cell"):
        read.cells("m", sweep)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("litert", "tflite"), ("tflite", "tflite"), ("TRT", "tensorrt"), ("engine", "tensorrt"), ("pb", "graphdef"),
     ("mlpackage", "coreml"), ("onxx", "onxx"), ("*", "*"), ("", ""), ("TF Lite", "tflite"), ("tf-lite", "tflite"),
     ("TensorFlow Lite", "tflite"), ("LiteRT.js", "litert-js"), ("saved-model", "saved_model"), (".engine", "tensorrt"),
     ("SavedModel", "saved_model"), ("tensorrt_rtx", "tensorrt-rtx"), ("ONNXRuntime", "onnx"), ("TF.js", "tfjs"),
     ("PaddlePaddle", "paddle"), ("Coral", "edgetpu"), ("Core AI", "coreai"), ("huawei", "ascend"), ("om", "ascend"),
     ("vitis", "xilinx"), ("imx500", "imx"), ("rockchip", "rknn"), ("qualcomm", "qnn")],
)  # fmt: skip
def test_options_are_known_by_the_names_that_people_have_for_them(written: str, meant: str) -> None:
    """TF Lite is LiteRT to the newest Ultralytics, whose own other names are understood; so are the names in tables."""
    assert matrix.load().named([written]) == [meant]


ULTRALYTICS = [
    "torchscript", "onnx", "openvino", "engine", "coreml", "coreai", "saved_model", "pb", "edgetpu", "litert", "paddle",
    "mnn", "ncnn", "imx", "rknn", "executorch", "axelera", "deepx", "qnn", "hailo", "ascend", "xilinx", "tflite",
    "tfjs", "tensorrt", "trt", "mlmodel", "mlpackage", "mlprogram", "apple", "ios", "huawei", "cann", "om", "vitis",
    "vitisai", "versal",
]  # fmt: skip
"""What Ultralytics 8.4.190 takes for `format`, what it renamed and other names of its own among them."""


@pytest.mark.parametrize("name", ULTRALYTICS)
def test_what_ultralytics_takes_for_a_format_is_an_option_that_list_shows(name: str) -> None:
    read = expand(Request({"sweep": "all", "options": name}))
    (option,) = read.matrix.named([name])
    assert any(cell.option.id == option for cell in read.cells)


def test_a_format_that_nothing_here_makes_is_rows_with_a_reason_in_both_languages() -> None:
    read = matrix.load()
    lacking = [option for option in read.options.values() if option.lacks]
    assert {option.id for option in lacking} >= {"axelera", "deepx", "hailo", "ascend", "xilinx", "coreai"}
    for option in lacking:
        assert not option.in_guide
        text = matrix.not_benched(option)
        assert text.startswith(f"{option.name} is not benched: ")
        assert option.lacks.endswith(".")
        assert messages("zh")(text) == f"{option.name} 未评测：{option.lacks_zh}"
        assert re.search("[\u4e00-\u9fff]", option.lacks_zh)
    assert not any(matrix.not_benched(option) for option in read.options.values() if option.export is not None)


def test_another_name_of_an_option_selects_its_cells() -> None:
    asked = {"sweep": "all", "precisions": "fp32", "targets": "cpu"}
    cells = [expand(Request({**asked, "options": name})).cells for name in ("litert", "tflite")]
    assert [cell.id for cell in cells[0]] == [cell.id for cell in cells[1]]
    assert any(cell.option.id == "tflite" for cell in cells[0])


def test_a_sweep_can_leave_out_a_precision_or_only_one_of_its_targets() -> None:
    read = matrix.load()
    sweep = matrix.override(
        read.sweep("smoke"), "test", options=["onnx"], targets=["cpu", "cuda"], exclude=["onnx-int8"]
    )
    assert not [cell.id for cell in read.cells("m", sweep) if cell.precision == "int8"]
    sweep = matrix.override(sweep, "test", exclude=["onnx-int8-cuda"])
    assert [cell.target for cell in read.cells("m", sweep) if cell.precision == "int8"] == ["cpu"]
    with pytest.raises(UsageError, match=r"exclude: unknown onnx-int9 \(did you mean onnx-int8\?\); allowed: pytorch"):
        read.cells("m", matrix.override(sweep, "test", exclude=["onnx-int9", "onnx-int8-cuda"]))


def test_tf32_is_a_precision_of_gpus_and_an_arithmetic_of_its_own() -> None:
    read = matrix.load()
    cells = [cell for cell in read.cells("m", read.sweep("full")) if cell.precision == "tf32"]
    assert {(cell.option.id, cell.target, cell.compute) for cell in cells} == {
        (option, "cuda", "tf32") for option in ("pytorch", "torchscript", "onnx", "tensorrt")
    }
    # A trace holds the setting and an engine the kernels, so these have two artifacts; the others run the FP32 artifact
    # and are told so. TensorRT is told when it builds.
    assert {(cell.option.id, cell.spec.artifact, cell.spec.runtime_options.get("tf32")) for cell in cells} == {
        ("pytorch", "fp32", True), ("torchscript", "", True), ("onnx", "fp32", True), ("tensorrt", "", None)
    }  # fmt: skip


def test_what_rounds_most_decides_which_limit_on_parity_holds() -> None:
    read = matrix.load()
    sweep = matrix.override(read.sweep("full"), "test", imgsz=[320], batch=[1], threads=[1])
    limits = {cell.id: read.parity[cell.rounding] for cell in read.cells("m", sweep)}
    for name in ("torchscript-fp32-cuda", "onnx-fp32-cpu", "tfjs-fp32-browser-wasm"):
        assert limits[f"{name}-320"].box_max == read.parity["f32"].box_max == 1.0
    # The last two are computed in float32, from weights that were rounded to 16 and to 8 bits.
    for name, rounding in (
        ("torchscript-tf32-cuda", "tf32"), ("openvino-bf16-cpu", "bf16"), ("onnx-fp16-cpu", "f16"),
        ("tfjs-uint8-browser-wasm", "i8"),
    ):  # fmt: skip
        assert limits[f"{name}-320"] is read.parity[rounding]
        assert limits[f"{name}-320"].box_max is None
    assert all(limit.reason for limit in limits.values())


def test_a_processor_without_half_arithmetic_is_expected_to_compute_otherwise() -> None:
    target = matrix.load().targets["arm-cpu"]
    assert not target.lacks("f16", ["asimd", "asimdhp"])
    assert target.lacks("f16", ["asimd", "crc32"])  # a Raspberry Pi 4
    assert not target.lacks("f32", ["asimd", "crc32"])
    assert not target.lacks("f16", [])  # a Mac says nothing


def test_detection_rules_see_this_machine() -> None:
    def target(**rule: object) -> Target:
        return Target(name="X", device="x", needs="an X", detect=Signs.model_validate(rule))

    assert machine.detect(target(executable=["sh"])).found
    absent = machine.detect(target(executable=["no-such-tool-at-all"]))
    assert not absent.found
    assert "an X" in absent.text
    assert machine.detect(target(command=["echo", "GPU 0: X"], prints=r"GPU \d")).text == "GPU 0"
    assert not machine.detect(target(command=["echo", "none"], prints=r"GPU \d")).found
    assert not machine.detect(target(command=["false"], prints="")).found
    assert not machine.detect(target(machine=["pdp11"])).found
    assert machine.detect(target(files=["/dev/nul*"], contains="text that a device node cannot hold")).found


def test_a_gpu_is_recorded_by_name_and_not_by_its_number() -> None:
    rule = matrix.load().targets["cuda"].detect
    listed = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5d3c)"
    said = Signs(command=["echo", listed], prints=rule.prints)
    found = machine.detect(Target(name="X", device="x", needs="an X", detect=said))
    assert (found.found, found.text) == (True, "GPU 0: NVIDIA H100 80GB HBM3")


def test_a_tool_that_finds_no_device_says_why() -> None:
    command = ["sh", "-c", "echo Driver/library version mismatch >&2; exit 18"]
    broken = Target(name="X", device="x", needs="an X", detect=Signs(command=command, prints=r"GPU \d"))
    assert "exits with 18 and lists no device (Driver/library version mismatch)" in machine.detect(broken).text


def test_accelerators_are_devices_that_name_themselves_or_their_maker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def target(device: str, **rule: object) -> Target:
        return Target(name=f"The {device}", device=device, needs="it", detect=Signs.model_validate(rule))

    (tmp_path / "vendor").write_text("0x8086\n", encoding="utf-8")
    gpu = target("cuda", command=["echo", "GPU 0: NVIDIA H100"], prints="GPU.*[^\\n]")
    npu = target("npu", files=[str(tmp_path / "vendor")], contains="0x8086")
    others = [
        target("cpu", machine=[platform.machine()]),
        target("webgl", executable=["sh"]),
        target("vulkan", files=[str(tmp_path / "vend*")]),  # such a file is there for a driver that draws in software
        target("xpu", command=["false"], prints="x"),
    ]
    said = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (user@host)"
    monkeypatch.setattr(machine, "driver", lambda target: said if target.device == "cuda" else "")
    assert machine.accelerators(others) == ""
    assert machine.accelerators([gpu, npu, *others]) == "GPU 0: NVIDIA H100, driver 570.86.15; The npu"
    assert machine.fingerprint([npu, *others])["accelerators"] == "The npu"


def test_file_rule_needs_the_text(tmp_path: Path) -> None:
    (tmp_path / "vendor").write_text("0x8086\n", encoding="utf-8")
    rule = {"files": [str(tmp_path / "ven*")], "contains": "0x8086"}
    good = Target(name="X", device="x", needs="an X", detect=Signs.model_validate(rule))
    assert machine.detect(good).found
    other = Target(name="X", device="x", needs="an X", detect=Signs.model_validate(rule | {"contains": "0x10de"}))
    assert not machine.detect(other).found


def test_a_detection_rule_without_a_condition_is_refused(copied: Path) -> None:
    edit(copied / "targets.toml", 'detect.system = ["Darwin"]', "detect.system = []")
    with pytest.raises(UsageError, match=r"coreml\.detect: needs at least one condition"):
        matrix.load(copied)
