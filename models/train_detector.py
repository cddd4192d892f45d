"""Trains the detector for synthetic matches and ships it: `python3 models/train_detector.py`, 30 minutes on 2 cores.

Makes the environment, the matches and the network, then scores the exported file on matches that no training saw and
writes synth-detector/{synth-detector.onnx,manifest.toml}. Every draw is seeded.
"""

import argparse
import json
import time
from pathlib import Path

import setup_cpu

setup_cpu.enter()

import numpy as np  # noqa: E402 - these live in the environment that was just entered
import torch  # noqa: E402

from synthdet import matches, pictures, score, ship  # noqa: E402
from synthdet.loss import detection_loss  # noqa: E402
from synthdet.net import PIXEL_SCALE, Detector  # noqa: E402

HERE = Path(__file__).resolve().parent
# Training windows, in input pixels: a third of a picture each, so that a batch shows many matches.
WINDOW = (320, 256)
LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 3e-3, 0.02, 150
# The shipped weights are a running mean over about so many steps.
MEAN_OVER = 300


class Batches(torch.utils.data.IterableDataset):
    """Batches of windows with their objects, rows of (picture, class, corners). Made in a process of its own: one core
    draws windows while the other trains, which is faster than two threads that wait for each other in every layer."""

    def __init__(self, recordings: list[matches.Recording], size: int, steps: int, seed: int):
        self.frames = [(recording, index) for recording in recordings for index in range(len(recording.frames))]
        self.size, self.steps, self.seed = size, steps, seed

    def __iter__(self):
        rng = np.random.default_rng(self.seed)
        for _ in range(self.steps):
            chosen = rng.choice(len(self.frames), self.size, replace=len(self.frames) < self.size)
            windows = [pictures.window(*self.frames[i], WINDOW, rng) for i in chosen]
            rows = [np.column_stack([np.full(len(seen), n), seen]) for n, (_, seen) in enumerate(windows)]
            yield torch.stack([picture for picture, _ in windows]), torch.from_numpy(np.concatenate(rows))


def train(recordings: list[matches.Recording], steps: int, size: int, seed: int) -> Detector:
    torch.manual_seed(seed)
    net = Detector().to(memory_format=torch.channels_last).train()
    decay = min(1 - 1 / MEAN_OVER, 1 - 5 / steps)
    mean = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay), use_buffers=True
    )
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / WARM_UP, 1) * (0.51 + 0.49 * np.cos(np.pi * step / steps))
    )
    loader = torch.utils.data.DataLoader(Batches(recordings, size, steps, seed), batch_size=None, num_workers=1)
    start, sums = time.monotonic(), {}
    for step, (images, objects) in enumerate(loader, 1):
        images = images.to(memory_format=torch.channels_last) * PIXEL_SCALE
        parts = detection_loss(net.levels(images), objects.numpy())
        optimiser.zero_grad()
        sum(parts.values()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        mean.update_parameters(net)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if step % 50 == 0 or step == steps:
            losses = "  ".join(f"{name} {value / (step % 50 or 50):.3f}" for name, value in sums.items())
            print(f"step {step}/{steps}  {losses}  {time.monotonic() - start:.0f} s", flush=True)
            sums.clear()
    return mean.module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=Path, default=HERE.parent / "out" / "synth-detector", help="for pictures")
    parser.add_argument("--out", type=Path, default=HERE / "synth-detector")
    parser.add_argument("--generator", type=Path, help="fulltime-synth; default: build it")
    parser.add_argument("--matches", type=int, default=110, help="to train on")
    parser.add_argument("--test-matches", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    start = time.monotonic()
    binary = options.generator or matches.generator(HERE.parent)
    seen = matches.load(binary, options.work / "train", matches.TRAIN_SEED, options.matches)
    unseen = matches.load(binary, options.work / "test", matches.TEST_SEED, options.test_matches)
    made = time.monotonic()
    print(f"{sum(len(r.frames) for r in seen)} training frames, {made - start:.0f} s", flush=True)
    net = train(seen, options.steps, options.batch, options.seed)
    trained = time.monotonic()

    ship.export(net, options.out)
    ship.describe(options.out, {})
    result = score.report(options.out, unseen)
    notes = {
        "origin": "models/train_detector.py",
        "training": f"{options.matches} synthetic matches, {options.steps} steps of {options.batch}, seed {options.seed}",
        "test": f"{options.test_matches} synthetic matches of other seeds, {result['frames']} frames, not wide",
        "ap50_player": f"{result['ap50_player']:.4f}",
        "ap50_ball": f"{result['ap50_ball']:.4f}",
    }
    ship.describe(options.out, notes)
    print(f"training {trained - made:.0f} s, all {time.monotonic() - start:.0f} s\n{json.dumps(result)}")


if __name__ == "__main__":
    main()
