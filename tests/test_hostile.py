"""Files from elsewhere run nothing and write nothing, whatever they hold: each is one clear error, or plain text.

What is held back is tried as well: the same bait, taken the way that the bench does not take, leaves its mark.
"""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from guest_spec import spec
from PIL import Image as PillowImage
from running import bench

from bench import demo, store
from bench.demo import CHECKPOINT
from bench.environments import emulator, houses
from bench.environments.locked import Environments
from bench.grid import matrix
from bench.guest.seal import WRITES
from bench.places import EXPORTERS, MATRICES, RUNTIMES
from bench.reasons import CellProblem, Reason, UsageError
from bench.store.tables import TABLES
from bench.tasks.datafile import DataFile
from bench.tasks.detect.task import DETECT
from bench.wall import checkpoint
from bench.wall.artifacts import MANIFEST, Artifact, Artifacts, ExportRequest, damage
from bench.wall.confinement import UNCONFINED, Confinement, refusals
from bench.wall.worker import Worker

real = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")


class Bait:
    """Pickles as a call that makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


def pickled(mark: Path) -> bytes:
    return pickle.dumps({"model": Bait(mark)}, 2)


def in_zip(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"archive/{name}", content)
    return sink.getvalue()


def in_tar(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def trojan(mark: Path) -> bytes:
    """The demo checkpoint, whole and usable, whose unpickling makes a file first."""
    call = b"cposix\nsystem\n" + pickle.dumps((f"touch '{mark}'",), 2)[2:-1] + b"R0"  # and its result is dropped
    sink = io.BytesIO()
    with zipfile.ZipFile(CHECKPOINT) as source, zipfile.ZipFile(sink, "w") as changed:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = content[:2] + call + content[2:]
            changed.writestr(entry, content)
    return sink.getvalue()


LEGACY = (pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2))
SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2)
FORMS: dict[str, Callable[[Path], bytes]] = {
    "bare": pickled,
    "newest": lambda mark: pickle.dumps({"model": Bait(mark)}, pickle.HIGHEST_PROTOCOL),
    "text": lambda mark: pickle.dumps({"model": Bait(mark)}, 0),
    "zip": lambda mark: in_zip({"data.pkl": pickled(mark), "version": b"3\n", "byteorder": b"little"}),
    "legacy": lambda mark: b"".join((*LEGACY, SYSTEM, pickled(mark), pickle.dumps([], 2))),
    "legacy-head": lambda mark: b"".join((*LEGACY, pickled(mark))),
    "tar": lambda mark: in_tar(
        dict.fromkeys(("sys_info", "pickle", "storages", "tensors"), pickled(mark))
    ),
    "torchscript": lambda mark: in_zip(
        {"data.pkl": pickled(mark), "constants.pkl": pickled(mark), "version": b"3\n", "code/__torch__.py": b""}
    ),
    "trojan": trojan,
}  # fmt: skip


def test_the_bait_is_one(tmp_path: Path) -> None:
    pickle.loads(pickled(tmp_path / "mark"))  # noqa: S301 - what the bench does not do
    assert (tmp_path / "mark").exists()
    with zipfile.ZipFile(io.BytesIO(trojan(tmp_path / "other"))) as archive:
        content = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    with pytest.raises(ModuleNotFoundError, match="ultralytics"):  # reached once the bait is swallowed
        pickle.loads(content)  # noqa: S301 - likewise
    assert (tmp_path / "other").exists()


# -- every way a model gets in -------------------------------------------------------------------------------------


@real
def test_a_checkpoint_of_any_form_runs_nothing(environments: Environments, tmp_path: Path) -> None:
    """Unconfined, so that it is the reading that holds."""
    env, mark = environments.ensure("export-torch"), tmp_path / "mark"
    files = {}
    for form, made in FORMS.items():
        for suffix in (".pt", *((".pth", ".bin", ".torchscript") if form in ("zip", "trojan") else ())):
            files[form, suffix] = tmp_path / f"{form}{suffix}"
            files[form, suffix].write_bytes(made(mark))
    adapter, variables = EXPORTERS / "checkpoint.py", environments.variables()
    with Worker(env.python, adapter, variables=variables, confinement=UNCONFINED) as guest:
        for (form, suffix), path in files.items():
            with pytest.raises(CellProblem) as problem:
                guest.call("inspect", {"weights": str(path)}, 60)
            assert problem.value.reason is Reason.EXPORT_FAILED, form
            assert "Traceback" not in problem.value.text
            assert ("ends in .pt" in problem.value.text) == (suffix != ".pt")
    assert sorted(tmp_path.iterdir()) == sorted(files.values())


@real
def test_a_command_that_is_given_such_a_checkpoint_ends_with_one_error(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(trojan(tmp_path / "mark"))
    data = demo.prepare(cache / "demo")
    done = bench("run", "--sweep", "smoke", "--model", tmp_path / "best.pt", "--data", data, "--results", tmp_path)
    assert done.code == 2
    assert "best.pt cannot be used" in " ".join(done.said.split())
    assert "Traceback" not in done.said
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


@real
def test_an_exporter_runs_nothing_either(environments: Environments, tmp_path: Path) -> None:
    """Were the file another one by the time that it is exported."""
    (tmp_path / "best.pt").write_bytes(trojan(tmp_path / "mark"))
    artifacts = Artifacts(tmp_path / "cache", environments)
    request = ExportRequest(
        tmp_path / "best.pt", "pytorch", "fp32", 64, 1, EXPORTERS / "pytorch.py", "export-torch"
    )  # fmt: skip
    with pytest.raises(CellProblem, match="outside the supported Ultralytics checkpoint format") as problem:
        artifacts.ensure(request)
    assert problem.value.reason is Reason.EXPORT_FAILED
    assert not (tmp_path / "mark").exists()


def laid(folder: Path, name: str, content: bytes) -> Artifact:
    """An artifact whose manifest fits its file, as a cache from elsewhere could bring it."""
    folder.mkdir()
    (folder / name).write_bytes(content)
    manifest = {
        "entry": name,
        "input": {"layout": "NCHW", "range": "0..1", "dtype": "float32", "shape": [1, 3, 64, 64]},
        "output": {"layout": "channels_first", "units": "px"},
    }
    return Artifact("", folder, manifest)


@real
def test_a_cached_checkpoint_that_was_replaced_runs_nothing(environments: Environments, tmp_path: Path) -> None:
    """Unconfined, and with a manifest that fits."""
    artifact = laid(tmp_path / "artifact", "model.pt", trojan(tmp_path / "mark"))
    python, variables = environments.ensure("pytorch").python, environments.variables()
    with (
        Worker(python, RUNTIMES / "pytorch.py", variables=variables, confinement=UNCONFINED) as guest,
        pytest.raises(CellProblem, match="outside the supported Ultralytics checkpoint format") as problem,
    ):
        guest.load(spec(artifact, 64), 60)
    assert problem.value.reason is Reason.LOAD_FAILED
    assert not (tmp_path / "mark").exists()


SCRIPT = """
import sys
import torch

