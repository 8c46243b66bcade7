"""The listing of docs/keras.md runs as it is printed there."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "keras.md"
LISTING = re.search(r"^```py\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)[1]


@pytest.fixture
def said():
    """What the listing defines; on other backends than TensorFlow, with the same imports from `keras`."""
    listing = LISTING
    if keras.backend.backend() != "tensorflow":
        listing = listing.replace("from tensorflow.keras.", "from keras.")
    names: dict[str, object] = {}
    exec(compile(listing, str(PAGE), "exec"), names)
    return names


def test_the_listing_runs_as_printed(said, capsys):
    model = said["model"]
    assert model.output_shape == (None, 100, 10000)
    assert [layer.count_params() for layer in model.layers] == [0, 1_280_000, 131_584, 106_627, 1_290_000]
    words = np.arange(200).reshape(2, 100)
    probabilities = keras.ops.convert_to_numpy(model(words))
    np.testing.assert_allclose(probabilities.sum(2), 1, atol=1e-3)
    history = model.fit(words, np.eye(10000, dtype=np.float32)[words], epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    printed = capsys.readouterr().out
    assert "external_memory" in printed
    shown = re.search(r"Total params: ([\d,]+)", PAGE.read_text(encoding="utf-8"))[1]
    assert f"Total params: {shown}" in printed
