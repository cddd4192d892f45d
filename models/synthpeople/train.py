"""What the two trainings share: optimiser, schedule, the running mean that is shipped, a line every so many steps."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 2e-3, 0.02, 100
# The shipped weights are a running mean over about so many steps.
MEAN_OVER = 200


def train(
    net: nn.Module, batches: torch.utils.data.IterableDataset, steps: int, loss_of: Callable[..., Tensor]
) -> nn.Module:
    """`loss_of(net, pictures, *rest)` of every batch; returns the running mean of the weights."""
    net = net.to(memory_format=torch.channels_last).train()
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
    # Batches are made in a process of its own, one batch after the other from one seed.
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1)
    start, total = time.monotonic(), 0.0
    for step, (pictures, *rest) in enumerate(loader, 1):
        loss = loss_of(net, pictures.to(memory_format=torch.channels_last), *rest)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        mean.update_parameters(net)
        total += loss.item()
        if step % 100 == 0 or step == steps:
            mean_loss = total / (step % 100 or 100)
            print(f"step {step}/{steps}  loss {mean_loss:.3f}  {time.monotonic() - start:.0f} s", flush=True)
            total = 0.0
    return mean.module
