"""Dollars that a client may spend: reserved while a request runs, settled when it ends. Thread-safe; does no I/O."""

from __future__ import annotations

import threading
from typing import Final

from llama4sdk._text import dollars
from llama4sdk.errors import BudgetExceededError

#: Dollars that a sum of many amounts may be off by.
ROUNDING_DOLLARS: Final = 1e-12


class Budget:
    """Dollars spent and reserved. ``limit`` is ``None`` where there is none."""

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self._spent = 0.0
        self._reserved = 0.0
        self._lock = threading.Lock()

    @property
    def spent(self) -> float:
        """Dollars that finished requests cost, as far as prices are known."""
        return self._spent

    def reserve(self, amount: float, *, prompt_cost: float = 0.0, token_cost: float = 0.0) -> Reservation:
        """Reserve the most that a request may cost. Raises BudgetExceededError where that is more than is left.

        ``prompt_cost`` is the prompt's part of the amount, ``token_cost`` dollars for each token of the answer: they
        give the error the longest answer that would fit.
        """
        with self._lock:
            if self.limit is not None and self._spent + self._reserved + amount > self.limit + ROUNDING_DOLLARS:
                left = self.limit - self._spent - self._reserved
                tokens = int((left - prompt_cost + ROUNDING_DOLLARS) / token_cost) if token_cost > 0 else 0
                raise self._exceeded_error(self.limit, left, amount, tokens if tokens > 0 else None)
            self._reserved += amount
        return Reservation(self, amount)

    def _settle(self, amount: float, cost: float) -> None:
        with self._lock:
            self._reserved -= amount
            self._spent += cost

    def _exceeded_error(self, limit: float, left: float, amount: float, max_tokens: int | None) -> BudgetExceededError:
        reserved = self._reserved
        under_way = f", {dollars(reserved)} reserved for requests under way" if reserved > ROUNDING_DOLLARS else ""
        remedy = f"With max_tokens={max_tokens} it would fit" if max_tokens else "Shorten the prompt: no answer fits"
        return BudgetExceededError(
            f"This request could cost {dollars(amount)}, and of max_cost={dollars(limit)} only "
            f"{dollars(max(left, 0.0))} is left: {dollars(self._spent)} is spent{under_way}.",
            spent=self._spent,
            limit=limit,
            needed=amount,
            max_tokens=max_tokens,
            hint=f"{remedy}; or raise Policy(max_cost=...).",
        )


class Reservation:
    """Dollars that are set aside for one request until its cost is known."""

    def __init__(self, budget: Budget, amount: float) -> None:
        self.amount = amount
        self._budget: Budget | None = budget

    def settle(self, cost: float) -> None:
        """Replace the reservation by the actual cost. Further calls do nothing."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget._settle(self.amount, cost)
