"""Ask one question and print the answer."""

from llama4sdk import Client

with Client("demo", download=True) as client:
    answer = client.chat("What is the capital of France?", temperature=0)

print(answer)
print(f"{answer.usage.input_tokens} tokens read, {answer.usage.output_tokens} written, {answer.finish_reason=}")