class Net(torch.nn.Module):
    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2) + torch.from_file(self.mark, True, 1).sum()

torch.jit.script(Net(sys.argv[1])).save(sys.argv[2])
"""


@real
@pytest.mark.skipif(WRITES in refusals(), reason=refusals().get(WRITES, ""))
def test_a_program_within_a_model_writes_nothing(environments: Environments, tmp_path: Path) -> None:
    """TorchScript is one: its operators reach files.  That holds back the guest, and without that it would write."""
    env, variables = environments.ensure("torchscript"), environments.variables()
    marks, x, script = {}, np.zeros((1, 3, 64, 64), np.float32), tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")  # a file: TorchScript reads the source of what it compiles
    for name, reach in (("free", UNCONFINED), ("kept", Confinement())):
        marks[name] = tmp_path / f"{name}.mark"
        made = tmp_path / f"{name}.torchscript"
        command = [str(env.python), str(script), str(marks[name]), str(made)]
        subprocess.run(command, env=variables, check=True, capture_output=True, timeout=120)
        artifact = laid(tmp_path / name, "model.torchscript", made.read_bytes())
        with Worker(env.python, RUNTIMES / "torchscript.py", variables=variables, confinement=reach) as guest:
            guest.load(spec(artifact, 64), 60)
            if name == "free":
                assert guest.infer(x, 60).shape == (1, 3, 64 * 64)
            else:
                with pytest.raises(CellProblem, match="Permission denied") as problem:
                    guest.infer(x, 60)
                assert problem.value.reason is Reason.INFERENCE_FAILED
    assert marks["free"].exists()
    assert not marks["kept"].exists()


def test_a_manifest_that_leads_out_of_its_folder_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    cases: dict[str, dict[str, Any]] = {
        "entry": {"entry": "../secret", "files": []},
        "files": {"entry": "model", "files": [{"path": str(tmp_path / "secret"), "bytes": 6, "sha256": ""}]},
    }
    for key, manifest in cases.items():
        folder = tmp_path / key
        folder.mkdir()
        output = {"layout": "channels_first", "units": "px", "shape": [1, 84, 2100]}
        told: dict[str, Any] = {
            "input": {},
            "output": output,
            "versions": {},
            "reproduce": "",
            "calibration": None,
            "key": key,
        }
        whole = {**told, "size_bytes": 6, "seconds": 1.0, "sha256": "", **manifest}
        (folder / MANIFEST).write_text(json.dumps(whole), encoding="utf-8")
        assert "which is outside" in str(damage(folder))


# -- data ----------------------------------------------------------------------------------------------------------


def data_file(tmp_path: Path, **keys: Any) -> Path:
    """A data file of two images with a label each."""
    for index in range(2):
        image = tmp_path / "images" / f"{index}.png"
        image.parent.mkdir(exist_ok=True)
        PillowImage.new("RGB", (40, 20)).save(image)
        label = tmp_path / "labels" / f"{index}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    path = tmp_path / "data.yaml"
    path.write_text(yaml.safe_dump({"val": "images", "names": ["cat"], **keys}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch MARK']",
        "!!python/object/new:os.system ['touch MARK']",
        "!!python/object/apply:subprocess.check_call [['touch', MARK]]",
        '!!python/object/apply:builtins.exec [\'open("MARK", "w").close()\']',
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object:pathlib.Path {}",
    ],
)
@pytest.mark.parametrize("key", ["names", "path", "anything"])
def test_a_data_file_makes_no_object(key: str, tag: str, tmp_path: Path) -> None:
    path = data_file(tmp_path)
    text = path.read_text(encoding="utf-8") + f"{key}: {tag.replace('MARK', str(tmp_path / 'mark'))}\n"
    path.write_text(text, encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"data\.yaml, line \d+ is not valid YAML: could not determine a constructor"):
        DETECT.load(path)
    assert sorted(tmp_path.rglob("*")) == before
    if "apply" in tag:
        yaml.load(text, yaml.UnsafeLoader)  # noqa: S506 - what the bench does not do
        assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "download",
    ["bash touch MARK", "touch MARK", "import pathlib\npathlib.Path('MARK').touch()", "https://example.invalid/x.zip"],
)
def test_a_download_in_a_data_file_is_never_run(download: str, tmp_path: Path) -> None:
    script = download.replace("MARK", str(tmp_path / "mark"))
    found = DETECT.load(data_file(tmp_path, download=script))
    assert len(found.images) == 2
    with pytest.raises(UsageError, match="'download:' is never executed"):
        DETECT.load(data_file(tmp_path, download=script, val="elsewhere"))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "name",
    ["{0.__class__.__mro__}", "%(levelname)s %n %s", "${jndi:ldap://x}", "$(touch mark)", "`touch mark`", "../../mark",
     "<script>mark</script>", "\x1b[31mmark\x1b[0m", "!!python/name:os.system", "'; touch mark; '"],
)  # fmt: skip
def test_a_class_s_name_is_text(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert DataFile.read(data_file(tmp_path, names=[name])).class_names() == {0: name}
    assert DETECT.load(tmp_path / "data.yaml").names == {0: name}
    model = checkpoint.Checkpoint(Path("best.pt"), "best", "", {0: name, 1: "b"}, 32)
    with pytest.raises(UsageError) as error:
        model.require_classes({0: name}, tmp_path / "data.yaml")
    assert name in str(error.value)
    assert not list(tmp_path.rglob("mark"))


# -- matrices ------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return shutil.copytree(MATRICES, tmp_path / "matrices")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("targets.toml", '["nvidia-smi", "-L"]', '["touch", "MARK"]', r"cuda\.detect\.command: `touch .*` is not run"),
        ("targets.toml", '["nvidia-smi", "-L"]', '["nvidia-smi", "-L", "-f", "MARK"]', "is not run"),
        ("targets.toml", '["nvidia-smi", "-L"]', '["./nvidia-smi", "-L"]', "is not run"),
        ("options/onnx.toml", 'runtime = "onnx_runtime"', 'runtime = "../../../evil"', "runtime: String should match"),
        ("options/onnx.toml", 'exporter = "onnx"', 'exporter = "/evil"', "exporter: String should match"),
        ("options/onnx.toml", 'environment = "onnx"', 'environment = "../onnx"', "environment: String should match"),
        ("emulators.toml", '"python3.11"', '"-oDir::Bin::methods=MARK"', "packages.0: String should match"),
        ("emulators.toml", '"bookworm"', '"bookworm main\\ndeb [trusted=yes] http://x"', "suites.0: String should"),
        ("emulators.toml", 'emulator = "qemu', 'emulator = "-oqemu', "emulator: String should match"),
        ("emulators.toml", '.gpg"', '.gpg trusted=yes"', "keyring: String should match"),
    ],
)
def test_a_matrix_runs_nothing(file: str, old: str, new: str, said: str, copied: Path, tmp_path: Path) -> None:
    edit(copied / file, old, new.replace("MARK", str(tmp_path / "mark")))
    read = functools.partial(emulator.load, name="arm64") if file == "emulators.toml" else matrix.load
    with pytest.raises(UsageError, match=said):
        read(copied)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "line",
    ["--index-url http://127.0.0.1:9/simple", "-e ./evil", "./evil", "-r other.txt", "evil @ file:///evil",
     "git+file:///evil", "https://example.invalid/evil.whl", "evil", "evil>=1", "evil==1 --global-option=x",
     "evil==1 ; python_version > '3' --config-settings=x", "evil==1.*"],
)  # fmt: skip
def test_a_lock_holds_versions_and_nothing_that_an_installer_would_run(line: str, tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "small.txt").write_text(f"numpy==2.4.6\n{line}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"small\.txt, line 2: .* is no name==version"):
        Environments(tmp_path, tmp_path / "cache").ensure("small")
    assert not (tmp_path / "cache").exists()


def test_a_packed_house_stays_in_its_folder(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name in ("../../outside", "/outside", "matrices/targets.toml"):
            archive.writestr(name, "")
    houses.unpack(sink.getvalue(), tmp_path / "a" / "cache")
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert all(path.is_relative_to(tmp_path / "a" / "cache" / "houses") for path in written)
    assert not Path("/outside").exists()


# -- results -------------------------------------------------------------------------------------------------------


def test_a_result_file_unpickles_nothing(tmp_path: Path) -> None:
    """An extension type of Arrow's that older versions unpickled from a file's own metadata (CVE-2023-47248)."""
    plain = TABLES["environment"]
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Bait(tmp_path / "mark")),
    }
    schema = pa.schema([plain.field("scope"), plain.field("key"), plain.field("value").with_metadata(extension)])
    about = {"schema_version": str(store.SCHEMA_VERSION), "table": "environment"}
    table = pa.table([["run"], ["key"], ["value"]], schema=schema.with_metadata(about))
    pq.write_table(table, tmp_path / "environment.parquet")
    assert store.read_table(tmp_path, "environment").value.tolist() == ["value"]
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "about",
    ["no JSON", "[]", '{"index_columns": ["scope"], "columns": []}',
     '{"index_columns": [{"kind": "range", "start": 0, "stop": 9, "step": 0}], "columns": [], "column_indexes": []}'],
)  # fmt: skip
def test_what_a_result_file_says_of_itself_to_pandas_is_not_heard(about: str, tmp_path: Path) -> None:
    schema = TABLES["environment"].with_metadata(
        {"schema_version": str(store.SCHEMA_VERSION), "table": "environment", "pandas": about}
    )
    pq.write_table(pa.table([["run"], ["key"], ["value"]], schema=schema), tmp_path / "environment.parquet")
    assert store.read_table(tmp_path, "environment").to_dict("list") == {
        "scope": ["run"], "key": ["key"], "value": ["value"],
    }  # fmt: skip
