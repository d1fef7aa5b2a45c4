"""Commands as users of Ultralytics write them."""

from __future__ import annotations

import pytest
from running import bench

from bench.cli.habits import translated
from bench.reasons import UsageError


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("run model=best.pt data=coco8.yaml imgsz=640", "run --model best.pt --data coco8.yaml --imgsz 640"),
        ("run model=a.pt,b.pt imgsz=320,640", "run --model a.pt,b.pt --imgsz 320,640"),
        ("run device=0", "run --targets cuda"),
        ("run device=0,1", "run --targets cuda"),
        ("run device=cuda:1", "run --targets cuda"),
        ("run device=cpu half=True int8=True", "run --targets cpu --precisions fp16,int8"),
        ("run half=False int8=1", "run --precisions int8"),
        ("list format=engine device=mps", "list --options engine --targets coreml"),
        ("run format=litert quantize=8", "run --options litert --precisions int8"),
        ("run quantize=w16a16", "run --precisions fp16"),
        ("run format=tflite quantize=w8a32", "run --options tflite --precisions dynamic"),
        ("run --model=best.pt --options onnx", "run --model=best.pt --options onnx"),
        ("baseline promote x --why model=n", "baseline promote x --why model=n"),
        ("run -k model=n half=True", "run -k model=n --precisions fp16"),
        ("recommend --max-map-loss -1 imgsz=640", "recommend --max-map-loss -1 --imgsz 640"),
        ("show odd=run", "show odd=run"),
    ],
)
def test_ultralytics_words_become_options(written: str, meant: str) -> None:
    assert translated(written.split()) == meant.split()


@pytest.mark.parametrize("word", ["half=maybe", "quantize=w8a16", "device=tpu", "device=0,tpu"])
def test_a_value_that_cannot_be_meant_is_told(word: str) -> None:
    with pytest.raises(UsageError, match=word.partition("=")[0]):
        translated(["run", word])


SEVERAL = "give it once, with commas between its values:"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("run model=a.pt model=b.pt", f"--model is given 2 times; {SEVERAL} --model a.pt,b.pt"),
        (
            "run --options onnx format=mnn --options=ncnn",
            f"--options is given 3 times; {SEVERAL} --options onnx,mnn,ncnn",
        ),
        ("list half=True --precisions int8", f"--precisions is given 2 times; {SEVERAL} --precisions int8,fp16"),
    ],
)
def test_no_value_of_a_list_is_lost_unsaid(written: str, said: str) -> None:
    """Of a list that is given twice the last alone would count, and nobody would be told."""
    done = bench(*written.split(), "--lang", "en")
    assert done.code == 2
    assert said in " ".join(done.said.split())


def test_of_a_single_value_the_last_counts() -> None:
    """As with other commands: what somebody adds to a command of his own wins."""
    done = bench("list", "--sweep", "nope", "--sweep", "smoke", "--lang", "en")
    assert done.code == 0, done.said
    done = bench("list", "--sweep", "smoke", "--sweep", "nope", "--lang", "en")
    assert done.code == 2
    assert "no sweep 'nope'" in done.said
