"""Exchange: a memory as lines of JSON, and what people have elsewhere as records.

Knows: memories, and the formats of other tools. Does not know: models, commands.
"""
