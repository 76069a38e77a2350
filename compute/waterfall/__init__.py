"""The waterfall: from edges to stakes, through each stage, to whole lots inside every limit."""
