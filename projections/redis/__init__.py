"""The views on Redis. In the projections, only this folder knows Redis."""
