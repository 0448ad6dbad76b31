"""The type checker that proves signatures at run time (see `tests/test_shapes.py`): ints pass for floats, as PEP 484 says."""

from beartype import BeartypeConf, beartype

proved = beartype(conf=BeartypeConf(is_pep484_tower=True))
