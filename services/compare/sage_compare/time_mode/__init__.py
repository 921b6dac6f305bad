"""Mode TIME: second n of a is compared with second n of b. Pure functions over arrays."""
