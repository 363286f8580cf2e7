"""The command line: one command for each thing people do with an agent, its home and its evidence.

In goes what somebody typed: words, options and paths. Out come the room's answers as tables, or as one
JSON document for programs, and an exit code; a mistake ends in one message that says what to do next.
Each file holds the commands of one noun, and asks the room that knows about it: nothing is computed or
decided here. Nothing heavy is imported before a command runs, so that `overlay --help` answers at once.
"""

from overlay.cli.command_line import app, main

__all__ = ["app", "main"]
