"""What commands draw: tables, plots, progress bars."""
