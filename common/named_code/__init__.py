"""User code named in configurations and files: its loading and its trust check."""
