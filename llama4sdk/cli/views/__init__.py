"""The output of commands: tables, plots, progress bars."""
