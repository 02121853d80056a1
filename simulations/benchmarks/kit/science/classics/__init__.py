"""The row ``classics``: methods of the literature, each switched on or off alone."""
