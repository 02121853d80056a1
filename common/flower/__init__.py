"""What both ends need of Flower: the app bundle, payloads, the run's configuration."""
