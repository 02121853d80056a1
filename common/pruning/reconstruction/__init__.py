"""Reconstruction: the layers behind a cut take over what the cut channels carried."""
