"""How well two cuts of a film are compared: pairs of films with known edits, the metric, and the peers."""
