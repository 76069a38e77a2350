"""From outcomes and signals to an edge, and how sure of it the data let us be."""
