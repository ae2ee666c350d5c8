"""Ask many questions at once, keep the answers in a file, and go on where an earlier run stopped."""

import tempfile
from pathlib import Path

from llama4sdk import Client

QUESTIONS = [f"What is {n} times {n}?" for n in range(100)]

with tempfile.TemporaryDirectory() as directory, Client("echo") as client:
    answers = Path(directory) / "answers.jsonl"

    first = client.batch(QUESTIONS[:60], concurrency=16, path=answers)
    print(sum(item.error is None for item in first), "answered")

    whole = client.batch(QUESTIONS, concurrency=16, path=answers)
    print(sum(item.resumed for item in whole), "were there,", len(whole), "in all")
    for item in whole[:2]:
        print(item.index, item.result())
