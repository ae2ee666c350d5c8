"""``llama4sdk version``."""

from __future__ import annotations

import platform

import llama4sdk
from llama4sdk.cli.console import print_json, write
from llama4sdk.cli.options import JsonFlag


def version(*, json: JsonFlag = False) -> None:
    """Show the versions of llama4sdk and Python."""
    if json:
        print_json({"llama4sdk": llama4sdk.__version__, "python": platform.python_version()})
    else:
        write(f"llama4sdk {llama4sdk.__version__} (Python {platform.python_version()})\n")
