"""DeepSeek-V3's architecture in small, for training: latent attention, YaRN, a mixture of experts.

All experts are computed for all tokens, as one wide feed-forward, and weighted with zero where they are not
chosen: with so few of them that is faster than gathering. Names follow GGUF.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass(frozen=True)
class Config:
    n_vocab: int = 2048
    n_layer: int = 5
    n_dense: int = 1
    n_embd: int = 256
    n_ff: int = 512
    n_head: int = 8
    q_lora: int = 256
    kv_lora: int = 256
    n_nope: int = 32
    n_rot: int = 32
    n_value: int = 32
    n_expert: int = 6
    n_used: int = 2
    n_group: int = 3
    n_group_used: int = 2
    n_ff_expert: int = 256
    weights_scale: float = 2.5
    rms_eps: float = 1e-6
    rope_base: float = 10000.0
    yarn_factor: float = 4.0
    yarn_context: int = 1024

    def as_dict(self):
        return asdict(self)


def yarn_frequencies(config):
    """Radians a position for each pair of the rotated dimensions."""
    dim, base, context = config.n_rot, config.rope_base, config.yarn_context
    boundary = lambda turns: dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(base))
    low, high = max(0, math.floor(boundary(32))), min(dim - 1, math.ceil(boundary(1)))
    pair = torch.arange(dim // 2, dtype=torch.float64)
    keep = 1 - ((pair - low) / max(0.001, high - low)).clamp(0, 1)
    frequency = base ** (-2 * pair / dim)
    return frequency * (keep + (1 - keep) / config.yarn_factor)


def rotate(x, cos, sin):
    """x [.., T, heads, n_rot]; the pairs are neighbours."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Norm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x):
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def matrix(*shape, gain=1.0):
    return nn.Parameter(torch.randn(shape) * gain / math.sqrt(shape[-1]))


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.scale = (0.1 * math.log(c.yarn_factor) + 1) ** 2 / math.sqrt(c.n_nope + c.n_rot)
        self.q_a, self.q_a_norm = matrix(c.q_lora, c.n_embd), Norm(c.q_lora, c.rms_eps)
        self.q_b = matrix(c.n_head * (c.n_nope + c.n_rot), c.q_lora)
        self.kv_a, self.kv_a_norm = matrix(c.kv_lora + c.n_rot, c.n_embd), Norm(c.kv_lora, c.rms_eps)
        self.k_b = matrix(c.n_head * c.n_nope, c.kv_lora)
        self.v_b = matrix(c.n_head * c.n_value, c.kv_lora)
        self.output = matrix(c.n_embd, c.n_head * c.n_value, gain=1 / math.sqrt(2 * c.n_layer))

    def forward(self, x, cos, sin, mask):
        c, (batch, n, _) = self.c, x.shape
        q = F.linear(self.q_a_norm(F.linear(x, self.q_a)), self.q_b).view(batch, n, c.n_head, -1)
        q_nope, q_rot = q.split([c.n_nope, c.n_rot], -1)
        latent, k_rot = F.linear(x, self.kv_a).split([c.kv_lora, c.n_rot], -1)
        latent = self.kv_a_norm(latent)
        k_nope = F.linear(latent, self.k_b).view(batch, n, c.n_head, -1)
        v = F.linear(latent, self.v_b).view(batch, n, c.n_head, -1)
        k_rot = rotate(k_rot.unsqueeze(2), cos, sin).to(v.dtype).expand(-1, -1, c.n_head, -1)
        q = torch.cat((q_nope, rotate(q_rot, cos, sin).to(v.dtype)), -1).transpose(1, 2)
        k = torch.cat((k_nope, k_rot), -1).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), attn_mask=mask, is_causal=mask is None, scale=self.scale)
        return F.linear(y.transpose(1, 2).reshape(batch, n, -1), self.output)


