"""Exports the shipped models to TorchScript for the torch backend: `python3 models/export_torch.py`.

The weights are those of the shipped ONNX files, so no training is needed. The detector becomes four stages, which a lane
with several devices splits between them; the other two are one stage each. Files land beside the ONNX ones, and their
names and digests in the manifest. A second run writes the same bytes.
"""

import argparse
import hashlib
import io
import re
import sys
import zipfile
from pathlib import Path

from setup_cpu import enter

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--models", type=Path, default=HERE, help="folder of the models (default: %(default)s)")
    options = parser.parse_args()

    import torch
    from synthdet import INPUT_SIZE, ship as shipped_detector
    from synthdet.net import Detector
    from synthpeople import ship as shipped_people
    from synthpeople.net import NUMBER_SIZE, PERSON_SIZE, Embedder, Reader

    torch.manual_seed(0)
    torch.set_num_threads(1)
    models = [
        ("synth-detector", shipped_detector.read_shipped, Detector(), INPUT_SIZE),
        ("synth-embedder", shipped_people.read_shipped, Embedder(), PERSON_SIZE),
        ("synth-digits", shipped_people.read_shipped, Reader(), NUMBER_SIZE),
    ]
    for name, read, net, size in models:
        folder = options.models / name
        found = read(folder)
        onnx_file = found[0] if isinstance(found, tuple) else found
        take_weights(net, onnx_file)
        parts = detector_stages(net) if isinstance(net, Detector) else [net]
        example = torch.rand(2, 3, size[1], size[0]) * 255
        files = []
        for at, data in enumerate(traced(parts, example)):
            suffix = f".{at}" if len(parts) > 1 else ""
            path = folder / f"{name}{suffix}.pt"
            path.write_bytes(data)
            files.append((path.name, hashlib.sha256(data).hexdigest()))
        difference = compare(onnx_file, [folder / file for file, _ in files], size)
        enter_into_manifest(folder / "manifest.toml", files)
        print(f"{name}: {len(files)} stages, at most {difference:.1e} from ONNX Runtime", file=sys.stderr)


def take_weights(net, onnx_file: Path) -> None:
    """The weights of an exported file: its tensors have the names of the fused network's parameters."""
    import numpy
    import onnx
    import torch

    net.fuse()
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(onnx_file).graph.initializer}
    wanted = net.state_dict()
    if missing := wanted.keys() - found.keys():
        raise SystemExit(f"`{onnx_file}` lacks {', '.join(sorted(missing))}")
    net.load_state_dict({name: torch.from_numpy(numpy.array(found[name])) for name in wanted})


def detector_stages(net) -> list:
    """The detector in four runs of layers of about equal cost on a GPU; what is needed later travels along."""
    import torch
    from synthdet.net import twice

    class Stage(torch.nn.Module):
        def __init__(self, layers: tuple, run) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(layers)
            self.run = run

        def forward(self, *given):
            return self.run(self.layers, *given)

    def stem(layers, pictures):
        return layers[0](pictures)

    def down(layers, p4):
        p8 = layers[0](p4)
        p16 = layers[1](p8)
        return p4, p8, p16, layers[2](p16)

    def up(layers, p4, p8, p16, p32):
        up16, mix16, up8, mix8 = layers
        p16 = mix16(p16 + twice(up16(p32)))
        return p4, mix8(p8 + twice(up8(p16)))

    def answer(layers, p4, p8):
        up4, mix4, wide8, head4, head8 = layers
        p4 = mix4(p4 + twice(up4(p8)))
        levels = [head4(p4), head8(wide8(p8))]
        flat = [torch.cat([level[:, :4], level[:, 4:].sigmoid()], 1).flatten(2) for level in levels]
        return torch.cat(flat, 2).transpose(1, 2)

    return [
        Stage((net.down4,), stem),
        Stage((net.down8, net.down16, net.down32), down),
        Stage((net.up16, net.mix16, net.up8, net.mix8), up),
        Stage((net.up4, net.mix4, net.wide8, *net.heads), answer),
    ]


def traced(parts: list, example):
    """Each part as the bytes of a frozen TorchScript module, traced on what the part before gives."""
    import torch

    given = (example,)
    for part in parts:
        with torch.no_grad():
            module = torch.jit.freeze(torch.jit.trace(part.eval(), given))
            given = module(*given)
        given = given if isinstance(given, tuple) else (given,)
        saved = io.BytesIO()
        torch.jit.save(module, saved)
        yield plain(saved.getvalue())


def plain(saved: bytes) -> bytes:
    """The same archive without what only debuggers read, which names this machine's folders, and without times."""
    plain = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved)) as before, zipfile.ZipFile(plain, "w", zipfile.ZIP_STORED) as after:
        for entry in before.infolist():
            if entry.filename.endswith(".debug_pkl") or "/.data/" in entry.filename:
                continue
            after.writestr(zipfile.ZipInfo(entry.filename), before.read(entry))
    return plain.getvalue()


def compare(onnx_file: Path, stages: list[Path], size: tuple[int, int]) -> float:
    """Largest difference between both on noise. More than 1e-3 is refused."""
    import numpy
    import onnxruntime
    import torch

    pictures = numpy.random.default_rng(1).uniform(0, 255, (2, 3, size[1], size[0])).astype(numpy.float32)
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"images": pictures})
    found = (torch.from_numpy(pictures),)
    for stage in stages:
        with torch.inference_mode():
            found = torch.jit.load(str(stage)).eval()(*found)
        found = found if isinstance(found, tuple) else (found,)
    difference = float(numpy.abs(found[0].numpy() - expected).max())
    if difference > 1e-3:
        raise SystemExit(f"`{onnx_file}`: TorchScript differs by {difference}")
    return difference


def enter_into_manifest(manifest: Path, files: list[tuple[str, str]]) -> None:
    """Replaces the manifest's `[[torch]]` entries; they come after `[file]`."""
    text = re.sub(r"\[\[torch\]\]\n(?:\w+ = .*\n)+\n", "", manifest.read_text())
    entries = "".join(f'[[torch]]\npath = "{path}"\nsha256 = "{sha256}"\n\n' for path, sha256 in files)
    manifest.write_text(text.replace("[input]\n", f"{entries}[input]\n", 1))


if __name__ == "__main__":
    enter()
    main()
