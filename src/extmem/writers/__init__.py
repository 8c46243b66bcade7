"""Writers: what writes an answer from numbered sources.

Knows: nothing; a writer is asked for by name (`base.py`). Does not know: memories, tasks.
"""
