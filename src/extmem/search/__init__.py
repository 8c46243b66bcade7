"""Search: what is remembered of a matter, by words, by meaning, by who said it when.

Knows: records and the indexes derived from them. Does not know: memories, models that write.
"""
