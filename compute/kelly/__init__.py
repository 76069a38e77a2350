"""Growth-optimal stakes: closed forms and their variants, one line of a batch at a time.

Every function is pure, works element by element on float64 arrays of one shape (scalars
broadcast) and can be used inside ``jit``, ``vmap`` and ``grad``. Nothing raises on values: NaN
in a line gives NaN for that line alone; ``compute.signals.check`` says beforehand what is wrong.

Start with ``classic`` (two outcomes), ``continuous`` (mean and volatility) and ``exact`` (a whole
distribution); ``fractional`` and ``confidence`` shrink a stake, ``interval`` says how sure it is.
"""
