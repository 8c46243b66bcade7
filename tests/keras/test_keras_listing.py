"""The listing of docs/keras.md runs as it is printed there, and prints what stands there."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np

PAGE = Path(__file__).parents[2] / "docs" / "keras.md"
LISTING, SUMMARY = re.search(
    r"^```py\n(.*?)^```\n\n^```text\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S
).groups()


def run_listing():
    """What the listing defines; on other backends than TensorFlow, with the same imports from `keras`."""
    listing = LISTING
    if keras.backend.backend() != "tensorflow":
        listing = listing.replace("from tensorflow.keras.", "from keras.")
    names: dict[str, object] = {}
    exec(compile(listing, str(PAGE), "exec"), names)
    return names


def test_the_listing_runs_as_printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    keras.utils.clear_session()  # names are counted from the beginning
    model = run_listing()["model"]
    assert capsys.readouterr().out.strip() == SUMMARY.strip()
    words = np.arange(200).reshape(2, 100)
    probabilities = keras.ops.convert_to_numpy(model(words))
    np.testing.assert_allclose(probabilities.sum(2), 1, atol=1e-3)
