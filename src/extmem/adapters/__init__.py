"""What people already use, with a memory: one package or file an ecosystem.

Knows: other people's interfaces, the memory. Does not know: each other, the command line.
"""
