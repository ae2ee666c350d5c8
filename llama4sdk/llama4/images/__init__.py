"""Pictures as Llama 4 sees them: fetched, decoded, cut into tiles, and counted in tokens. Needs no torch."""
