"""One step, written as its equations: the gated LSTM's and the memory's.

Knows: plain tensors. Does not know: batching over time, speed, parameters, stores.

This is what the fast paths are held against: `lstm.py` and `memory_layer.py` loop over time in
their own way, and the tests compare them with these functions, step by step.
Shapes: B batch, D input width, H hidden width, S remembered pairs, K key width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Gates = Literal["cell", "input"]


def lstm_step(
    x_BD: Float[Tensor, "b d"],
    h_BH: Float[Tensor, "b h"],
    c_BH: Float[Tensor, "b h"],
    weights: dict[str, Tensor],
    gates: Gates = "cell",
) -> tuple[Float[Tensor, "b h"], Float[Tensor, "b h"]]:
    """One LSTM step: (x_t, h_{t-1}, c_{t-1}) -> (h_t, c_t).

        f_t = σ(W_f [h_{t-1}, x_t] + b_f)      i_t = σ(W_i [h_{t-1}, x_t] + b_i)
        c̃_t = tanh(W_c [h_{t-1}, x_t] + b_c)   c_t = f_t ⊙ c_{t-1} + i_t ⊙ c̃_t
        o_t = σ(W_o [h_{t-1}, c_t] + b_o)      with gates="cell"
        o_t = σ(W_o [h_{t-1}, x_t] + b_o)      with gates="input" (Hochreiter & Schmidhuber 1997;
        h_t = o_t ⊙ tanh(c_t)                   Gers et al. 2000)

    `weights` maps W_f, W_i, W_c, W_o to (H, H + D), or (H, 2H) for W_o with gates="cell", and
    b_f, b_i, b_c, b_o to (H,).
    """

    def gate(name: str, seen: Tensor) -> Tensor:
        return torch.cat([h_BH, seen], dim=1) @ weights[f"W_{name}"].T + weights[f"b_{name}"]

    forget, write = torch.sigmoid(gate("f", x_BD)), torch.sigmoid(gate("i", x_BD))
    candidate = torch.tanh(gate("c", x_BD))
    c_BH = forget * c_BH + write * candidate
    out = torch.sigmoid(gate("o", c_BH if gates == "cell" else x_BD))
    return out * torch.tanh(c_BH), c_BH


def memory_step(
    h_BH: Float[Tensor, "b h"],
    keys_BSK: Float[Tensor, "b s k"],
    values_BSH: Float[Tensor, "b s h"],
    weights: dict[str, Tensor],
) -> Float[Tensor, "b h"]:
    """One reading of an external memory: h_t -> h_t + σ(W_g [h_t; r_t]) ⊙ W_o r_t.

        r_t = Σ_j softmax(q_t · k_j / √d) v_j,  q_t = W_q h_t,  and r_t = 0 where S = 0.

    `weights` maps W_q to (K, H), W_o to (H, H), W_g to (H, 2H) and b_g to (H,).
    """
    if keys_BSK.shape[1]:
        q_BK = h_BH @ weights["W_q"].T
        scores_BS = torch.einsum("bk,bsk->bs", q_BK, keys_BSK) / math.sqrt(q_BK.shape[1])
        r_BH = torch.einsum("bs,bsh->bh", torch.softmax(scores_BS, dim=1), values_BSH)
    else:
        r_BH = torch.zeros_like(h_BH)
    gate = torch.sigmoid(torch.cat([h_BH, r_BH], dim=1) @ weights["W_g"].T + weights["b_g"])
    return h_BH + gate * (r_BH @ weights["W_o"].T)
