"""The command line: one module per command, imported when it is run or listed."""

__all__ = ["main"]


def main() -> None:
    """Run ``llama4sdk`` with the process's arguments, and exit."""
    from llama4sdk.cli.app import app
    from llama4sdk.cli.stdio import tolerate_any_text

    tolerate_any_text()
    app()(prog_name="llama4sdk")
