"""What the caller allows a plan to do."""

from __future__ import annotations

from typing import Literal, TypeAlias

from llama4sdk._values import Value

__all__ = ["Policy", "Preference"]

Preference: TypeAlias = Literal["balanced", "quality", "speed", "context", "cost"]
"""``balanced`` keeps models on accelerators, in the best precision that fits there, but leaves them before it goes
below four bits a weight; ``quality`` takes Maverick before Scout and precision before speed; ``speed`` the fastest
prediction, and ``context`` the longest window, of at least four bits, too; ``cost`` the least dollars a token: nothing
on this machine, elsewhere what is known of the endpoint's price. Fewer than four bits, and less than 1.5 tokens a
second, are for want of better."""


class Policy(Value):
    """Limits on the planner's choice. The default keeps every prompt on this machine."""

    allow_remote: bool = False
    """Let prompts leave the machine when nothing local fits. Naming a remote backend allows that one as well."""
    allow_demo: bool = True
    """Fall back to the small demo model when no Llama 4 fits and no model was named."""
    prefer: Preference = "balanced"
    """What counts first where several plans are possible."""
