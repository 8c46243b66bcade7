"""Indexes: derived from records, thrown away and made again at will.

Knows: records. Does not know: models, memories.
"""
