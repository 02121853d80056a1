"""Images in folders: what lies below them, what it means, and the data set of it."""
