"""Where the time of a run goes: activities, their cost, and samples of the stack."""
