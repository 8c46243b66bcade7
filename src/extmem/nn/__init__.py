"""The neural parts: LSTM, memory layer, loss, mixture. Knows: tensors. Does not know: text, stores."""
