"""Rules of pruning: channels through one operation each, and the tables of them."""
