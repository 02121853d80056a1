"""What `fedprune inspect` says of files and run folders."""
