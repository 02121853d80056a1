"""Entropy coding: rANS, adaptive context models, raw bits; independent of updates."""
