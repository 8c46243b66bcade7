"""A memory behind the Model Context Protocol: for clients such as Claude Desktop, Cursor or an agent's loop.

Knows: nothing; `server.py` is the server, a file beside it is one family of tools. Does not know: HTTP's routes.
"""
