"""What makes sizes smaller as time, market or the portfolio's equity move; never larger."""
