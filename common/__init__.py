"""Words, arithmetic and wire format; knows neither Flower nor Ray."""
