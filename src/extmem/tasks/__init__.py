"""Tasks: what a memory is for. Each is a few lines over `Memory`, because the memory does the work.

Knows: nothing; a task is imported by its name. Does not know: commands, how anything is shown.
"""
