"""Let a model call Python functions. A script stands in for the model; `Client("scout")` needs none."""

from llama4sdk import Client, Finish, TextDelta, ToolCallDelta
from llama4sdk.testing import scripted_registry


def get_weather(city: str, unit: str = "°C") -> str:
    """The weather in a city right now."""
    print(f"(looking up the weather in {city})")
    return f"sunny, 20 {unit}"


registry, backend = scripted_registry(
    [
        ToolCallDelta(index=0, id="call_0", name="get_weather", arguments='{"city": "Lima"}'),
        Finish(reason="tool_calls"),
    ],
    later=[[TextDelta(text="It is sunny in Lima."), Finish(reason="stop")]],
)

with Client("scripted", registry=registry) as client:
    answer = client.run_tools("How is the weather in Lima?", tools=[get_weather], max_steps=4)
    for message in backend.engines[0].requests[-1].messages:
        print(f"{message.role}: {message.text or message.tool_calls[0].name}")
    print(f"assistant: {answer}")
