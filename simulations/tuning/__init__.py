"""``fedprune tune``: a search for the settings that meet a target."""
