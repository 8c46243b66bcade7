"""Client: a memory behind `extmem serve`, with the verbs of `Memory`.

Knows: HTTP, the form of the server's answers. Does not know: the server, where the memory lies.
"""
