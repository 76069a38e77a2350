"""What recorded decisions were worth: growth by stage, forecasts held against what came, fills."""
