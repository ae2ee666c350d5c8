"""Keep a conversation: append the answer, then ask again."""

from llama4sdk import Client, Message

messages = [
    Message(role="system", content="You answer in one short sentence."),
    Message(role="user", content="What is the capital of France?"),
]

with Client("demo", download=True) as client:
    first = client.chat(messages, temperature=0, max_tokens=40)
    print(first)
    messages += [first.message, Message(role="user", content="And of Italy?")]
    print(client.chat(messages, temperature=0, max_tokens=40))
