"""The proof of an answer: code that shares nothing with the solvers, and that no solver reads.

Of the rest of the package it knows the statement of a problem alone: `problem`, `measures`,
`implied_bounds`, `risk_box`, `linear_program`, `time_limit`. Read `certificate` first.
"""
