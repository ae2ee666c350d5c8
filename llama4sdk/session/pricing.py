"""What one place charges: the one function that everything asks which counts dollars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama4sdk._values import Value

if TYPE_CHECKING:
    from llama4sdk.events import Usage
    from llama4sdk.plan import Plan
    from llama4sdk.planning.policy import Policy

__all__ = ["Price", "terms_of"]


class Price(Value):
    """US dollars for a million tokens of prompt and of answer, and how long an answer may be there."""

    input: float
    output: float
    output_limit: int | None = None

    def cost(self, prompt: int, answer: int) -> float:
        """Dollars for so many tokens."""
        return (self.input * prompt + self.output * answer) / 1e6

    def bill(self, usage: Usage) -> float | None:
        """Dollars for what was used; ``None`` where the endpoint did not count."""
        if usage.input_tokens is None:
            return None
        return self.cost(usage.input_tokens, usage.output_tokens or 0)


def terms_of(plan: Plan, policy: Policy) -> Price | None:
    """What the caller says it costs there, or what is published; ``None`` where neither is known."""
    from llama4sdk.catalog.endpoints import find

    listing = find(plan.backend, plan.model)
    limit = listing.max_output if listing else None
    if plan.backend in policy.rates:
        prompt, answer = policy.rates[plan.backend]
        return Price(input=prompt, output=answer, output_limit=limit)
    if listing is None or listing.input is None or listing.output is None:
        return None
    return Price(input=listing.input, output=listing.output, output_limit=limit)
