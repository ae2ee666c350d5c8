"""The price of a model at an endpoint, as the caller's policy or the catalogue states it."""

from __future__ import annotations

from llama4sdk._values import Value
from llama4sdk.events import Usage
from llama4sdk.plan import Plan
from llama4sdk.planning.policy import Policy


class Price(Value):
    """US dollars for a million tokens of prompt (``input``) and of answer (``output``)."""

    input: float
    output: float
    #: The longest answer of the endpoint in tokens, where that is published.
    output_limit: int | None = None
    #: Whether the price is the caller's own, which counts more than a cost that the endpoint reports.
    from_policy: bool = False

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float:
        """Dollars for these numbers of tokens."""
        return (self.input * prompt_tokens + self.output * answer_tokens) / 1e6

    def bill(self, usage: Usage) -> float | None:
        """Dollars for an answer; ``None`` where the endpoint reports neither tokens nor a cost."""
        if usage.cost is not None and not self.from_policy:
            return usage.cost
        if usage.input_tokens is None:
            return None
        return self.cost(usage.input_tokens, usage.output_tokens or 0)


def price_of(plan: Plan, policy: Policy) -> Price | None:
    """The price in ``Policy.rates``, else the published one; ``None`` where neither is known."""
    from llama4sdk.catalog.endpoints import find

    listing = find(plan.backend, plan.model)
    limit = listing.max_output if listing else None
    if plan.backend in policy.rates:
        prompt, answer = policy.rates[plan.backend]
        return Price(input=prompt, output=answer, output_limit=limit, from_policy=True)
    if listing is None or listing.input is None or listing.output is None:
        return None
    return Price(input=listing.input, output=listing.output, output_limit=limit)
