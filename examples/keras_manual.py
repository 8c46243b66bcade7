"""Learns Python's own manual without an external memory and with one, on any backend (set KERAS_BACKEND)."""

import re
from collections import Counter
from pydoc_data.topics import topics

import keras
import numpy as np

from extmem.keras import ExternalMemoryLayer, GatedLSTM, MemoryLog

LENGTH, UNITS, WORDS = 64, 64, 2000
words = [re.findall(r"\w+|[^\w\s]", topics[name].lower()) for name in sorted(topics)]
held_out = words[::10]
training = [topic for number, topic in enumerate(words) if number % 10]
vocabulary = ["?", *(word for word, _ in Counter(word for topic in training for word in topic).most_common(WORDS - 1))]
ids = {word: number for number, word in enumerate(vocabulary)}


def segments(some):
    stream = np.array([ids.get(word, 0) for topic in some for word in topic])
    rows = (len(stream) - 1) // LENGTH
    return stream[: rows * LENGTH].reshape(rows, LENGTH), stream[1 : rows * LENGTH + 1].reshape(rows, LENGTH)


for name, memory in (("without", []), ("with", [ExternalMemoryLayer(slots=16, capacity=LENGTH)])):
    keras.utils.set_random_seed(0)
    below = [keras.layers.Embedding(WORDS, UNITS), GatedLSTM(UNITS, return_sequences=True)]
    model = keras.Sequential([keras.Input((LENGTH,)), *below, *memory, keras.layers.Dense(WORDS)])
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    log = [MemoryLog("runs/keras-manual") for _ in memory]
    model.fit(*segments(training), batch_size=32, epochs=3, verbose=2, callbacks=log)
    print(f"{name} a memory: {model.evaluate(*segments(held_out), verbose=0):.3f} nats a word of held-out text")

text, draw = ["the", "with", "statement"], np.random.default_rng(0)
while len(text) < 30:
    seen = np.array([[ids[word] for word in text] + [0] * (LENGTH - len(text))])
    likeliest = keras.ops.convert_to_numpy(model(seen))[0, len(text) - 1, 1:].argsort()[-4:] + 1
    text.append(vocabulary[draw.choice(likeliest)])
print(" ".join(text))
