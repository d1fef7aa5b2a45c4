"""What a runtime's own API says about devices: one function per family, asked in that family's environment.

Each returns {"devices": [{"name", "built", "here", "said"}]}: whether the installed package was built with the device,
how many of it are found on this machine, and the runtime's own words.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# ONNX Runtime's names of execution providers to the names used for every runtime.
PROVIDERS = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "tensorrt",
    "OpenVINOExecutionProvider": "openvino",
    "CoreMLExecutionProvider": "coreml",
    "DmlExecutionProvider": "directml",
    "MIGraphXExecutionProvider": "rocm",
    "NnapiExecutionProvider": "nnapi",
    "QNNExecutionProvider": "qnn",
    "XnnpackExecutionProvider": "xnnpack",
    "WebGpuExecutionProvider": "webgpu",
    "CANNExecutionProvider": "cann",
    "VitisAIExecutionProvider": "vitis-ai",
    "AzureExecutionProvider": "azure",
}
OPENVINO = {"intel_cpu": "cpu", "arm_cpu": "cpu", "intel_gpu": "intel-gpu", "intel_npu": "intel-npu"}
OPENVINO_DEVICES = {"cpu": "CPU", "intel-gpu": "GPU", "intel-npu": "NPU"}
# MNN's names of backends and the numbers under which a session reports the one it runs on.
MNN_BACKENDS = {"CPU": (0, 13), "METAL": (1,), "CUDA": (2,), "OPENCL": (3,), "OPENGL": (6,), "VULKAN": (7,), "NN": (5,)}
_MNN_BACKEND_INFO = 2

Found = dict[str, list[dict[str, Any]]]


def torch_devices(_arguments: Mapping[str, Any]) -> Found:
    """PyTorch: its build's CUDA and ROCm versions, and whether each accelerator is built in."""
    import torch

    cuda, hip = torch.version.cuda, torch.version.hip
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps, xpu, onednn = torch.backends.mps, torch.xpu, torch.backends.mkldnn.is_available()
    return _devices(
        ("cpu", True, 1, f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"),
        ("cuda", cuda is not None, count if cuda else 0, f"torch.version.cuda is {cuda}"),
        ("rocm", hip is not None, count if hip else 0, f"torch.version.hip is {hip}"),
        ("mps", mps.is_built(), int(mps.is_available()), f"torch.backends.mps.is_built() is {mps.is_built()}"),
        ("xpu", xpu._is_compiled(), xpu.device_count(), f"torch.xpu._is_compiled() is {xpu._is_compiled()}"),
        ("onednn", onednn, int(onednn), f"torch.backends.mkldnn.is_available() is {onednn}"),
    )


def onnxruntime_devices(_arguments: Mapping[str, Any]) -> Found:
    """ONNX Runtime: providers of this build, among all that its API knows."""
    import onnxruntime as ort

    built = ort.get_available_providers()
    return _devices(
        *(
            (PROVIDERS.get(name, name), name in built, int(name in built), f"{name}, {_listed(name in built)}")
            for name in ort.get_all_providers()
        )
    )


def openvino_devices(_arguments: Mapping[str, Any]) -> Found:
    """OpenVINO: plugins in the package, and the devices that they find."""
    import openvino as ov

    core = ov.Core()
    seen = list(core.available_devices)
    plugins = sorted(path.name for path in Path(ov.__file__).parent.rglob("*openvino_*_plugin.*"))
    rows = []
    for key, name in OPENVINO.items():
        files = [file for file in plugins if f"_{key}_" in file]
        if name == "cpu" and not files:
            continue  # the package of one architecture has the plugin of that one
        here = [device for device in seen if device.split(".")[0] == OPENVINO_DEVICES[name]]
        full = "; ".join(str(core.get_property(device, "FULL_DEVICE_NAME")) for device in here)
        rows.append((name, bool(files), len(here), f"plugin {', '.join(files) or 'absent'}; finds {full or 'none'}"))
    return _devices(*rows)


def tensorrt_devices(_arguments: Mapping[str, Any]) -> Found:
    """TensorRT: loads its library, which needs NVIDIA's driver only once it is used."""
    import tensorrt

    with contextlib.suppress(ImportError, RuntimeError):
        from cuda.bindings import runtime

        status, count = runtime.cudaGetDeviceCount()
        return _devices(("cuda", True, count if int(status) == 0 else 0, f"TensorRT {tensorrt.__version__}"))
    return _devices(("cuda", True, 0, f"TensorRT {tensorrt.__version__}; CUDA's runtime finds no device"))


def coreml_devices(_arguments: Mapping[str, Any]) -> Found:
    """Core ML: compute units that the package names; on macOS the devices that the framework lists."""
    import platform

    import coremltools

    units = [unit.name for unit in coremltools.ComputeUnit]
    here = platform.system() == "Darwin"
    said = f"coremltools.ComputeUnit has {', '.join(units)}"
    names = {"cpu": "CPU", "metal": "GPU", "neural-engine": "NE"}
    return _devices(
        *((name, any(word in unit for unit in units), int(here), said) for name, word in names.items()),
    )


def tensorflow_devices(_arguments: Mapping[str, Any]) -> Found:
    """TensorFlow: what its build includes, and the physical devices it lists."""
    import tensorflow as tf

    listed = [device.device_type for device in tf.config.list_physical_devices()]
    build = dict(tf.sysconfig.get_build_info())
    cuda, rocm = bool(build.get("is_cuda_build")), bool(build.get("is_rocm_build"))
    gpus = listed.count("GPU")
    return _devices(
        ("cpu", "CPU" in listed, listed.count("CPU"), f"TensorFlow {tf.__version__} lists {', '.join(listed)}"),
        ("cuda", cuda, gpus if cuda else 0, f"is_cuda_build is {cuda}"),
        ("rocm", rocm, gpus if rocm else 0, f"is_rocm_build is {rocm}"),
        ("tpu", "TPU" in listed, listed.count("TPU"), "tf.config.list_physical_devices()"),
    )


def litert_devices(_arguments: Mapping[str, Any]) -> Found:
    """LiteRT: accelerators and delegates that its package has files of."""
    import ai_edge_litert

    folder = Path(ai_edge_litert.__file__).parent
    accelerators = sorted(path.name for path in folder.rglob("libLiteRt*Accelerator*"))
    vendors = sorted(path.name for path in (folder / "vendors").glob("*") if not path.name.startswith("_"))
    names = {"webgpu": "WebGpu", "opencl": "OpenCl", "opengl": "OpenGl", "metal": "Metal"}
    rows = [("cpu", True, 1, f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}, XNNPACK")]
    for name, word in names.items():
        files = [file for file in accelerators if word in file]
        rows.append((name, bool(files), 0, f"accelerators in the package: {', '.join(files) or 'none of this kind'}"))
    rows.append(("npu", bool(vendors), 0, f"vendors in the package: {', '.join(vendors) or 'none'}"))
    rows.append(_edgetpu("ai_edge_litert.interpreter"))
    return _devices(*rows)


def tflite_runtime_devices(_arguments: Mapping[str, Any]) -> Found:
    """tflite-runtime: the CPU, and an Edge TPU where its delegate's library can be loaded."""
    version = importlib.metadata.version("tflite-runtime")
    return _devices(("cpu", True, 1, f"tflite-runtime {version}, XNNPACK"), _edgetpu("tflite_runtime.interpreter"))


def edgetpu_devices(_arguments: Mapping[str, Any]) -> Found:
    """Edge TPU: whether its delegate can be loaded."""
    return _devices(_edgetpu("ai_edge_litert.interpreter"))


def paddle_devices(_arguments: Mapping[str, Any]) -> Found:
    """Paddle: what it was compiled with."""
    import paddle

    cuda, rocm, xpu = paddle.is_compiled_with_cuda(), paddle.is_compiled_with_rocm(), paddle.is_compiled_with_xpu()
    gpus = paddle.device.cuda.device_count() if cuda or rocm else 0
    return _devices(
        ("cpu", True, 1, f"PaddlePaddle {paddle.__version__}, oneDNN {_listed(_paddle_onednn())}"),
        ("cuda", cuda, gpus if cuda else 0, f"is_compiled_with_cuda() is {cuda}"),
        ("rocm", rocm, gpus if rocm else 0, f"is_compiled_with_rocm() is {rocm}"),
        ("xpu", xpu, 0, f"is_compiled_with_xpu() is {xpu}"),
    )


def mnn_devices(arguments: Mapping[str, Any]) -> Found:
    """MNN has no list: a session is asked for each backend and says which one it got; it falls back to the CPU."""
    import MNN

    if not arguments["model"]:
        return _devices(("cpu", True, 1, f"MNN {MNN.version()}; other backends need a model to be asked with"))
    rows = []
    for name, numbers in MNN_BACKENDS.items():
        interpreter = MNN.Interpreter(arguments["model"])
        session = interpreter.createSession({"backend": name, "numThread": 1})
        got = int(interpreter.getSessionInfo(session, _MNN_BACKEND_INFO))
        text = f"MNN {MNN.version()}: a session asked for {name} reports backend {got}"
        rows.append((name.lower(), got in numbers, int(got in numbers), text))
    return _devices(*rows)


def ncnn_devices(_arguments: Mapping[str, Any]) -> Found:
    """NCNN: GPUs that its Vulkan backend finds; a build without Vulkan has no such functions."""
    import ncnn

    built = hasattr(ncnn, "get_gpu_count")
    count = 0
    if built:
        ncnn.create_gpu_instance()
        count = ncnn.get_gpu_count()
        ncnn.destroy_gpu_instance()
    features = [name for name in dir(ncnn) if name.startswith("cpu_support_") and getattr(ncnn, name)()]
    return _devices(
        ("cpu", True, 1, f"NCNN {ncnn.__version__}: {', '.join(features)}"),
        ("vulkan", built, count, f"Vulkan {_listed(built)}; get_gpu_count() is {count}"),
    )


def _edgetpu(module: str) -> tuple[str, bool, int, str]:
    """The Edge TPU's delegate is a library of its own, in no Python package."""
    load: Any = importlib.import_module(module).load_delegate
    try:
        load("libedgetpu.so.1")
    except (OSError, ValueError) as error:
        return "edgetpu", False, 0, f"libedgetpu.so.1: {error}"
    return "edgetpu", True, 1, "libedgetpu.so.1 loaded as a delegate"


def _paddle_onednn() -> bool:
    import paddle

    return bool(list((Path(paddle.__file__).parent / "libs").glob("libdnnl*")))


def _listed(found: bool) -> str:
    return "built in" if found else "not built in"


def _devices(*rows: tuple[str, bool, int, str]) -> Found:
    return {"devices": [dict(zip(("name", "built", "here", "said"), row, strict=True)) for row in rows]}
