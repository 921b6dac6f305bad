"""The engines that compute vectors, and the choice between their models."""
