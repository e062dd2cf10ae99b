"""The nets of W6 in eager torch, on copies of the parameters of `dfx.nets`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

Tree = Any


def copied(params: Mapping) -> Tree:
    """Return the parameters as leaves of torch: kernels of convolutions (out, in, 3, 3), of linear
    layers (out, in)."""
    if isinstance(params, Mapping):
        return {name: copied(value) for name, value in params.items()}
    array = np.asarray(params)
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
    return torch.tensor(array.transpose(order).copy(), requires_grad=True)


def leaves(tree: Tree) -> list[torch.Tensor]:
    """Return all tensors of a tree."""
    if not isinstance(tree, dict):
        return [tree]
    return [leaf for value in tree.values() for leaf in leaves(value)]


def linear(p, h):
    return F.linear(h, p["kernel"], p["bias"])


def conv(p, h, stride=1):
    return F.conv2d(h, p["kernel"], p["bias"], stride, padding=p["kernel"].shape[-1] // 2)


def norm(p, h):
    return F.group_norm(h, 8, p["scale"], p["bias"], 1e-5)


def time_embedding(p, t, num_features):
    half = num_features // 2
    angles = t[:, None] * torch.exp(-math.log(1e4) * torch.arange(half) / (half - 1))
    features = torch.cat([angles.sin(), angles.cos()], dim=1)
    return linear(p["outputs"], F.silu(linear(p["inputs"], features)))


def attention(qkv, heads):
    """Return the mixed values (n, T, width) of (n, T, 3 width)."""
    n, tokens, width = qkv.shape
    parts = qkv.reshape(n, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(*parts)
    return mixed.transpose(1, 2).reshape(n, tokens, width // 3)


def residual(p, h, features):
    inner = conv(p["conv1"], F.silu(norm(p["norm1"], h)))
    inner = inner + linear(p["time"], F.silu(features))[:, :, None, None]
    inner = conv(p["conv2"], F.silu(norm(p["norm2"], inner)))
    return inner + (conv(p["skip"], h) if "skip" in p else h)


def attend(p, h):
    tokens = norm(p["norm"], h).flatten(2).transpose(1, 2)
    mixed = linear(p["outputs"], attention(linear(p["qkv"], tokens), 8))
    return h + mixed.transpose(1, 2).reshape(h.shape)


def unet(params, x, t):
    """Return the output (n, h, w, 1) of the U-Net."""
    features = time_embedding(params["time"], t, 32)
    kept = [conv(params["inputs"], x.permute(0, 3, 1, 2))]
    for i in range(3):
        for j in range(2):
            kept.append(residual(params[f"down_{i}_{j}"], kept[-1], features))
        if i < 2:
            kept.append(conv(params[f"down_{i}"], kept[-1], stride=2))
    h = residual(params["middle_0"], kept[-1], features)
    h = residual(params["middle_1"], attend(params["attention"], h), features)
    for i in (2, 1, 0):
        for j in range(3):
            h = residual(params[f"up_{i}_{j}"], torch.cat([h, kept.pop()], dim=1), features)
        if i:
            h = conv(params[f"up_{i}"], F.interpolate(h, scale_factor=2))
    return conv(params["outputs"], F.silu(norm(params["norm"], h))).permute(0, 2, 3, 1)


def layer_norm(h):
    return F.layer_norm(h, h.shape[-1:], eps=1e-6)


def block(p, h, c):
    modulation = linear(p["modulation"], F.silu(c)).chunk(6, dim=-1)
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation
    inner = layer_norm(h) * (1 + scale1) + shift1
    h = h + gate1 * linear(p["attention"], attention(linear(p["qkv"], inner), 6))
    inner = layer_norm(h) * (1 + scale2) + shift2
    inner = F.gelu(linear(p["mlp1"], inner), approximate="tanh")
    return h + gate2 * linear(p["mlp2"], inner)


def dit(params, x, t):
    """Return the output (n, 28, 28, 1) of the transformer."""
    c = time_embedding(params["time"], t, 256)[:, None, :]
    grid = x.reshape(len(x), 7, 4, 7, 4).transpose(2, 3).reshape(len(x), 49, 16)
    h = linear(params["inputs"], grid) + params["position"].T
    for i in range(6):
        h = block(params[f"block_{i}"], h, c)
    shift, scale = linear(params["modulation"], F.silu(c)).chunk(2, dim=-1)
    h = linear(params["outputs"], layer_norm(h) * (1 + scale) + shift)
    return h.reshape(len(x), 7, 7, 4, 4).transpose(2, 3).reshape(x.shape)


APPLY: dict[str, Callable] = {"unet": unet, "dit": dit}


def trainer(name: str, params: Mapping, batch: tuple, rate: float, threads: int):
    """Return (step, loss): one Adam step on a batch (x0, eps, t), and the loss as a number."""
    torch.set_num_threads(threads)
    tree = copied(params)
    adam = torch.optim.Adam(leaves(tree), lr=rate)
    x0, eps, t = (torch.tensor(np.asarray(part)) for part in batch)

    def loss():
        u = t.reshape(-1, 1, 1, 1) / 1000
        output = APPLY[name](tree, (1 - u) * x0 + u * eps, t)
        return ((output - (eps - x0)) ** 2).mean()

    def step():
        adam.zero_grad()
        loss().backward()
        adam.step()

    return step, lambda: float(loss().detach())
