"""What a client may spend: held for requests under way, settled when they end. Safe in threads; does no I/O."""

from __future__ import annotations

import threading
from typing import Final

from llama4sdk._text import dollars
from llama4sdk.errors import BudgetExceededError

__all__ = ["Budget", "Reservation"]

ROUNDING: Final = 1e-12
"""Of dollars: what adding and taking away many times may be off by."""


class Budget:
    """Dollars spent and held. ``limit`` is ``None`` where there is none."""

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self._spent = 0.0
        self._held = 0.0
        self._lock = threading.Lock()

    @property
    def spent(self) -> float:
        """Dollars that are gone, as far as prices are known."""
        return self._spent

    def hold(self, most: float, *, fixed: float = 0.0, rate: float = 0.0) -> Reservation:
        """Keep ``most`` dollars for a request. Raises BudgetExceededError where that is more than is left.

        ``fixed`` of them are for the prompt, ``rate`` is dollars a token of the answer: the error says how long an
        answer there is money for.
        """
        with self._lock:
            if self.limit is not None and self._spent + self._held + most > self.limit + ROUNDING:
                raise _refused(self._spent, self._held, self.limit, most, fixed, rate)
            self._held += most
        return Reservation(self, most)

    def _settle(self, most: float, cost: float) -> None:
        with self._lock:
            self._held -= most
            self._spent += cost


class Reservation:
    """Dollars kept for one request until it is known what it cost. Only the first word counts."""

    def __init__(self, budget: Budget, most: float) -> None:
        self.most = most
        self._budget: Budget | None = budget

    def settle(self, cost: float) -> None:
        """It cost so much."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget._settle(self.most, cost)


def _refused(spent: float, held: float, limit: float, most: float, fixed: float, rate: float) -> BudgetExceededError:
    left = limit - spent - held
    tokens = int((left - fixed + ROUNDING) / rate) if rate > 0 else 0
    under_way = f", {dollars(held)} held for requests under way" if held > ROUNDING else ""
    longest = f"With max_tokens={tokens} it would fit" if tokens > 0 else "Shorten the prompt: no answer would fit"
    return BudgetExceededError(
        f"This request could cost {dollars(most)}, and of max_cost={dollars(limit)} only {dollars(max(left, 0.0))} is "
        f"left: {dollars(spent)} is spent{under_way}.",
        spent=spent,
        limit=limit,
        needed=most,
        max_tokens=tokens if tokens > 0 else None,
        hint=f"{longest}; or raise Policy(max_cost=...).",
    )
