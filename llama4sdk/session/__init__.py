"""One request's way: validated, planned, dispatched over its backends, metered."""