class Dense(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate, self.up = matrix(c.n_ff, c.n_embd), matrix(c.n_ff, c.n_embd)
        self.down = matrix(c.n_embd, c.n_ff, gain=1 / math.sqrt(2 * c.n_layer))

    def forward(self, x):
        return F.linear(F.silu(F.linear(x, self.gate)) * F.linear(x, self.up), self.down), None


class Mixture(nn.Module):
    """Routed experts, and behind them the shared one."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.router = matrix(c.n_expert, c.n_embd, gain=0.3)
        self.register_buffer("bias", torch.zeros(c.n_expert))
        self.gate = matrix(c.n_expert + 1, c.n_ff_expert, c.n_embd)
        self.up = matrix(c.n_expert + 1, c.n_ff_expert, c.n_embd)
        self.down = matrix(c.n_expert + 1, c.n_embd, c.n_ff_expert, gain=1 / math.sqrt(2 * c.n_layer))

    def route(self, x):
        """Weights of the experts [tokens, n_expert], those not chosen zero, and how often each is chosen."""
        c = self.c
        with torch.autocast(x.device.type, enabled=False):
            score = torch.sigmoid(F.linear(x.float(), self.router))
        biased = (score + self.bias).detach()
        groups = biased.view(-1, c.n_group, c.n_expert // c.n_group)
        best = groups.topk(2, -1).values.sum(-1).topk(c.n_group_used, -1).indices
        open_groups = torch.zeros_like(groups[..., 0]).scatter(1, best, 1.0)
        biased = biased.masked_fill(open_groups.repeat_interleave(groups.shape[-1], 1) == 0, -math.inf)
        chosen = torch.zeros_like(biased).scatter(1, biased.topk(c.n_used, -1).indices, 1.0)
        weight = score * chosen
        return weight / weight.sum(-1, keepdim=True) * c.weights_scale, chosen.sum(0)

    def forward(self, x):
        shape, x = x.shape, x.reshape(-1, x.shape[-1])
        weight, load = self.route(x)
        weight = torch.cat((weight, torch.ones_like(weight[:, :1])), 1)
        hidden = F.silu(F.linear(x, self.gate.flatten(0, 1))) * F.linear(x, self.up.flatten(0, 1))
        hidden = (hidden.view(len(x), len(self.gate), -1) * weight.unsqueeze(-1).to(hidden.dtype)).flatten(1)
        return F.linear(hidden, self.down.permute(1, 0, 2).flatten(1)).view(shape), load


class Block(nn.Module):
    def __init__(self, c, dense):
        super().__init__()
        self.attn_norm, self.attn = Norm(c.n_embd, c.rms_eps), Attention(c)
        self.ffn_norm, self.ffn = Norm(c.n_embd, c.rms_eps), Dense(c) if dense else Mixture(c)

    def forward(self, x, cos, sin, mask):
        x = x + self.attn(self.attn_norm(x), cos, sin, mask)
        y, load = self.ffn(self.ffn_norm(x))
        return x + y, load


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = c = config
        self.token_embd = nn.Parameter(torch.randn(c.n_vocab, c.n_embd) * 0.1)
        self.blocks = nn.ModuleList(Block(c, i < c.n_dense) for i in range(c.n_layer))
        self.output_norm = Norm(c.n_embd, c.rms_eps)
        self.output = nn.Parameter(torch.zeros(c.n_vocab, c.n_embd))
        angle = torch.arange(c.yarn_context * 4, dtype=torch.float64)[:, None] * yarn_frequencies(c)
        self.register_buffer("cos", angle.cos().float()[:, None], persistent=False)
        self.register_buffer("sin", angle.sin().float()[:, None], persistent=False)

    def forward(self, ids, mask=None):
        """Logits, and the load of the experts layer by layer. `mask` is added to the attention scores."""
        x = F.embedding(ids, self.token_embd)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        loads = []
        for block in self.blocks:
            x, load = block(x, cos, sin, mask)
            if load is not None:
                loads.append(load)
        return F.linear(self.output_norm(x), self.output), loads

    @torch.no_grad()
    def balance(self, loads, speed):
        """Moves the bias of each expert against its load; there is no auxiliary loss."""
        mixtures = [block.ffn for block in self.blocks if isinstance(block.ffn, Mixture)]
        for mixture, load in zip(mixtures, loads):
            mixture.bias += speed * torch.sign(load.mean() - load)


def parameter_count(model):
    return sum(p.numel() for p in model.parameters())
