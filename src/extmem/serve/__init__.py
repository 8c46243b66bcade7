"""Serving: a memory for those who are not in this process, over HTTP and over the Model Context Protocol.

Knows: nothing; `extmem serve` and `extmem mcp` begin here. Does not know: how anything is stored or found.
"""
