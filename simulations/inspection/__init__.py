"""`fedprune inspect`: the content of files and run folders."""
