"""``flower-superexec`` of a FedPrune server: Flower's own, with our lines of logs.

Its names of Flower are undocumented (see ``server/devices/serverapp.py``).
"""

from flwr.supercore.cli import flower_superexec

from fedprune.common.system.logs import plain_logs


def main() -> None:
    """Run it, with Flower's own words."""
    plain_logs()
    flower_superexec()


if __name__ == "__main__":
    main()
