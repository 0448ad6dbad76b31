"""The engine: text and pictures in, products out. Synchronous and batch-first; no HTTP, no argv."""
