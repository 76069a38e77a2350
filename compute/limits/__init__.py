"""Every hard limit: stated, put into numbers, applied, rounded to lots, checked again, explained.

`policy` says what limits there are and how scopes add up, `bounds` puts them into numbers for one
portfolio, `projection` makes room under them, `lots` rounds to whole lots, `guard` checks the
result with nothing but the policy in hand, `bindings` names what cut, `shared` divides what
portfolios share, `breaches` finds books that are beyond a limit by themselves.
"""
