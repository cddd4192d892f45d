"""Writes the models of the tests that tracing from Rust cannot make: `models/setup_cpu.py`'s Python, in this folder.

pair.pt gives a tuple, named.pt a dictionary: the input's values once and twice over."""

import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[3] / "models"))

from export_torch import plain  # noqa: E402


class Pair(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flat = pictures.flatten(1)
        return flat, flat * 2


class Named(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        flat = pictures.flatten(1)
        return {"twice": flat * 2, "once": flat}


for name, module in {"pair": Pair(), "named": Named()}.items():
    path = HERE / "models" / f"{name}.pt"
    torch.jit.script(module).save(str(path))
    path.write_bytes(plain(path.read_bytes()))
