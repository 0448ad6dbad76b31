"""Vector indexes: immutable segments on disk, the live delta, and the plan that combines them."""
