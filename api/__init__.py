"""The HTTP rim: parses requests, batches them, calls the engine, answers JSON."""
