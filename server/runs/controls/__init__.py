"""Controls: federations that run beside a run, so that its figures say something.

``settings`` makes their configurations, ``plans`` the prune plan of equal shares,
``rounds`` the number of rounds that fit into a run's bytes, ``verdict`` the comparison.
"""
