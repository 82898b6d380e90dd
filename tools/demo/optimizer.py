"""Muon for the matrices, with all of one shape in one batch; AdamW for the rest."""

import torch


def orthogonal(g, steps=5):
    """About the nearest semi-orthogonal matrix, of each in the batch, by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[-2] > g.shape[-1]
    x = g.mT if tall else g
    x = x.bfloat16() if g.is_cuda else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).to(g.dtype)


class Muon:
    """Each parameter is a matrix or a stack of matrices."""

    def __init__(self, parameters, lr, momentum=0.95, decay=0.0):
        self.lr, self.momentum, self.decay = lr, momentum, decay
        self.groups = {}
        for p in parameters:
            self.groups.setdefault(p.shape[-2:], []).append(p)
        self.moments = {
            shape: torch.zeros(sum(p.numel() for p in group) // (shape[0] * shape[1]), *shape, device=group[0].device)
            for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self, rate):
        """One step, at this part of the learning rate."""
        for shape, group in self.groups.items():
            grads = torch.cat([p.grad.reshape(-1, *shape) for p in group])
            moment = self.moments[shape].lerp_(grads, 1 - self.momentum)
            update = orthogonal(grads.lerp(moment, self.momentum)) * max(1, shape[0] / shape[1]) ** 0.5
            parts = update.split([p.numel() // (shape[0] * shape[1]) for p in group])
            if self.decay:
                torch._foreach_mul_(group, 1 - self.lr * rate * self.decay)
            torch._foreach_add_(group, [part.view_as(p) for part, p in zip(parts, group)], alpha=-self.lr * rate)


class Optimizer:
    # Adam's learning rates, in parts of the one that is given; the router's is low, or few experts win early.
    ADAM = {"token_embd": 1.3, "output": 0.7, "router": 0.15, "norm": 1.0}

    def __init__(self, model, muon_lr, adam_lr):
        matrices, groups = [], {kind: [] for kind in self.ADAM}
        for name, p in model.named_parameters():
            kind = "norm" if p.ndim == 1 else "router" if "router" in name else name
            groups[kind].append(p) if kind in groups else matrices.append(p)
        self.parameters = list(model.parameters())
        self.muon = Muon(matrices, muon_lr, decay=0.02)
        groups = [{"params": group, "lr": adam_lr * self.ADAM[kind], "full": adam_lr * self.ADAM[kind]} for kind, group in groups.items()]
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-10, weight_decay=0.0)

    def step(self, rate):
        """One step, at this part of the learning rates."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.muon.step(rate)
        for group in self.adam.param_groups:
            group["lr"] = group["full"] * rate
        self.adam.step()
        for p in self.parameters:
            p.grad = None
