"""MemoryLog: what the memory did while it was trained, written for TensorBoard.

Knows: the figures that ExternalMemoryLayer keeps, tensorboardX. Does not know: what they are of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from extmem.errors import InvalidInput
from extmem.keras.memory_layer import ExternalMemoryLayer


class MemoryLog(keras.callbacks.Callback):
    """Writes three scalars of every ExternalMemoryLayer of the model, below its name:

        reads    steps that read anything, since the last time
        gate     the mean of σ(W_g [h_t; r_t]) over them, between 0 and 1
        entropy  the mean of -Σ_j w_j ln w_j over them, in nats: exp of it is how many pairs share the attention

    after each epoch, or after every so many batches as `update_freq` says. Of training only; they cost nothing
    while no MemoryLog is there. Raises InvalidInput where the model has no such layer, ImportError.
    """

    def __init__(self, log_dir: str | Path = "logs", update_freq: str | int = "epoch") -> None:
        super().__init__()
        if update_freq != "epoch" and (not isinstance(update_freq, int) or update_freq < 1):
            raise InvalidInput(f"update_freq is {update_freq!r}: give 'epoch' or a number of batches.", update_freq)
        self.log_dir, self.update_freq = log_dir, update_freq
        self._batches = 0

    def on_train_begin(self, logs: Any = None) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            raise ImportError("MemoryLog needs tensorboardX: pip install 'extmem[keras]'") from error
        if not self._layers():
            raise InvalidInput("the model has no ExternalMemoryLayer: MemoryLog has nothing to write.", self.model)
        self._watch(True)
        self._writer = SummaryWriter(str(self.log_dir))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        if isinstance(self.update_freq, int) and self._batches % self.update_freq == 0:
            self._write(self._batches)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.update_freq == "epoch":
            self._write(epoch)

    def on_train_end(self, logs: Any = None) -> None:
        self._watch(False)
        self._writer.close()

    def _layers(self) -> list[ExternalMemoryLayer]:
        return [layer for layer in self.model._flatten_layers() if isinstance(layer, ExternalMemoryLayer)]

    def _watch(self, on: bool) -> None:
        for layer in self._layers():
            layer.watched = on
            layer.figures.assign([0.0, 0.0, 0.0])
        self.model.make_train_function(force=True)  # what was compiled did not know of it

    def _write(self, step: int) -> None:
        for layer in self._layers():
            reads, gate, entropy = keras.ops.convert_to_numpy(layer.figures).tolist()
            self._writer.add_scalar(f"{layer.name}/reads", reads, step)
            if reads:
                self._writer.add_scalar(f"{layer.name}/gate", gate / reads, step)
                self._writer.add_scalar(f"{layer.name}/entropy", entropy / reads, step)
            layer.figures.assign([0.0, 0.0, 0.0])
        self._writer.flush()
