"""``python -m llama4sdk``: the command line."""

from llama4sdk.cli import main

if __name__ == "__main__":
    main()
