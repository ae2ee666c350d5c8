"""Get answers as values: a pydantic model, one of a few words, a date."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from llama4sdk import Client


class City(BaseModel):
    """The fields to fill in."""

    name: Annotated[str, Field(max_length=20)]
    country: Annotated[str, Field(max_length=20)]
    continent: Literal["Africa", "America", "Asia", "Europe", "Oceania"]


with Client("demo", download=True) as client:
    # The model is not told of the schema: the prompt says what is wanted, the schema makes sure of its form.
    question = 'Which city is the capital of France? In JSON: "name", "country" and "continent".'
    city = client.chat(question, schema=City, temperature=0).parsed
    print(repr(city))

    print(client.chat("Is Paris the capital of France? Answer yes or no.", regex="yes|no", temperature=0))

    prompt = "The French Revolution began on 1789-07-14, and Napoleon was crowned on"
    print(client.generate(prompt, regex=r" \d{4}-\d\d-\d\d", temperature=0).text.strip())
