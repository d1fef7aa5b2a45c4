"""The worker against real guests, the well-behaved one and one that does everything wrong."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from processes import gone

from bench.reasons import CellProblem, Reason, Status
from bench.wall.confinement import Confinement
from bench.wall.process import GuestProcess
from bench.wall.worker import Worker

GUESTS = Path(__file__).parent / "guests"
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def spec(layout: str = "channels_first", units: str = "px", batch: int = 1, **options: Any) -> dict[str, Any]:
    return {
        "artifact_dir": "unused",
        "manifest": {"output": {"layout": layout, "units": units, "shape": [batch, 6, 5]}},
        "target": "cpu",
        "threads": 1,
        "precision": "fp32",
        "imgsz": 10,
        "batch": batch,
        "options": options,
    }


def worker(name: str, **keywords: Any) -> Worker:
    return Worker(Path(sys.executable), GUESTS / f"{name}.py", variables={"PATH": os.environ["PATH"]}, **keywords)


def test_an_answer_that_is_there_is_read_past_the_deadline(tmp_path: Path) -> None:
    """As after Ctrl-Z and `fg`: the bench was stopped meanwhile, and the guest was not."""
    command = ["sh", "-c", "echo answered; exec sleep 60"]
    guest = GuestProcess.start("echo", command, {"PATH": os.environ["PATH"]}, tmp_path, tmp_path / "log")
    try:
        with selectors.DefaultSelector() as selector:
            assert guest._process.stdout is not None
            selector.register(guest._process.stdout, selectors.EVENT_READ)
            assert selector.select(30)
        late = time.monotonic() - 1
        assert guest._line("infer", late, 0.5, 0) == b"answered"
        with pytest.raises(CellProblem) as told:
            guest._line("infer", late, 0.5, 0)
        assert told.value.reason is Reason.TIMED_OUT
    finally:
        guest.close()


def images(batch: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.full((batch, 3, 10, 10), 0.25, np.float32)


@pytest.fixture
def misbehaving() -> Iterator[Worker]:
    with worker("misbehaving") as guest:
        yield guest


def test_inference_elsewhere_is_timed_and_weighed_there() -> None:
    with worker("elsewhere") as guest:
        assert guest.stats().threads != 77  # nothing is loaded yet
        loaded = guest.load(spec() | {"manifest": {"output": {"layout": "channels_first", "units": "px"}}})
        assert loaded.emulated == "a cardboard box"
        guest.infer(images())
        timing = guest.time(4, 2)
        assert timing.samples_ms.tolist() == [7.0] * 4
        assert timing.cpu_s == 1.0
        assert timing.threads == 77
        stats = guest.stats(attest=True)
        assert (stats.peak_rss_bytes, stats.threads) == (123_456_789, 77)
        assert stats.attested["timed"] == 6


def test_an_inference_whose_output_is_looked_at_is_a_sample() -> None:
    with worker("linear") as guest:
        guest.load(spec(seconds=0.02))
        sample = guest.sample(images())
        assert np.array_equal(sample.outputs["output"], guest.outputs(images())["output"])
        assert sample.ms >= 20
        assert sample.ms / 1e3 <= sample.wall_s, "the inference, and a look at two clocks"
        assert sample.cpu_s < sample.wall_s / 2, "it sleeps"
        assert guest.time(1).samples_ms.shape == (1,), "its input stays for more of the same"


def test_a_sample_of_inference_elsewhere_is_by_the_clock_there() -> None:
    with worker("elsewhere") as guest:
        guest.load(spec() | {"manifest": {"output": {"layout": "channels_first", "units": "px"}}})
        sample = guest.sample(images())
        assert sample.outputs["output"].shape == (1, 6, 8)
        assert (sample.ms, sample.cpu_s, sample.wall_s) == (7.0, 1.0, 0.007)
        assert guest.stats(attest=True).attested["timed"] == 1
        guest.outputs(images())
        assert guest.stats(attest=True).attested["timed"] == 1, "an output alone is not timed"


def test_inference_here_stands_in_for_nothing() -> None:
    with worker("linear") as guest:
        assert guest.load(spec()).emulated == ""


def test_every_layout_and_unit_reaches_the_core_as_channels_first_pixels() -> None:
    with worker("linear") as guest:
        for layout in ("channels_first", "channels_last"):
            for units, boxes in (("px", 0.25), ("unit", 2.5)):
                guest.load(spec(layout, units, batch=2))
                output = guest.infer(images(2))
                assert output.dtype == np.float32
                assert output.shape == (2, 6, 5)
                assert np.all(output[:, :4] == boxes)
                assert np.all(output[:, 4:] == 0.25)


def test_tensors_of_growing_and_shrinking_size() -> None:
    with worker("linear") as guest:
        for batch in (1, 7, 2):
            guest.load(spec(batch=batch))
            x = np.random.default_rng(batch).random((batch, 3, 64, 64), dtype=np.float32)
            output = guest.infer(x)
            np.testing.assert_allclose(output[:, 0, 0], x.mean(axis=(1, 2, 3)), rtol=1e-6)


def test_time_returns_every_sample_and_a_slow_guest_is_slow_not_late() -> None:
    with worker("linear") as guest:
        loaded = guest.load(spec(seconds=0.02))
        assert loaded.load_ms >= 0
        assert loaded.import_ms > 0
        guest.infer(images())
        assert guest.first_inference_ms is not None
        assert guest.first_inference_ms >= 20
        timing = guest.time(5, 2)
        assert timing.samples_ms.shape == (5,)
        assert timing.samples_ms.min() >= 20
        assert timing.wall_s >= 0.1
        assert timing.cpu_s < timing.wall_s / 2


def test_time_without_an_input_is_an_error_of_the_call() -> None:
    with worker("linear") as guest:
        guest.load(spec())
        with pytest.raises(CellProblem, match="before any infer") as problem:
            guest.time(1)
        assert problem.value.reason is Reason.INFERENCE_FAILED


def test_affinity_threads_and_variables_are_set_before_the_adapter_is_imported() -> None:
    cpus = sorted(os.sched_getaffinity(0))[:1] if hasattr(os, "sched_getaffinity") else []
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": "elsewhere", "KEPT": "yes"}
    with Worker(Path(sys.executable), GUESTS / "linear.py", variables=variables, threads=3, cpus=cpus) as guest:
        guest.load(spec())
        assert guest.stats().attested == {}
        attestation = guest.stats(attest=True).attested
    assert attestation["threads"] == 3
    assert attestation["cpus"] == cpus
    assert attestation["variables"]["KEPT"] == "yes"
    assert "PYTHONPATH" not in attestation["variables"]
    assert "HOME" not in attestation["variables"]


@linux
def test_peak_memory_is_the_guests_own_and_not_inherited() -> None:
    ballast = np.ones(60_000_000, np.float64)  # 480 MB in this process
    with worker("linear") as guest:
        guest.load(spec())
        peak = guest.stats().peak_rss_bytes
    assert ballast.nbytes > 400e6
    assert 10e6 < peak < 200e6


@linux
def test_the_guest_is_the_kernels_first_choice_when_memory_ends() -> None:
    with worker("linear") as guest:
        assert Path(f"/proc/{guest.pid}/oom_score_adj").read_text(encoding="ascii").strip() == "1000"


@pytest.mark.parametrize("late", [False, True], ids=["load", "infer"])
@pytest.mark.parametrize(
    ("behaviour", "reason", "text"),
    [
        ("exit", Reason.CRASHED, "exit code 3"),
        ("sigkill", Reason.CRASHED, "SIGKILL"),
        ("segfault", Reason.CRASHED, "SIGSEGV"),
        ("abort", Reason.CRASHED, "SIGABRT"),
        ("memory", Reason.OUT_OF_MEMORY, "no room for the workspace"),
        ("bad_alloc", Reason.OUT_OF_MEMORY, "bad_alloc"),
        ("raise", None, "the kernel said no"),
        ("library", None, r"a library of the system: .* apt-get install libgomp-is-absent1"),
        ("absent", Reason.TARGET_ABSENT, "no such device"),
    ],
)
def test_death_and_errors_get_their_reason(
    misbehaving: Worker, behaviour: str, reason: Reason | None, text: str, late: bool
) -> None:
    wrong = spec(behaviour=behaviour, late=late)
    if late:
        misbehaving.load(wrong)
    with pytest.raises(CellProblem, match=text) as problem:
        misbehaving.infer(images()) if late else misbehaving.load(wrong)
    expected = reason or (Reason.INFERENCE_FAILED if late else Reason.LOAD_FAILED)
    assert problem.value.reason is expected
    assert problem.value.status is (Status.SKIPPED if behaviour == "absent" else Status.FAILED)


def test_the_last_lines_of_a_dead_guest_are_in_the_text(misbehaving: Worker) -> None:
    with pytest.raises(CellProblem, match="about to go"):
        misbehaving.load(spec(behaviour="sigkill"))


def test_a_guest_goes_on_serving_after_an_error(misbehaving: Worker) -> None:
    misbehaving.load(spec(behaviour="raise", late=True))
    with pytest.raises(CellProblem, match="the kernel said no"):
        misbehaving.infer(images())
    misbehaving.load(spec(behaviour="none"))
    assert misbehaving.infer(images()).shape == (1, 6, 5)


@pytest.mark.parametrize(("behaviour", "text"), [("nan", "1 of 30"), ("shape", "expected"), ("flat", "expected")])
def test_output_that_is_no_prediction_is_refused(misbehaving: Worker, behaviour: str, text: str) -> None:
    misbehaving.load(spec(behaviour=behaviour, late=True))
    with pytest.raises(CellProblem, match=text) as problem:
        misbehaving.infer(images())
    assert problem.value.reason is Reason.OUTPUT_INVALID


def test_printing_does_not_disturb_the_protocol(misbehaving: Worker) -> None:
    misbehaving.load(spec(behaviour="chatty"))
    assert misbehaving.infer(images()).shape == (1, 6, 5)
    assert "a C library prints" in misbehaving.log_tail()


@linux
@pytest.mark.parametrize("line", ["rubbish\n", "[1, 2]\n", '{"id": 77}\n', '{"id": 1, "error": "yes"}\n', "\xff\n"])
def test_rubbish_on_the_protocol_itself(misbehaving: Worker, line: str) -> None:
    with pytest.raises(CellProblem) as problem:
        misbehaving.load(spec(behaviour="rubbish", line=line))
    assert problem.value.reason is Reason.PROTOCOL


@linux
def test_an_endless_answer_is_cut_off(misbehaving: Worker) -> None:
    with pytest.raises(CellProblem, match="no end of line") as problem:
        misbehaving.load(spec(behaviour="endless"))
    assert problem.value.reason is Reason.PROTOCOL


def test_what_json_cannot_carry_is_the_adapters_error(misbehaving: Worker) -> None:
    misbehaving.load(spec(behaviour="none"))
    with pytest.raises(CellProblem, match="not JSON serializable"):
        misbehaving.stats(attest=True)
    assert misbehaving.infer(images()).shape == (1, 6, 5)


def test_a_hang_ends_at_the_deadline_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    started = time.monotonic()
    own = Confinement(writable=(tmp_path,))
    with worker("misbehaving", confinement=own) as guest, pytest.raises(CellProblem) as problem:
        guest.load(spec(behaviour="child", pid_file=str(pid_file)), timeout=2)
    assert problem.value.reason is Reason.TIMED_OUT
    assert time.monotonic() - started < 8
    assert all(gone(int(pid)) for pid in pid_file.read_text(encoding="ascii").split())


def test_an_import_that_fails_is_a_load_that_fails(tmp_path: Path) -> None:
    adapter = tmp_path / "broken.py"
    adapter.write_text("import no_such_runtime\n", encoding="utf-8")
    guest = Worker(Path(sys.executable), adapter, variables={})
    with pytest.raises(CellProblem, match="no_such_runtime") as problem:
        guest.start()
    guest.close()
    assert problem.value.reason is Reason.LOAD_FAILED


def test_an_adapter_may_be_named_like_a_library_and_import_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "_shared.py").write_text("WORD = 'shared'\n", encoding="utf-8")
    text = "import json\nfrom ._shared import WORD\n\ndef say(arguments):\n    return {'word': json.dumps(WORD)}\n"
    (tmp_path / "json.py").write_text(text, encoding="utf-8")
    with Worker(Path(sys.executable), tmp_path / "json.py", variables={}) as guest:
        assert guest.call("say", {}, 10) == {"word": '"shared"'}


def test_an_interpreter_that_is_not_there_is_the_environments_fault(tmp_path: Path) -> None:
    guest = Worker(tmp_path / "python", GUESTS / "linear.py", variables={})
    with pytest.raises(CellProblem) as problem:
        guest.start()
    assert problem.value.reason is Reason.ENVIRONMENT_FAILED


def test_calls_on_a_guest_that_is_not_running() -> None:
    with pytest.raises(CellProblem, match="not running"):
        worker("linear").load(spec())


def test_close_ends_the_guest_and_removes_its_files_and_may_be_repeated(tmp_path: Path, temporary: Path) -> None:
    guest = worker("linear", log_path=tmp_path / "logs" / "guest.log")
    with guest:
        pid = guest.pid
        assert psutil.pid_exists(pid)
    guest.close()
    assert gone(pid)
    assert list(temporary.iterdir()) == []
    assert (tmp_path / "logs" / "guest.log").exists()


@pytest.mark.parametrize("end", ["none", "raise", "sigkill", "segfault", "exit"])
def test_nothing_stays_in_the_temporary_folder_however_a_guest_ends(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "told").mkdir()
    own = Confinement(writable=(tmp_path / "told",))
    with worker("misbehaving", confinement=own) as guest, contextlib.suppress(CellProblem):
        guest.load(spec(behaviour="litter", then=end, told=str(tmp_path / "told" / "folder")))
    told = Path((tmp_path / "told" / "folder").read_text(encoding="utf-8"))
    assert told.is_relative_to(tmp_path / "tmp")
    assert not list((tmp_path / "tmp").iterdir())


OWNER = """
import sys
import signal
import tempfile
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started with it ignored
sys.path.insert(0, {root!r})
from bench.wall.confinement import Confinement
from bench.wall.worker import Worker
own = Confinement(writable=(Path({own!r}),))
guest = Worker(Path(sys.executable), Path({adapter!r}), variables={{}}, confinement=own)
guest.start()
spec = {spec!r}
print("ready", flush=True)
guest.load(spec, timeout=600)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_no_orphans_however_the_core_ends(tmp_path: Path, how: signal.Signals) -> None:
    own = tmp_path / "own"
    own.mkdir()
    pid_file = own / "pids"
    text = OWNER.format(
        root=str(GUESTS.parents[1]),
        adapter=str(GUESTS / "misbehaving.py"),
        own=str(own),
        spec=spec(behaviour="litter", then="child", told=str(own / "told"), pid_file=str(pid_file)),
    )
    (tmp_path / "tmp").mkdir()
    variables = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    owner = subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=variables
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 10
    while not (pid_file.exists() and pid_file.read_text(encoding="ascii").count(" ")) and time.monotonic() < deadline:
        time.sleep(0.02)
    pids = [int(pid) for pid in pid_file.read_text(encoding="ascii").split()]
    assert len(pids) == 2
    owner.send_signal(how)
    owner.wait(10)
    owner.stdout.close()
    assert all(gone(pid) for pid in pids)
    assert not list((tmp_path / "tmp").iterdir())
