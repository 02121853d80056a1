"""A server for devices: Flower's SuperLink, certificates, services, status."""
