"""Each probe can say yes and can say no: real pickles, sockets, wheels' names, and an index on this machine."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import pickle
import shutil
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import store
from bench.cli import app as cli
from bench.grid import entries
from bench.guest.seal import NETWORK
from bench.places import MATRICES
from bench.probes import data_only, devices, no_network, no_python, operators, packages, runner, sandbox
from bench.probes.context import Known, Parity, Settings, difference
from bench.probes.observation import Observation, Outcome, Unavailable
from bench.reasons import UsageError
from bench.wall.confinement import CONFINED, Confinement, refusals
from bench.wall.worker import Worker

GUESTS = Path(__file__).parent / "guests"
OUTSIDE = ["WriteFile", "PyFunc"]


class Calling:
    """Pickles as a call of os.system."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def outcome(found: Observation) -> str:
    return found.outcome.value


# -- data_only -----------------------------------------------------------------------------------------------------


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


def judged(folder: Path, content: bytes, operators: dict[str, int] | None = None) -> Observation:
    path = folder / "model"
    path.write_bytes(content)
    return data_only.judge("pytorch", data_only.look([path]), operators, OUTSIDE)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_calls_is_told_from_one_that_holds_data(tmp_path: Path, protocol: int) -> None:
    bad = judged(tmp_path, pickle.dumps(Calling(), protocol))
    good = judged(tmp_path, pickle.dumps({"a": [1.5, "b"]}, protocol))
    assert (outcome(bad), outcome(good)) == ("no", "yes")
    assert "system" in bad.text
    assert bad.value == 1


def test_a_pickle_that_is_broken_on_purpose_still_counts(tmp_path: Path) -> None:
    assert outcome(judged(tmp_path, pickle.dumps(Calling(), 2)[:-1] + b"\x00")) == "no"


def test_a_checkpoint_that_needs_classes_is_no_data(tmp_path: Path) -> None:
    content = archive({"m/data.pkl": pickle.dumps(Calling()), "m/data/0": b"\x00" * 8})
    found = judged(tmp_path, content)
    assert outcome(found) == "no"
    assert "1 zip archive" in found.text


@pytest.mark.parametrize(("method", "expected"), [("forward", "yes"), ("__setstate__", "no")])
def test_torchscript_code_counts_where_it_runs_at_loading(tmp_path: Path, method: str, expected: str) -> None:
    code = f"class Net(Module):\n  def {method}(self: Net, x: Tensor) -> Tensor:\n    return x\n".encode()
    found = judged(tmp_path, archive({"m/code/__torch__/net.py": code, "m/data.pkl": pickle.dumps({}, 2)}))
    assert outcome(found) == expected
    assert "1 files of its own code" in found.text


def test_operators_that_reach_files_are_no_data(tmp_path: Path) -> None:
    graph = b"\x08\x01\x12\x02ab"
    assert outcome(judged(tmp_path, graph, {"Conv2D": 3, "RestoreV2": 1})) == "yes"
    bad = judged(tmp_path, graph, {"Conv2D": 3, "WriteFile": 2})
    assert outcome(bad) == "no"
    assert "(WriteFile)" in bad.text


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x1c\x00\x00\x00TFL3\x14\x00", "TF Lite flatbuffer"),
        (b'<?xml version="1.0"?><net/>', "XML"),
        (b"7767517\n297 360\n", "NCNN graph in text"),
        (b' {"format": "graph-model"}', "JSON"),
        (b"\x08\x09\x12\x07pytorch", "protobuf"),
        (b"\x08\x09\x12\x40pytorch", "other binary"),
        (b"description: Ultralytics YOLO11n model\nauthor: Ultralytics\n", "text"),
    ],
)
def test_a_file_is_known_by_its_content(content: bytes, kind: str) -> None:
    assert data_only.kind_of(content) == kind
    assert not data_only.is_pickle(content)


# -- no_network ----------------------------------------------------------------------------------------------------

