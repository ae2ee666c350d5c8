"""Answer several questions at once."""

import asyncio

from llama4sdk import AsyncClient

QUESTIONS = ["What is the capital of France?", "What is the capital of Germany?", "What is the capital of Peru?"]


async def main() -> None:
    """Ask all, print in order."""
    async with AsyncClient("demo", download=True) as client:
        for answer in await asyncio.gather(*(client.chat(q, temperature=0, max_tokens=30) for q in QUESTIONS)):
            print(answer)


asyncio.run(main())
