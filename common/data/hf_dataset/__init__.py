"""Data sets of the library ``datasets``: ``task.data = "hf-dataset:NAME_OR_PATH"``.

A name of the Hub, a folder (also one of ``save_to_disk``) or a file of parquet, Arrow,
CSV, JSON or text.  The library maps its Arrow files into memory; examples are read and
decoded one batch at a time, and each process opens the same name for itself.  Nothing
of a data set is run: data sets that need a script or a pickle are refused.
"""
