"""What every traced operation does to channels; one file for each family."""
