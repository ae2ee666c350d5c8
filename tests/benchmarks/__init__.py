"""Programs under ``benchmarks/`` that judge the SDK."""