tracing = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def dialling(wrapper: Sequence[str], reach: Confinement = CONFINED) -> Worker:
    path, adapter = {"PATH": os.environ["PATH"]}, GUESTS / "dialling.py"
    return Worker(Path(sys.executable), adapter, variables=path, wrapper=wrapper, confinement=reach)


def spec(**options: Any) -> dict[str, Any]:
    return {"manifest": {"output": {"layout": "channels_first", "units": "px", "shape": [1, 6, 5]}}, "imgsz": 32,
            "options": options}  # fmt: skip


X = np.full((1, 3, 32, 32), 0.5, np.float32)


@tracing
@pytest.mark.parametrize(
    ("options", "expected", "told"),
    [
        ({}, "yes", "0 internet sockets"),
        ({"address": "127.0.0.1"}, "yes", "1 internet sockets"),
        ({"address": "203.0.113.7"}, "no", "203.0.113.7 port 9"),  # an address kept for documentation (RFC 5737)
    ],
)
def test_a_guest_that_reaches_outside_is_seen(options: dict[str, str], expected: str, told: str) -> None:
    output, traffic = no_network.traced(dialling, spec(**options), X)
    found = no_network.judge("onnx", traffic)
    assert outcome(found) == expected
    assert told in found.text
    assert output.shape == (1, 6, 5)


def test_sampling_sees_a_connection_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is sampled is this process; the loopback is made to count, since tests have no network to call.
    monkeypatch.setattr(no_network, "is_outside", lambda _address, _port: True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address, port = server.getsockname()
        with socket.create_connection((address, port)), no_network.sampled(os.getpid()) as seen:
            deadline = time.monotonic() + 10
            while not seen and time.monotonic() < deadline:
                time.sleep(0.02)
    assert f"{address} port {port}" in seen


@pytest.mark.skipif(NETWORK in refusals(), reason=refusals().get(NETWORK, ""))
@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "yes"), ({"address": "203.0.113.7"}, "yes"), ({"address": "203.0.113.7", "insist": True}, "no")],
)
def test_a_guest_that_needs_a_network_fails_without(options: dict[str, Any], expected: str) -> None:
    with dialling(()) as guest:
        guest.load(spec(), 60)
        output = guest.infer(X, 60)
    limit = Parity(box_px=1e-6, score=1e-6)
    assert outcome(no_network.isolated("onnx", dialling, spec(**options), X, output, limit)) == expected
    assert outcome(no_network.isolated("onnx", dialling, spec(), X, output + 1, limit)) == "no"


@pytest.mark.parametrize(
    ("line", "sockets", "outside"),
    [
        ("7 socket(AF_INET6, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 3", 1, ()),
        ("7 socket(AF_UNIX, SOCK_STREAM, 0) = 3", 0, ()),
        ('7 connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("203.0.113.7")}, 16) = 0', 0,
         ("203.0.113.7 port 443",)),
        ('7 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0', 0,
         ("a name server",)),
        ('connect(3, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", '
         "&sin6_addr), sin6_scope_id=0}, 28) = 0", 0, ()),
        (r'9 sendto(5, "\277\243\1\0\0\1\0\0\0\0\0\0\3www\7example\3com\0\0\1\0\1", 33, MSG_NOSIGNAL, NULL, 0) = 33', 0,
         ("name looked up: www.example.com",)),
        (r'9 sendto(5, "GET / HTTP/1.1\r\n\r\n padding padding", 33, MSG_NOSIGNAL, NULL, 0) = 33', 0, ()),
        ('7 bind(3, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("0.0.0.0")}, 16) = 0', 0, ()),
    ],
)  # fmt: skip
def test_lines_of_a_trace(tmp_path: Path, line: str, sockets: int, outside: tuple[str, ...]) -> None:
    (tmp_path / "trace").write_text(line + "\n", encoding="utf-8")
    traffic = no_network.read_trace(tmp_path / "trace")
    assert (traffic.sockets, traffic.outside) == (sockets, outside)


