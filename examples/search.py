"""Find the text nearest to a question by its embedding."""

from llama4sdk import Client

TEXTS = [
    "The llama is a domesticated South American camelid.",
    "Paris is the capital and largest city of France.",
    "Python is a programming language with significant indentation.",
]
QUESTION = "Which city is the capital of France?"

with Client("demo", download=True) as client:
    question, *texts = client.embed([QUESTION, *TEXTS]).vectors

scores = [sum(a * b for a, b in zip(question, text, strict=True)) for text in texts]  # vectors have length 1
for score, text in sorted(zip(scores, TEXTS, strict=True), reverse=True):
    print(f"{score:.3f}  {text}")
