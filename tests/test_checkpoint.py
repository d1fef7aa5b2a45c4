"""The checkpoint under test: what is blamed where it cannot be looked into, and how one is downloaded."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.demo import CHECKPOINT
from bench.environments import brought
from bench.environments.locked import Environments
from bench.places import MATRICES
from bench.reasons import CellProblem, Reason, UsageError
from bench.wall import checkpoint
from bench.wall.checkpoint import ENVIRONMENT, Checkpoint, resolve

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")

NOBODY = "http://127.0.0.1:9/simple/"  # the port of the discard service, which no machine runs any more
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proxies of the machine that the tests run on."""
    for name in (*PROXIES, *map(str.lower, PROXIES)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environments:
    """The environments of a machine that reaches no package index and has fetched nothing before."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": NOBODY, "PIP_RETRIES": "0", "UV_NO_CONFIG": "1"}
    for name, value in (settings | {"UV_HTTP_RETRIES": "0", "UV_CACHE_DIR": str(tmp_path / "uv")}).items():
        monkeypatch.setenv(name, value)
    locks = tmp_path / "matrices" / "envs"
    locks.mkdir(parents=True)
    (locks / f"{ENVIRONMENT}.txt").write_text("probe==1.0\n", encoding="utf-8")
    return Environments(tmp_path / "matrices", tmp_path / "cache")


def test_a_package_index_that_is_out_of_reach_is_not_the_checkpoints_fault(
    offline: Environments, tmp_path: Path
) -> None:
    with pytest.raises(CellProblem) as problem:
        resolve(str(CHECKPOINT), offline, tmp_path / "cache")
    said = str(problem.value)
    assert problem.value.reason is Reason.ENVIRONMENT_FAILED
    assert NOBODY in said, "what the installer itself said"
    assert re.search(r"network, the proxy \(HTTPS_PROXY\), .* package index", said)
    assert CHECKPOINT.name not in said
    assert "Give an Ultralytics detect checkpoint" not in said


def test_an_interpreter_that_cannot_look_into_it_is_blamed_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(brought.variable(ENVIRONMENT), sys.executable)  # the core's, which has no ultralytics
    with pytest.raises(CellProblem, match="No module named 'ultralytics'") as problem:
        resolve(str(CHECKPOINT), Environments(MATRICES, tmp_path), tmp_path)
    assert problem.value.reason is Reason.LOAD_FAILED
    assert "Give an Ultralytics detect checkpoint" not in problem.value.text


@dataclass
class Proxy:
    """A proxy on this machine, and the first lines of what it was asked for."""

    address: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """One that lets nothing through."""
    told = Proxy()

    class Refusing(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            told.asked.append(self.requestline)
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told.address = f"http://127.0.0.1:{server.server_port}"
        yield told
        server.shutdown()


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_a_checkpoint_is_downloaded_through_the_users_proxy(
    name: str, proxy: Proxy, environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, proxy.address)
    # Where ultralytics can resolve names it takes a refusal for a passing one, and tries again for half a minute.
    monkeypatch.setattr(checkpoint, "_SECONDS", 10.0)
    with pytest.raises(UsageError, match=r"yolo11n\.pt: .* could not download it") as error:
        resolve("yolo11n.pt", environments, tmp_path)
    assert proxy.asked[0].split()[:2] == ["CONNECT", "github.com:443"]
    assert "Check the network, the proxy" in str(error.value)
    assert name not in environments.variables(), "guests that are measured need no network"


def test_a_file_that_cannot_be_read_is_not_said_to_be_absent(tmp_path: Path) -> None:
    for name, why in (("x" * 300, "File name too long"), ("x", "no such file"), ("x/y", "no such file")):
        with pytest.raises(UsageError, match=why):
            resolve(str(tmp_path / f"{name}.pt"), Environments(MATRICES, tmp_path), tmp_path)


def test_a_model_of_one_class_may_have_been_told_to_take_all_for_one() -> None:
    """The data file that such a model was trained with names more classes than the model has."""
    model = Checkpoint(Path("best.pt"), "best", "", {0: "item"}, 32)
    with pytest.raises(UsageError, match=r"single_cls=True.* `names: \[item\]` .* begin with 0"):
        model.require_classes({0: "cat", 1: "dog"}, Path("pets.yaml"))
    model.require_classes({0: "animal"}, Path("pets-as-one.yaml"))
