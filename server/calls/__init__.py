"""How calls are received, admitted, refused and answered."""
