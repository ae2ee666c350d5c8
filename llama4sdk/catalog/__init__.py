"""Facts with a source and a date: models, accelerators, endpoints and their prices."""
