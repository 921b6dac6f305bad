"""Edit scripts, the results of mode ALIGNED, for people."""
