"""The indexing job: a catalogue goes in, a collection and a report come out."""
