"""Packs a trained network as the product takes it: ONNX file and manifest."""

import hashlib
import tomllib
import warnings
from pathlib import Path

import onnx
import torch

from .net import ALPHABET, BLANK, NUMBER_SIZE, PERSON_SIZE, Fusable

MANIFEST = "manifest.toml"
MANIFEST_TEXT = """\
# {about} Written by models/{script}.
name = "{name}"
licence = "Apache-2.0"

[file]
path = "{name}.onnx"
sha256 = "{sha256}"

[input]
name = "images"
channels = "rgb"
size = {size}
resize = "stretch"

[output]
{output}

[notes]
{notes}
"""

EMBEDDER = {
    "name": "synth-embedder",
    "script": "train_embedder.py",
    "about": "Tells the people of synthetic matches apart by their looks: an embedding, compared by its direction.",
    "size": PERSON_SIZE,
    "output": 'head = "embedding"\nname = "output"',
}
READER = {
    "name": "synth-digits",
    "script": "train_digits.py",
    "about": "Reads the shirt numbers of synthetic matches.",
    "size": NUMBER_SIZE,
    "output": f'head = "ctc"\nname = "output"\nalphabet = "{ALPHABET}"\nblank = {BLANK}',
}


def export(net: Fusable, folder: Path, kind: dict) -> Path:
    """Writes the ONNX file; ends the network's training life."""
    path = folder / f"{kind['name']}.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    net = net.to(memory_format=torch.contiguous_format).fuse()
    example = torch.zeros(1, 3, *kind["size"][::-1])
    with warnings.catch_warnings():
        # The newer exporter needs two more packages and writes the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (example,),
            str(path),
            input_names=["images"],
            output_names=["output"],
            dynamic_axes={"images": {0: "batch"}, "output": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return path


def describe(folder: Path, kind: dict, notes: dict[str, str]) -> None:
    """Writes the manifest beside the model."""
    text = MANIFEST_TEXT.format(
        **kind | {"size": list(kind["size"])},
        sha256=hashlib.sha256((folder / f"{kind['name']}.onnx").read_bytes()).hexdigest(),
        notes="\n".join(f'{key} = "{value}"' for key, value in notes.items()),
    )
    tomllib.loads(text)
    (folder / MANIFEST).write_text(text)


def read_shipped(folder: Path) -> Path:
    """The shipped model. Refuses a file that is not the manifest's."""
    manifest = tomllib.loads((folder / MANIFEST).read_text())
    model = folder / manifest["file"]["path"]
    if (found := hashlib.sha256(model.read_bytes()).hexdigest()) != manifest["file"]["sha256"]:
        raise SystemExit(f"`{model}`: sha256 is {found}, the manifest says {manifest['file']['sha256']}")
    return model
