"""The whole stack on one machine, each part a real one from a package."""
