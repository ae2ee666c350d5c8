"""The command line: one module per command, imported when it is run or listed."""

__all__ = ["main"]


def main() -> None:
    """Run ``llama4sdk`` with the process's arguments, and exit."""
    import io
    import sys

    from llama4sdk.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character is no reason to fail
    app()(prog_name="llama4sdk")
