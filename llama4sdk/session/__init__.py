"""The way of a request from the client to an engine: validation, planning, dispatch, failover, billing."""
