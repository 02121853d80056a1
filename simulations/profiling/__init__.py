"""The profile of a run: recorded in the driver, shown as a table and a flame graph."""
