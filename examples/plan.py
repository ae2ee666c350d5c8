"""See what would run here, and why, without loading anything."""

from llama4sdk import Client

with Client() as client:
    plan = client.plan()

print(f"{plan.model} with {plan.backend} on {plan.placement}")
print(plan.explain())
