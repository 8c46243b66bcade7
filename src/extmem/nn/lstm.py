"""GatedLSTM: the LSTM over whole segments, in two gate forms, fast on a CPU.

Knows: the equations of `memory_cell.lstm_step` and how to run them over time. Does not know:
words, losses, memories, stores.

The textbook form (gates="input") is torch.nn.LSTM: oneDNN and cuDNN have it. The form in which
the output gate sees the new cell state (gates="cell") no library has; here the products with the
inputs are taken for the whole segment at once, the loop writes into buffers made beforehand, and
the backward pass is written by hand: everything that does not depend on the step after it is
computed for all steps together, and each weight's gradient is one product.
Shapes: T time, B batch, D input width, H hidden width, L layers. Gates in the order f, i, c̃, o.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from extmem.nn.memory_cell import Gates

State = tuple[Float[Tensor, "layers b h"], Float[Tensor, "layers b h"]]


class _CellGateScan(torch.autograd.Function):
    """The loop over time with o_t = σ(W_o [h_{t-1}, c_t] + b_o)."""

    @staticmethod
    def forward(
        ctx: Any, z_TBG: Tensor, weight_h_GH: Tensor, weight_c_HH: Tensor, h_BH: Tensor, c_BH: Tensor
    ) -> tuple[Tensor, Tensor]:
        steps, batch, width = z_TBG.shape[0], z_TBG.shape[1], h_BH.shape[1]
        gates_TBG = z_TBG.clone()
        hs, cs = (z_TBG.new_empty(steps + 1, batch, width) for _ in range(2))
        tanh_cs = z_TBG.new_empty(steps, batch, width)
        hs[0], cs[0] = h_BH, c_BH
        recur_HG, peek_HH = weight_h_GH.T, weight_c_HH.T
        h, c = hs.unbind(0), cs.unbind(0)
        for t, (gates, tanh_c) in enumerate(zip(gates_TBG.unbind(0), tanh_cs.unbind(0), strict=True)):
            gates.addmm_(h[t], recur_HG)
            f, i, candidate, o = gates.split(width, dim=1)
            gates[:, : 2 * width].sigmoid_()
            candidate.tanh_()
            torch.mul(f, c[t], out=c[t + 1]).addcmul_(i, candidate)
            o.addmm_(c[t + 1], peek_HH).sigmoid_()
            torch.tanh(c[t + 1], out=tanh_c)
            torch.mul(o, tanh_c, out=h[t + 1])
        ctx.save_for_backward(gates_TBG, hs, cs, tanh_cs, weight_h_GH, weight_c_HH)
        return hs[1:], cs[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hs: Tensor, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        gates, hs, cs, tanh_cs, weight_h, weight_c = ctx.saved_tensors
        steps, _, width = tanh_cs.shape
        f, i, candidate, o = gates.split(width, dim=2)
        # What each step multiplies the incoming gradient with, for all steps at once.
        to_o = tanh_cs * o * (1 - o)
        to_c = o * (1 - tanh_cs * tanh_cs)
        to_fic = torch.stack([cs[:-1] * f * (1 - f), candidate * i * (1 - i), i * (1 - candidate * candidate)], dim=2)
        grad_z = torch.empty_like(gates)
        dh, dc = torch.zeros_like(hs[0]), grad_c.clone()
        for t in range(steps - 1, -1, -1):
            dh += grad_hs[t]
            dz, dz_o = grad_z[t], grad_z[t, :, 3 * width :]
            torch.mul(dh, to_o[t], out=dz_o)
            dc.addcmul_(dh, to_c[t]).addmm_(dz_o, weight_c)
            dz_fic = dz[:, : 3 * width].unflatten(1, (3, width))
            torch.mul(dc[:, None], to_fic[t], out=dz_fic)
            dc *= f[t]
            torch.mm(dz, weight_h, out=dh)
        flat_z = grad_z.flatten(0, 1)
        grad_weight_h = flat_z.T @ hs[:-1].flatten(0, 1)
        grad_weight_c = flat_z[:, 3 * width :].T @ cs[1:].flatten(0, 1)
        return grad_z, grad_weight_h, grad_weight_c, dh, dc


class GatedLSTM(nn.Module):
    """A stack of LSTM layers: (batch, time, input_size) -> (batch, time, hidden_size).

    Args:
        input_size, hidden_size: widths D and H; layers: how many, each reading the one below.
        gates: "cell" (the output gate reads h_{t-1} and c_t) or "input" (the textbook's, which
            reads h_{t-1} and x_t and equals torch.nn.LSTM).
        dropout: between layers, one mask for a whole sequence (variational; Gal & Ghahramani 2016).
        recurrent_dropout: of the weights that read h_{t-1}, the same for all steps of a call (DropConnect;
            Merity et al. 2018).

    `forward` takes and returns the state (h, c), each (layers, batch, hidden_size), so that a long
    text is read in segments; without one it starts from zeros.
    """

    def __init__(
        self,
        input_size: int = 128,
        hidden_size: int = 128,
        layers: int = 1,
        gates: Gates = "cell",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if gates not in ("cell", "input"):
            raise ValueError(f"gates is {gates!r}: give 'cell' or 'input'.")
        self.input_size, self.hidden_size, self.gates, self.dropout = input_size, hidden_size, gates, dropout
        kind = _CellGateLayer if gates == "cell" else _InputGateLayer
        widths = [input_size] + [hidden_size] * (layers - 1)
        self.layers = nn.ModuleList(kind(width, hidden_size, recurrent_dropout) for width in widths)

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], state: State | None = None
    ) -> tuple[Float[Tensor, "b t h"], State]:
        if state is None:
            zeros = x_BTD.new_zeros(len(self.layers), x_BTD.shape[0], self.hidden_size)
            state = (zeros, zeros)
        out, hs, cs = x_BTD, [], []
        for index, layer in enumerate(self.layers):
            if index:
                out = variational_dropout(out, self.dropout, self.training)
            out, (h, c) = layer(out, (state[0][index : index + 1], state[1][index : index + 1]))
            hs.append(h)
            cs.append(c)
        return out, (torch.cat(hs), torch.cat(cs))


class _InputGateLayer(nn.LSTM):
    """One layer of the "input" form: torch.nn.LSTM, whose weights may be dropped."""

    def __init__(self, input_size: int, hidden_size: int, recurrent_dropout: float) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)
        self.recurrent_dropout = recurrent_dropout

    def forward(self, x_BTD: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # type: ignore[override]
        if not (self.training and self.recurrent_dropout):
            if x_BTD.shape[1] > 1:
                return super().forward(x_BTD, state)
            # One step is three times faster by itself.
            h, c = torch.lstm_cell(x_BTD[:, 0], (state[0][0], state[1][0]), *self.parameters())
            return h[:, None], (h[None], c[None])
        weight_x, weight_h, *biases = self.parameters()
        weights = [weight_x, nn.functional.dropout(weight_h, self.recurrent_dropout), *biases]
        out, h, c = torch.lstm(x_BTD, state, weights, True, 1, 0.0, True, False, True)
        return out, (h, c)


class _CellGateLayer(nn.Module):
    """One layer of the "cell" form; its interface is that of a one-layer torch.nn.LSTM."""

    def __init__(self, input_size: int, hidden_size: int, recurrent_dropout: float) -> None:
        super().__init__()
        self.recurrent_dropout = recurrent_dropout
        self.weight_x = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_h = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.weight_c = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))

    def forward(self, x_BTD: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x_TBD = x_BTD.transpose(0, 1)
        width = self.weight_c.shape[0]
        z_TBI = nn.functional.linear(x_TBD, self.weight_x, self.bias[: 3 * width])
        z_TBO = self.bias[3 * width :].expand(*z_TBI.shape[:2], width)
        weight_h = nn.functional.dropout(self.weight_h, self.recurrent_dropout, self.training)
        hs_TBH, c_BH = _CellGateScan.apply(  # type: ignore[no-untyped-call]
            torch.cat([z_TBI, z_TBO], dim=2), weight_h, self.weight_c, state[0][0], state[1][0]
        )
        return hs_TBH.transpose(0, 1), (hs_TBH[-1:], c_BH[None])

    def named_equations(self) -> dict[str, Tensor]:
        """The weights under the names `memory_cell.lstm_step` gives them."""
        width = self.weight_c.shape[0]
        parts: dict[str, Tensor] = {}
        for index, name in enumerate("fico"):
            rows = slice(index * width, (index + 1) * width)
            seen = self.weight_c if name == "o" else self.weight_x[rows]
            parts[f"W_{name}"] = torch.cat([self.weight_h[rows], seen], dim=1)
            parts[f"b_{name}"] = self.bias[rows]
        return parts


def variational_dropout(x_BTD: Tensor, rate: float, training: bool) -> Tensor:
    """Zeroes the same features at every step of a sequence (Gal & Ghahramani 2016)."""
    if not training or rate == 0.0:
        return x_BTD
    keep = 1.0 - rate
    mask = x_BTD.new_empty(x_BTD.shape[0], 1, x_BTD.shape[2]).bernoulli_(keep) / keep
    return x_BTD * mask