SOME = """\
7 socket(AF_INET6, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 3
7 bind(3, {sa_family=AF_INET6, sin6_port=htons(0), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 0
8 socket(AF_UNIX, SOCK_DGRAM, 0) = 4
8 connect(4, {sa_family=AF_UNIX, sun_path="/run/x"}, 9) = 0
"""  # noqa: E501 - lines of strace
MORE = '9 connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("203.0.113.7")}, 16) = -1 ENETUNREACH'
KNOWN = [
    Known(name="gRPC", options=["graphdef"], calls=["socket AF_INET6 SOCK_STREAM", "bind ::1"], why="it tries IPv6")
]


def test_sockets_that_are_known_are_told_by_name_and_others_are_new(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(SOME, encoding="utf-8")
    traffic = no_network.read_trace(tmp_path / "trace")
    assert traffic.calls == ("socket AF_INET6 SOCK_STREAM", "bind ::1")
    assert not no_network.unnamed("graphdef", traffic, KNOWN)
    assert no_network.unnamed("onnx", traffic, KNOWN) == list(traffic.calls), "it is known of another option"
    assert "1 internet sockets opened (gRPC: it tries IPv6), 0 " in no_network.judge("graphdef", traffic, KNOWN).text
    (tmp_path / "trace").write_text(SOME + MORE, encoding="utf-8")
    traffic = no_network.read_trace(tmp_path / "trace")
    assert no_network.unnamed("graphdef", traffic, KNOWN) == ["connect 203.0.113.7 port 443"]
    assert outcome(no_network.judge("graphdef", traffic, KNOWN)) == "no"


def test_a_page_that_asks_another_origin_is_told() -> None:
    traffic = no_network.Traffic(3, (), "strace, every call")
    assert outcome(no_network.judge_page("tfjs", [], traffic)) == "yes"
    assert outcome(no_network.judge_page("tfjs", ["https://example.com"], traffic)) == "no"


# -- no_python -----------------------------------------------------------------------------------------------------


def raw(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = np.random.default_rng(seed).random((1, 6, 20), dtype=np.float32)
    values[:, :4] *= 32
    return values


def test_python_in_the_process_or_other_detections_are_a_no() -> None:
    judge = functools.partial(no_python.judge, [X])
    clean = ["/opt/torch/lib/libtorch_cpu.so", "/usr/lib/libc.so.6"]
    assert outcome(judge([raw(1)], [raw(1)], clean)) == "yes"
    assert outcome(judge([raw(1)], [raw(2)], clean)) == "no"
    assert outcome(judge([raw(1)], [raw(1)[:, :, :19]], clean)) == "no"
    for library in ("/usr/lib/libpython3.11.so.1.0", "/opt/torch/lib/libtorch_python.so", "/usr/bin/python3.11"):
        found = judge([raw(1)], [raw(1)], [*clean, library])
        assert outcome(found) == "no"
        assert library in found.text


def test_a_program_that_fails_is_told(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho no such model >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(Unavailable, match="no such model"):
        no_python.run(program, tmp_path / "model", X, tmp_path)


# -- devices, operators, sandbox: what is decided -------------------------------------------------------------------


def test_a_device_that_is_not_built_in_is_a_no() -> None:
    found = [{"name": "cuda", "built": False, "here": 0, "said": "not built in"},
             {"name": "cpu", "built": True, "here": 1, "said": "built in"}]  # fmt: skip
    assert [(row.subject, outcome(row), row.value) for row in devices.rows("onnx", "onnx", found)] == [
        ("cuda", "no", 0.0),
        ("cpu", "yes", 1.0),
    ]


def test_an_operator_off_the_list_is_a_no() -> None:
    details = {"operators": {"CONV_2D": 9, "BATCH_MATMUL": 1}, "unlisted": {"BATCH_MATMUL": 1}, "limited": {},
               "source": "a page", "compiler": "not installed"}  # fmt: skip
    rows = {row.subject: row for row in operators.judge(details)}
    assert {name: outcome(row) for name, row in rows.items()} == {"CONV_2D": "yes", "BATCH_MATMUL": "no", "all": "no"}
    assert rows["all"].value == pytest.approx(0.9)
    whole = {row.subject: outcome(row) for row in operators.judge({**details, "unlisted": {}})}
    assert whole["all"] == "yes"


def test_the_least_policy_is_found() -> None:
    def works(allowed: str) -> bool:
        return "'wasm-unsafe-eval'" in allowed and "worker-src blob:" in allowed

    found = sandbox.backend_policy("wasm", works)
    assert outcome(found) == "yes"
    assert found.value == 2
    least = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; worker-src blob:"
    assert found.text == f"Works under: {least}"


@pytest.mark.parametrize(("works", "told"), [(lambda allowed: "'unsafe-eval'" in allowed, "needs"),
                                             (lambda _allowed: False, "even with eval")])  # fmt: skip
def test_a_page_that_needs_eval_is_a_no(works: Callable[[str], bool], told: str) -> None:
    found = sandbox.backend_policy("wasm", works)
    assert outcome(found) == "no"
    assert told in found.text


def test_outputs_of_other_shapes_differ_without_bound() -> None:
    assert not difference([raw(1)], [raw(1)[:, :5]]).within(Parity(box_px=1e9, score=1e9))


# -- packages ------------------------------------------------------------------------------------------------------


class Index(http.server.BaseHTTPRequestHandler):
    """PyPI's Simple API in JSON, and npm's registry, with one package each."""

    files: list[dict[str, Any]] = [  # noqa: RUF012 - a test's data
        {"filename": "demo-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "url": "a", "hashes": {},
         "upload-time": "2025-01-02T03:04:05.678Z", "yanked": False},
        {"filename": "demo-1.1.tar.gz", "url": "b", "hashes": {}, "yanked": "broken"},
        {"filename": "demo-1.1.exe", "url": "c", "hashes": {}},
    ]  # fmt: skip

    def do_GET(self) -> None:
        if self.path.startswith("/simple/demo"):
            kind, content = "application/vnd.pypi.simple.v1+json", {
                "meta": {"api-version": "1.1"}, "name": "demo", "files": self.files, "versions": ["1.0", "1.1"],
            }  # fmt: skip
        elif self.path.startswith("/@demo%2fpage"):
            kind, content = "application/json", {
                "name": "@demo/page", "dist-tags": {"latest": "2.0.0"},
                "versions": {"2.0.0": {"name": "@demo/page", "version": "2.0.0"}},
                "time": {"created": "2024-01-01T00:00:00.000Z", "2.0.0": "2024-05-06T07:08:09.000Z"},
            }  # fmt: skip
        else:
            self.send_error(404)
            return
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def index() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_releases_of_a_python_package(index: str) -> None:
    rows = list(packages.python_releases("demo", [f"{index}/other/", f"{index}/simple/"]))
    wheel, source = rows
    assert (wheel["kind"], wheel["version"], wheel["python"], wheel["abi"]) == ("wheel", "1.0", "cp311", "cp311")
    assert wheel["platform"] == "manylinux2014_x86_64.manylinux_2_17_x86_64"
    assert wheel["uploaded"] == datetime(2025, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    assert (source["kind"], source["yanked"], source["uploaded"]) == ("sdist", True, None)
    assert not any(index in str(value) for row in rows for value in row.values())


def test_the_users_own_index_is_asked(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{index}/simple/")
    monkeypatch.setenv("UV_INDEX", "file:///nowhere/simple")
    assert len(list(packages.python_releases("demo"))) == 2


def test_a_package_that_no_index_has_is_an_error(index: str) -> None:
    with pytest.raises(UsageError, match="absent: no index"):
        list(packages.python_releases("absent", [f"{index}/simple/"]))


def test_an_index_that_does_not_answer_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UsageError, match="cannot be read"):
        list(packages.python_releases("demo", [f"http://127.0.0.1:{port}/simple/"]))


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_releases_of_a_javascript_package(index: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("npm_config_registry", index)
    monkeypatch.setenv("npm_config_cache", str(tmp_path))
    (row,) = packages.npm_releases("@demo/page")
    assert (row["version"], row["kind"], row["uploaded"]) == ("2.0.0", "npm", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC))
    with pytest.raises(UsageError, match="absent: npm cannot look it up"):
        list(packages.npm_releases("absent"))


def test_the_committed_snapshot_is_whole_and_names_no_host(tmp_path: Path) -> None:
    settings = entries.parse(Settings, entries.read(MATRICES / "probes.toml"), "probes.toml")
    (age,) = packages.store_in(tmp_path, MATRICES, settings.packages)  # nothing else to tell: no package is missing
    assert "days ago" in age
    frame = store.read_table(tmp_path, "packages")
    assert frame.uploaded.notna().mean() > 0.99
    assert not frame.select_dtypes(["object", "string"]).map(lambda text: "://" in str(text)).any(axis=None)


def test_a_package_missing_from_the_snapshot_is_told(tmp_path: Path) -> None:
    problems = packages.store_in(tmp_path, MATRICES, {"onnx": ["no-such-package"]})
    assert any("no-such-package: not in the snapshot" in text for text in problems)
    assert "no snapshot" in packages.store_in(tmp_path, tmp_path, {})[0]


# -- the runner and the command --------------------------------------------------------------------------------------


def test_a_probe_fails_alone_with_its_reason() -> None:
    def failing(_context: object) -> Iterator[Observation]:
        yield Observation("onnx", "first", Outcome.YES, "seen")
        raise Unavailable("needs a device\nand more")

    rows = list(runner.observe("p", None, {"p": failing}))  # type: ignore[arg-type]  # it looks at nothing
    assert [(row.subject, outcome(row), row.text) for row in rows] == [
        ("first", "yes", "seen"),
        ("", "unavailable", "needs a device"),
    ]


def bench(*arguments: object) -> tuple[int, str]:
    """Exit code of the command, and its output or the message of its error."""
    done = CliRunner().invoke(cli.app, [*map(str, arguments)])
    return done.exit_code, done.output or str(done.exception)


def make_run(folder: Path) -> Path:
    rows = [{"run_id": "r", "cell_id": "m/onnx", "model": "m", "option": "onnx", "precision": "fp32", "target": "cpu",
             "imgsz": 320, "batch": 1, "threads": 1, "status": "measured", "artifact_key": "absent",
             "reproduce": "nox -s bench"}]  # fmt: skip
    store.write_table(folder, "cells", rows)
    return folder


def test_the_command_stores_what_it_saw_and_keeps_what_it_did_not_repeat(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    code, said = bench("probe", run, "--only", "data_only", "--cache", tmp_path / "cache")
    assert code == 1, said  # nothing could be looked at
    assert "make it again with: nox -s bench" in said
    code, _ = bench("probe", run, "--only", "operators", "--cache", tmp_path / "cache")
    assert code == 1
    frame = store.read_table(run, "probes")
    assert list(frame.probe) == ["data_only", "operators"]
    assert set(frame.outcome) == {"unavailable"}
    assert frame.machine.str.len().min() > 3
    assert not (run / "packages.parquet").exists()


def test_a_wrong_name_is_wrong_usage(tmp_path: Path) -> None:
    code, said = bench("probe", make_run(tmp_path / "run"), "--only", "interchnage")
    assert code != 0
    assert "--only: unknown interchnage; allowed: packages, operators" in said
