"""What sizes would have earned: backtests through the function that sizes live, and their measures.

`backtest.run` decides at each close by `sizing.size`, fills at the next open and keeps the account
in `account.py`. `measures.py` says how it went, `growth_ledger.py` which stage of the waterfall
earned what, `bootstrap.py` and `overfitting.py` how sure one can be, `monte_carlo.py` what may
come.
"""
