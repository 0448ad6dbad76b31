"""The evaluation lab: questions with known answers, asked of a collection; figures, comparisons, a report.

What trains a model is in `engine.training`; what serves one never imports this package.
"""
