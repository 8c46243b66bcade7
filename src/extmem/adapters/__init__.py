"""Adapters: one memory behind the contracts of other libraries. Each file takes a Memory and owns nothing.

Knows: nothing by itself; each file knows one library. Does not know: one another.
"""
