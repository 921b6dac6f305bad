"""Output for people and scripts: reports, tables, progress, JSON."""
