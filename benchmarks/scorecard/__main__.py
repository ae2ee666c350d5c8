"""Run the scorecard."""

from benchmarks.scorecard.report import main

main()
