"""The language model and what it does with a memory: train, memorize, evaluate, generate.

Knows: everything below it. Does not know: commands, pages, servers.
"""
