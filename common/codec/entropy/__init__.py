"""Entropy coding: rANS, adaptive models, raw bits; knows nothing of updates."""
