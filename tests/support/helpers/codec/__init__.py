"""Messages of every kind, forged ones, and slow references."""
