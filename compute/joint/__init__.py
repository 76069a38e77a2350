"""The joint method: the sizes of a batch decided together, as one convex problem."""
