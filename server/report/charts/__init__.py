"""The plots of a page, as JSON that its script draws."""
