"""Cases of the benchmark ``faults``: processes of a run on Ray that end in it."""
