"""Records: key -> value, the only truth. Knows: values and where they lie. Does not know: indexes, models."""
