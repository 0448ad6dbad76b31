"""The bodies of requests and answers, with the examples the documentation shows: shapes and limits, no behaviour."""
