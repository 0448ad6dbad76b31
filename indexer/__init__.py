"""The indexing job: a catalogue goes in, a collection and a report come out.

`indexer.job.index_catalogue` is where it begins; `indexer.sources` lists the formats, `indexer.rows`, `indexer.columns` and
`indexer.values` the rules for rows, columns and cells, `indexer.report` the codes of errors.csv.
"""
