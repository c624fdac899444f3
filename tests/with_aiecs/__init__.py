"""Agents of the real package on our engine: every pattern of the integration guide that its users follow."""
