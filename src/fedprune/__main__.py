"""``python -m fedprune``: the command line."""

from fedprune import main

if __name__ == "__main__":
    main()
