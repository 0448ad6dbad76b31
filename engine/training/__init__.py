"""Training: how the default bundle and a shop's own heads are made. Needs the extra `train`."""
