"""From offers to a plan: pure functions of values, tested without a machine."""
