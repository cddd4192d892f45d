"""Packs a trained network as the product takes it: ONNX file, manifest, pipeline."""

import hashlib
import tomllib
import warnings
from pathlib import Path

import onnx
import torch

from . import CLASSES, INPUT_SIZE, PAD
from .net import STRIDES, Detector

MODEL, MANIFEST, PIPELINE = "synth-detector.onnx", "manifest.toml", "pipeline.toml"

MANIFEST_TEXT = """\
# Detector for synthetic matches, the demo's default. Written by models/train_detector.py.
name = "synth-detector"
classes = {classes}
licence = "Apache-2.0"

[file]
path = "{model}"
sha256 = "{sha256}"

[input]
name = "images"
channels = "rgb"
size = {size}
resize = "letterbox-top-left"
pad = {pad}

[output]
head = "yolox"
name = "output"
strides = {strides}

[notes]
{notes}
"""

PIPELINE_TEXT = """\
# The demo's pipeline: the detector for synthetic matches. Other models come in through a manifest like the one named here.
name = "synthetic matches"

[detect]
model = "manifest.toml"
score_threshold = 0.3
nms_iou = 0.65
"""


def export(net: Detector, folder: Path) -> Path:
    """Writes the ONNX file; ends the network's training life."""
    path = folder / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    net = net.to(memory_format=torch.contiguous_format).fuse()
    example = torch.zeros(1, 3, INPUT_SIZE[1], INPUT_SIZE[0])
    with warnings.catch_warnings():
        # The newer exporter needs two more packages and writes the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (example,),
            str(path),
            input_names=["images"],
            output_names=["output"],
            dynamic_axes={"images": {0: "batch", 2: "height", 3: "width"}, "output": {0: "batch", 1: "n"}},
            opset_version=17,
            dynamo=False,
        )
    state_row_width(path)
    return path


def state_row_width(path: Path) -> None:
    """The exporter loses the width of an output row on its way through the dynamic shapes; the product checks it."""
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 5 + len(CLASSES)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def describe(folder: Path, notes: dict[str, str]) -> None:
    """Writes manifest and pipeline beside the model."""
    text = MANIFEST_TEXT.format(
        classes=quoted(CLASSES),
        model=MODEL,
        sha256=hashlib.sha256((folder / MODEL).read_bytes()).hexdigest(),
        size=list(INPUT_SIZE),
        pad=PAD,
        strides=list(STRIDES),
        notes="\n".join(f'{key} = "{value}"' for key, value in notes.items()),
    )
    tomllib.loads(text)
    (folder / MANIFEST).write_text(text)
    (folder / PIPELINE).write_text(PIPELINE_TEXT)


def quoted(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


def read_shipped(folder: Path) -> tuple[Path, list[int], dict]:
    """The shipped model, its strides, and how the pipeline beside it applies it. Refuses a file that is not the
    manifest's."""
    manifest = tomllib.loads((folder / MANIFEST).read_text())
    model = folder / manifest["file"]["path"]
    if (found := hashlib.sha256(model.read_bytes()).hexdigest()) != manifest["file"]["sha256"]:
        raise SystemExit(f"`{model}`: sha256 is {found}, the manifest says {manifest['file']['sha256']}")
    return model, manifest["output"]["strides"], tomllib.loads((folder / PIPELINE).read_text())["detect"]
