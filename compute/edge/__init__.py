"""From outcomes and signals to an edge, and how sure of it the data let us be."""

from compute.edge.history import HistoryEdge as HistoryEdge
from compute.edge.history import edge_from_history as edge_from_history
from compute.edge.moments import Moments as Moments
from compute.edge.moments import moments_from_returns as moments_from_returns
from compute.edge.posterior import BetaPosterior as BetaPosterior
from compute.edge.posterior import beta_posterior as beta_posterior
from compute.edge.posterior import posterior_from_estimate as posterior_from_estimate
from compute.edge.posterior import posterior_mean as posterior_mean
from compute.edge.posterior import posterior_standard_error as posterior_standard_error
from compute.edge.posterior import probability_above as probability_above
from compute.edge.scenario import ScenarioEdge as ScenarioEdge
from compute.edge.scenario import edge_from_scenarios as edge_from_scenarios
