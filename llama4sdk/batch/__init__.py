"""Many requests at once: in order, each with its answer or its error, kept in a file that a later call goes on with."""
