"""Learning win probabilities and size multipliers from past bets; models are plain numbers.

    rows -> splits (walk-forward, purged) -> logistic -> calibration -> scores against the bars

`training.py` puts it together. `Model.predict` is the only part that a sizing decision runs.
Nothing here looks ahead: what is said of a time changes by nothing that comes later.
"""
