"""Roles: the scopes that belong together for somebody's work.

No role may both change limits and size under them, nor both propose and approve them.
"""

_READ, _SIMULATE = "sizing.read", "sizing.simulate"

ROLES: dict[str, frozenset[str]] = {
    "viewer": frozenset({_READ}),
    "engine": frozenset({_READ, _SIMULATE, "sizing.size"}),
    "pm": frozenset({_READ, _SIMULATE, "sizing.size", "sizing.parameters.write"}),
    "oms": frozenset({_READ, "sizing.settle"}),
    "books": frozenset({_READ, "sizing.holdings.write"}),
    "data": frozenset({_READ, "sizing.market.write"}),
    "risk": frozenset(
        {_READ, _SIMULATE, "sizing.parameters.write", "sizing.limits.propose", "sizing.halt"}
    ),
    "ops": frozenset({_READ, "sizing.halt"}),
    "auditor": frozenset({_READ, "sizing.audit.read"}),
    "integrator": frozenset({_READ, "sizing.webhooks.write"}),
    "risk-officer": frozenset({_READ, "sizing.halt", "sizing.resume", "sizing.approve"}),
}
