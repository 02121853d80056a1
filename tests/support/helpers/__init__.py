"""What tests share: tiny federations, processes, scripts."""
