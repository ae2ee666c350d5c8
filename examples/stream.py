"""Print an answer while it is written, and stop as soon as there is enough of it."""

from llama4sdk import Client

with (
    Client("demo", download=True) as client,
    client.generate("Once upon a time, a llama", stream=True, seed=7) as stream,
):
    for text in stream.text_deltas():
        print(text, end="", flush=True)
        if len(stream.partial.text) > 200:
            break  # leaving the block stops the work

print(" …")
