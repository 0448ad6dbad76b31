"""The `semblance` command: arguments in, tables and JSON out."""
