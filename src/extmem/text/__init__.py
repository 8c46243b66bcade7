"""From files to words: documents, normalising, tokenizers and vocabularies.

Knows: characters, words and spans. Does not know: memories, indexes, models.
"""
